"""Scripts in forks of this process, and what their ends mean."""

from __future__ import annotations

import functools
import importlib
import os
import signal
import sys
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path

from lib.command_line import run_script
from lib.errors import InputError
from tools.fuzzing.attempts import WrongError

SECONDS = 200  # the longest that a script may take


class Refused(InputError):
    """A script that ended with status 2; the message is its last line."""


def judged(status: int, printed: str) -> str:
    """What a script's end is. Raises Refused for a clear error, WrongError for anything else than a good end."""
    lines = [line for line in printed.replace("\r", "\n").split("\n") if line.strip()]
    if "Traceback (most recent call last)" in printed:
        raise WrongError(f"a traceback: {' | '.join(lines[-4:])}")
    if status == 2:
        last = next((line for line in lines[::-1] if "error: " in line), lines[-1] if lines else "")
        if "error: " not in last:
            raise WrongError(f"status 2, and no error: {last!r}")
        raise Refused(last)
    if status not in (0, 1):
        raise WrongError(f"status {status}: {' | '.join(lines[-2:])}")
    return f"status {status}"


def in_fork(main: Callable[[], object], folder: Path, before: Callable[[], object] = lambda: None) -> tuple[int, Path]:
    """Start `main` as a script in a fork of this process, which has imported all; returns its id and what it prints.

    The fork leads a process group of its own. Returns when `main` begins: on a busy machine a fork may take long to be
    ready for a signal.
    """
    output = folder.parent / f"{folder.name}.printed"
    begins, beginning = os.pipe()
    process = os.fork()
    if process:
        os.close(beginning)
        os.read(begins, 1)  # nothing where the fork has ended before
        os.close(begins)
        return process, output
    status = 1
    try:
        os.setsid()
        file = os.open(output, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o600)
        os.dup2(file, 1)
        os.dup2(file, 2)
        sys.stdout = os.fdopen(1, "w", closefd=False)
        sys.stderr = os.fdopen(2, "w", closefd=False, buffering=1, errors="backslashreplace")
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.alarm(SECONDS)
        for number in (signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        before()
        run_script(lambda: (os.close(beginning), main())[1])
    except SystemExit as end:
        status = _flushed(end.code if isinstance(end.code, int) else 0 if end.code is None else 1)
    except BaseException:  # a script's traceback, as Python would print it
        traceback.print_exc()
        status = _flushed(1)
    finally:
        os._exit(status)


def _flushed(status: int) -> int:
    """`status`, or what Python ends with where its output cannot be flushed."""
    for stream in (sys.stdout, sys.stderr):
        try:
            if stream is not None:
                stream.flush()
        except (OSError, ValueError):
            status = status or 120
    return status


def end_of(process: int) -> int:
    """The exit status of a fork, negative for a signal."""
    return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])


def text_of(path: Path) -> str:
    """What a fork printed; its file is removed."""
    text = path.read_text(encoding="utf-8", errors="backslashreplace") if path.exists() else ""
    path.unlink(missing_ok=True)
    return text


def call(tool: str, arguments: Sequence[str], folder: Path) -> str:
    """Run a script in a fork. Raises Refused and WrongError."""
    main = functools.partial(main_of(tool), list(arguments))
    process, output = in_fork(main, folder)
    status = end_of(process)
    return judged(status, text_of(output))


def main_of(tool: str) -> Callable:
    """The `main` of a script, named as a module."""
    return importlib.import_module(tool).main
