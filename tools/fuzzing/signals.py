"""Scripts that are interrupted, and then started again."""

from __future__ import annotations

import functools
import os
import signal
import time
from collections.abc import Sequence
from pathlib import Path
from random import Random

from tools.fuzzing.attempts import Input, Kind, WrongError
from tools.fuzzing.forks import end_of, in_fork, main_of, text_of
from tools.fuzzing.good_arguments import MAKES, interruptible

_INTERRUPTED = (130, 143, 129, -signal.SIGINT, -signal.SIGTERM, -signal.SIGHUP, -signal.SIGKILL, 141, -signal.SIGPIPE)


def _interrupted(tool: str, arguments: Sequence[str], number: int, delay: float, folder: Path) -> str:
    """A signal after `delay` seconds; then the same command again, which must end well and leave nothing hidden."""
    main = functools.partial(main_of(tool), list(arguments))
    process, output = in_fork(main, folder)
    time.sleep(delay)
    done, status = os.waitpid(process, os.WNOHANG)
    if not done:
        os.killpg(process, number)
        status = os.waitpid(process, 0)[1]
    status, printed = os.waitstatus_to_exitcode(status), text_of(output)
    if status not in (0, *_INTERRUPTED):
        raise WrongError(f"status {status}: {printed[-500:]}")
    if "Traceback (most" in printed:
        raise WrongError(f"a traceback: {printed[-500:]}")
    process, output = in_fork(main, folder)
    status, printed = end_of(process), text_of(output)
    if status != 0:
        raise WrongError(f"the next start ends with status {status}: {printed[-500:]}")
    hidden = [path.name for path in folder.rglob(".*") if path.name != ".lock"]
    if hidden:
        raise WrongError(f"hidden files after the next start: {hidden}")
    return f"interrupted by {signal.Signals(number).name}"


def _signal(tool: str, number: int, delay: float) -> Input:
    run = functools.partial(_interrupted, tool, interruptible()[tool], number, delay)
    files = {"results.txt": b"1 1 0.5 1 1 9 9\n"}
    return Input(f"{tool}, {signal.Signals(number).name} after {delay:.2f} s", run, files, makes=MAKES)


_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGKILL)


def _fixed_signals() -> list[Input]:
    delays = (0.05, 0.3)
    return [_signal(tool, number, delay) for tool in interruptible() for number in _SIGNALS for delay in delays]


def _mutated_signal(rng: Random) -> Input:
    return _signal(rng.choice(list(interruptible())), rng.choice(_SIGNALS), rng.uniform(0, 1.5))


KINDS = (Kind("signal", _fixed_signals, _mutated_signal),)
