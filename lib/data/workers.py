"""Reader processes of training samples: they ignore signals, and the death of one is reported as one clear error."""

from __future__ import annotations

import atexit
import contextlib
import signal
import sys
import threading
import weakref
from collections.abc import Iterator, Sequence
from multiprocessing import connection
from multiprocessing.process import BaseProcess
from types import TracebackType
from typing import Any, NoReturn

import cv2
from torch.utils.data import DataLoader

from lib.errors import InputError

# Ctrl-C, a scheduler and a closed terminal signal the whole process group. The training finishes its update, may still
# wait for a batch, and ends its workers; where it dies without doing so, DataLoader's watchdog ends them.
_GROUP_SIGNALS = {getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)}

_started: weakref.WeakSet[BaseProcess] = weakref.WeakSet()
_waited_for: list[BaseProcess] = []  # the workers, while this process waits for a sample


class ReaderError(InputError):
    """A process that read training samples has died; the message says how, and what to do."""


class _DeathError(Exception):
    """A worker has died."""


def start_worker(worker: int) -> None:
    """The `worker_init_fn` of a DataLoader whose samples `samples_of` reads."""
    cv2.setNumThreads(0)  # OpenCV would start a thread per core in each of the processes
    sys.excepthook = _report
    for number in _GROUP_SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _GROUP_SIGNALS)  # see `_starting_workers`


def _report(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """The excepthook of a worker. Its thread that hands over samples reports a training that ends in the middle of one,
    which says itself why it ends.
    """
    if not issubclass(kind, (OSError, EOFError)):
        sys.__excepthook__(kind, error, trace)


def samples_of(loader: DataLoader) -> Iterator[Any]:
    """What `loader` yields, in order.

    An InputError among it is raised: raised in a worker, it would arrive wrapped in a traceback. Raises ReaderError for
    a worker that died, but only when a sample is asked for.
    """
    samples = _begin(loader)
    workers: list[BaseProcess] = list(getattr(samples, "_workers", ()))
    _started.update(workers)
    while True:
        try:
            sample = _next(samples, workers)
        except StopIteration:
            return
        except Exception as error:  # DataLoader meets the death of a worker as errors of several kinds
            _raise_death(workers, error)
        if isinstance(sample, InputError):
            raise sample
        yield sample


def _begin(loader: DataLoader) -> Iterator[Any]:
    """The iterator of `loader`. Workers that persist are told of a new epoch, and must answer. Raises ReaderError."""
    persistent = getattr(loader._iterator, "_workers", ())
    try:
        if any(worker.exitcode for worker in persistent):
            raise _DeathError
        with _starting_workers():
            return iter(loader)
    except Exception as error:
        _raise_death(persistent, error)


def _raise_death(workers: Sequence[BaseProcess], error: Exception) -> NoReturn:
    """Raise `error` as the death of the worker that it comes from, or as it is where none died."""
    died = _died(workers, error)
    if died is None:
        raise error
    raise ReaderError(
        f"process {died.pid}, which read training samples, died ({_cause(died.exitcode)}); where memory ran out, lower "
        "TRAIN.WORKERS or TRAIN.BATCH_IMAGES"
    ) from error


def _next(samples: Iterator[Any], workers: list[BaseProcess]) -> Any:
    _waited_for[:] = workers  # before looking: one may die in between
    try:
        if any(worker.exitcode for worker in workers):
            raise _DeathError
        return next(samples)
    finally:
        _waited_for.clear()


def _on_death(number: int, _frame) -> None:
    """The handler of SIGCHLD. DataLoader's own raises its error wherever this process happens to be: in the middle of
    an update, or of a checkpoint. Without any, half a message of a killed worker would be waited for without end.
    """
    if any(worker.exitcode for worker in _waited_for):
        _waited_for.clear()
        raise _DeathError


def _died(workers: Sequence[BaseProcess], error: Exception) -> BaseProcess | None:
    """The worker whose death `error` comes from; None where there is none."""
    if isinstance(error, (OSError, EOFError)):  # its connections end before it does, and before it can be waited for
        alive = {worker.sentinel: worker for worker in workers if worker.is_alive()}
        for sentinel in connection.wait(list(alive), timeout=5):
            alive[sentinel].join(5)
    return next((worker for worker in workers if worker.exitcode), None)


def _cause(exit_code: int) -> str:
    return signal.Signals(-exit_code).name if exit_code < 0 else f"exit status {exit_code}"


@contextlib.contextmanager
def _starting_workers() -> Iterator[None]:
    """Keep signals from workers that do not ignore them yet, and put `_on_death` in the place of DataLoader's."""
    blocks = hasattr(signal, "pthread_sigmask")
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _GROUP_SIGNALS) if blocks else None
    try:
        yield
    finally:
        if hasattr(signal, "SIGCHLD") and threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGCHLD, _on_death)
        if before is not None:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)


@atexit.register
def _end_workers() -> None:
    """Kill what a loader has left, as after an error: multiprocessing would send SIGTERM and wait for ever."""
    for worker in list(_started):
        worker.kill()
