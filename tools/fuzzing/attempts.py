"""One hostile input, and how it ended: in a clear error, in a recovery, or in a failure."""

from __future__ import annotations

import hashlib
import os
import re
import signal
import stat
import traceback
import unicodedata
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from fnmatch import fnmatch
from functools import cached_property
from pathlib import Path
from random import Random
from typing import NamedTuple

from lib.errors import InputError

ERROR, RECOVERY, FAILURE = "clear error", "recovery", "failure"
SECONDS = 240  # for one input; a busy machine needs more than a few
_MOST_BYTES = 2 << 30  # of memory for one input
_LONGEST_LINE = 2010  # characters of a message
_CANARY = "executed"  # the file that code in an input makes, if it is run
# A line of a traceback, or an exception's name where a reason should be
_TRACEBACK = re.compile(r"Traceback \(most recent|File \"[^\"]+\", line \d+, in ")


class WrongError(AssertionError):
    """An input was accepted, and what came of it is wrong."""


class Outcome(NamedTuple):
    """kind: ERROR, RECOVERY or FAILURE. text: the message, or what is wrong."""

    kind: str
    text: str = ""


def _nothing_more(folder: Path) -> None:
    pass


@dataclass(frozen=True)
class Input:
    """One hostile input.

    name: in a few words. files: name -> content, written into a fresh folder. run: given that folder, uses the input as
    the project does; it raises InputError where the input is refused, WrongError where it is accepted and the result is
    wrong, and returns otherwise. names: what the message of an error must contain. prepare: makes what `files` cannot
    hold, such as pipes. makes: patterns of the files and folders that a run may make or change.
    """

    name: str
    run: Callable[[Path], object]
    files: Mapping[str, bytes] = field(default_factory=dict)
    names: str = ""
    prepare: Callable[[Path], object] = _nothing_more
    makes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Kind:
    """A kind of hostile input. fixed: those written by hand. mutated: one more for each state of a random generator."""

    name: str
    fixed: Callable[[], list[Input]]
    mutated: Callable[[Random], Input] | None = None

    @cached_property
    def by_hand(self) -> list[Input]:
        return self.fixed()

    def input(self, number: int, seed: int) -> Input | None:
        """Input `number` of this kind, from 0: first the fixed ones, then those of `seed`; None where there is none."""
        if number < len(self.by_hand):
            return self.by_hand[number]
        return self.mutated(Random(f"{self.name} {seed} {number}")) if self.mutated else None


def canary_command(folder: str = ".") -> str:
    """The name of the file that an input asks to be made by running code."""
    return os.path.join(folder, _CANARY)


def attempt(case: Input, folder: Path) -> Outcome:
    """Try `case` in the new folder `folder`, which becomes the working folder."""
    folder.mkdir(parents=True)
    for name, content in case.files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    case.prepare(folder)
    before, kept = _snapshot(folder), os.getcwd()
    os.chdir(folder)
    start = _reset_peak()
    try:
        with _time_limit():
            outcome = _outcome(case, folder)
    finally:
        os.chdir(kept)
    grown = _peak() - start
    if grown > _MOST_BYTES:
        return Outcome(FAILURE, f"took {grown >> 20} MiB of memory")
    return _traces(case, folder, before) or outcome


def _outcome(case: Input, folder: Path) -> Outcome:
    try:
        result = case.run(folder)
    except InputError as error:
        unclear = unclear_message(str(error), case.names)
        return Outcome(FAILURE, f"{unclear}: {error}") if unclear else Outcome(ERROR, str(error))
    except WrongError as error:
        return Outcome(FAILURE, f"wrong: {error}")
    except TimeoutError:
        return Outcome(FAILURE, f"no end after {SECONDS} seconds")
    except (KeyboardInterrupt, SystemExit) as error:
        return Outcome(FAILURE, f"ended with {type(error).__name__} {error}")
    except BaseException as error:  # whatever else it is, a user would see a traceback
        last = traceback.extract_tb(error.__traceback__)[-1]
        place = f"{Path(last.filename).name}:{last.lineno}"
        return Outcome(FAILURE, f"traceback: {type(error).__name__} at {place}: {str(error)[:300]}")
    return Outcome(RECOVERY, str(result or "")[:300])


def unclear_message(message: str, names: str) -> str:
    """What is wrong with an error message; empty where nothing is. names: what its first line must contain."""
    lines = message.split("\n")
    if not message.strip():
        return "an empty message"
    if names not in lines[0]:
        return f"a message that does not name {names!r}"
    if _TRACEBACK.search(message):
        return "a traceback in the message"
    if len(lines) > 40 or max(map(len, lines)) > _LONGEST_LINE:
        return "a message that is too long"
    if any(unicodedata.category(letter) in ("Cc", "Cs") for line in lines for letter in line if letter != "\t"):
        return f"a message that cannot be printed ({message!r})"
    return ""


def _traces(case: Input, folder: Path, before: dict[str, tuple]) -> Outcome | None:
    """A failure where a run left or changed what it must not."""
    if _CANARY in _snapshot(folder):
        return Outcome(FAILURE, "code in the input was executed")
    after = _snapshot(folder)
    for name in sorted(before.keys() | after.keys()):
        if before.get(name) == after.get(name) or _is_made(name, case.makes):
            continue
        what = "removed" if name not in after else "changed" if name in before else "left behind"
        return Outcome(FAILURE, f"{what}: {name}")
    hidden = [name for name in after if Path(name).name.startswith(".") and ".part" in name and name not in before]
    return Outcome(FAILURE, f"left behind: {hidden[0]}") if hidden else None


def _is_made(name: str, patterns: tuple[str, ...]) -> bool:
    """Whether `name`, or a folder that it lies in, fits one of `patterns`."""
    path = Path(name)
    return any(fnmatch(str(place), pattern) for place in (path, *path.parents) for pattern in patterns)


def _snapshot(folder: Path) -> dict[str, tuple]:
    """Name -> (kind, content) of everything below `folder`."""
    found = {}
    for root, folders, files in os.walk(folder):
        for name in (*folders, *files):
            path = os.path.join(root, name)
            status = os.lstat(path)
            content = os.readlink(path) if stat.S_ISLNK(status.st_mode) else ""
            if stat.S_ISREG(status.st_mode):
                with open(path, "rb") as file:
                    content = hashlib.sha256(file.read(1 << 22)).hexdigest() + f" {status.st_size}"
            found[os.path.relpath(path, folder)] = (stat.S_IFMT(status.st_mode), content)
    return found


@contextmanager
def _time_limit() -> Iterator[None]:
    def end(*_: object) -> None:
        raise TimeoutError

    previous = signal.signal(signal.SIGALRM, end)
    signal.alarm(SECONDS)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, previous)


def _reset_peak() -> int:
    """Begin to measure the peak of this process's memory; returns what it has now, in bytes."""
    with suppress(OSError):  # without it the peak is that of the whole process so far
        Path("/proc/self/clear_refs").write_text("5")
    return _memory("VmRSS")


def _peak() -> int:
    return _memory("VmHWM")


def _memory(entry: str) -> int:
    try:
        text = Path("/proc/self/status").read_text()
    except OSError:
        return 0
    found = re.search(rf"^{entry}:\s+(\d+) kB", text, re.MULTILINE)
    return int(found[1]) << 10 if found else 0
