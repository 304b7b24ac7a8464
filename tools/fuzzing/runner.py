"""Try many inputs in a process that may crash or hang without harm, and keep those that fail."""

from __future__ import annotations

import contextlib
import itertools
import json
import select
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

from lib.command_line import child_environment
from tools.fuzzing.attempts import FAILURE, SECONDS, Outcome
from tools.fuzzing.kinds import KINDS

ROOT = Path(__file__).resolve().parents[2]
_GRACE = 180  # seconds more than an input has by itself: a process takes long to start on a busy machine


@dataclass
class Tally:
    """What came of the inputs of one kind. failures: (number, name, what failed)."""

    kind: str
    outcomes: dict[str, int] = field(default_factory=dict)
    failures: list[tuple[int, str, str]] = field(default_factory=list)

    @property
    def inputs(self) -> int:
        return sum(self.outcomes.values())


class Worker:
    """A process that tries inputs of one kind; use it in a `with` statement."""

    def __init__(self, kind: str, seed: int) -> None:
        self.kind, self.seed = kind, seed
        self._process: subprocess.Popen | None = None
        self._scratch = tempfile.TemporaryDirectory(prefix="fuzz-")

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, *_: object) -> None:
        self._end()
        self._scratch.cleanup()

    def attempt(self, number: int) -> tuple[Outcome, str] | None:
        """The outcome of input `number` and its name; None where the kind has no such input."""
        if self._process is None:
            self._start()
        try:
            self._process.stdin.write(f"{number}\n")
            self._process.stdin.flush()
            answer = self._answer()
        except BrokenPipeError:
            answer = ""
        if answer:
            content = json.loads(answer)
            return content and (Outcome(*content[:2]), content[2])
        status = self._end()
        what = "no end, not even by the alarm" if status is None else f"the process ended with status {status}"
        return Outcome(FAILURE, what), f"number {number}"

    def _start(self) -> None:
        command = [sys.executable, "-m", "tools.fuzzing.worker", self.kind, str(self.seed), self._scratch.name]
        environment = child_environment(OMP_NUM_THREADS="1", PYTHONFAULTHANDLER="")
        self._process = subprocess.Popen(
            command, cwd=ROOT, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def _answer(self) -> str:
        """The next line; empty where there is none."""
        ready, _, _ = select.select([self._process.stdout], [], [], SECONDS + _GRACE)
        return self._process.stdout.readline() if ready else ""

    def _end(self) -> int | None:
        """End the process; returns the status it had by itself, None where it was still going."""
        process, self._process = self._process, None
        if process is None:
            return None
        with contextlib.suppress(BrokenPipeError):
            process.stdin.close()
        try:
            status = process.wait(5)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            status = None
        process.stdout.close()
        return status


def run(
    kind: str, seed: int, numbers: Iterable[int], tally: Tally, going_on: Callable[[], bool] = lambda: True
) -> bool:
    """Try the inputs `numbers` of `kind` while `going_on`; returns whether the kind has more of them."""
    with Worker(kind, seed) as worker:
        for number in numbers:
            if not going_on():
                return True
            answer = worker.attempt(number)
            if answer is None:
                return False
            outcome, name = answer
            tally.outcomes[outcome.kind] = tally.outcomes.get(outcome.kind, 0) + 1
            if outcome.kind == FAILURE:
                tally.failures.append((number, name, outcome.text))
    return True


def keep(kind: str, seed: int, number: int, folder: Path) -> Path:
    """Write the files of an input to a new folder below `folder`, and return it."""
    target = folder / f"{kind}_{seed}_{number}"
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir(parents=True)
    case = KINDS[kind].input(number, seed)
    for name, content in case.files.items():
        path = target / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return target


def fixed_count(kind: str) -> int:
    """How many inputs of `kind` are written by hand."""
    return len(KINDS[kind].fixed())


def in_rounds(size: int) -> Iterable[range]:
    """0..size-1, size..2*size-1 and so on, without end."""
    return (range(begin, begin + size) for begin in itertools.count(0, size))
