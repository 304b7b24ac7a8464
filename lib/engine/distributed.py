"""The processes of a run: one, or as many as torchrun started, on one machine or several."""

from __future__ import annotations

import contextlib
import importlib
import itertools
import logging
import os
import signal
import sys
import traceback
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from lib.engine.interruption import StopRequest
from lib.errors import InputError

_LOGGER = logging.getLogger(__name__)
# A process that has tested its share waits for the slowest one, and all wait for the one that reads the annotations:
# longer than the 10 minutes of NCCL and the 30 of gloo. torchrun notices a process that died.
_LONGEST_WAIT = timedelta(days=1)
_JOINS = itertools.count()  # how often this process has joined others


class DistributedError(InputError):
    """Processes that cannot work together; the message says why."""


@dataclass(frozen=True)
class Processes:
    """This process among all processes of the run.

    rank: from 0 to size - 1. size: number of processes. local_rank: rank on this machine, which is also the number of
    the process's GPU. restarts: how often torchrun has restarted the run after it lost a process.
    """

    rank: int = 0
    size: int = 1
    local_rank: int = 0
    restarts: int = 0

    @property
    def is_main(self) -> bool:
        """Whether this is the process that logs and writes files."""
        return self.rank == 0

    def gather(self, values: Tensor) -> Tensor:
        """The `values` of every process, of one shape: (...) -> (size, ...)."""
        if self.size == 1:
            return values[None]
        gathered = [torch.empty_like(values) for _ in range(self.size)]
        dist.all_gather(gathered, values.contiguous())
        return torch.stack(gathered)

    def gather_objects(self, value: Any) -> list[Any]:
        """The `value` of every process, by rank."""
        if self.size == 1:
            return [value]
        gathered: list[Any] = [None] * self.size
        dist.all_gather_object(gathered, value)
        return gathered

    def wait_for_all(self) -> None:
        """Return when every process has called this."""
        if self.size > 1:
            dist.barrier()

    @contextlib.contextmanager
    def main_first(self) -> Iterator[None]:
        """Run the block in the main process first, then in the others, which find the files that it has written."""
        if not self.is_main:
            self.wait_for_all()
        yield
        if self.is_main:
            self.wait_for_all()


def processes_from_environment() -> Processes:
    """The processes according to the environment variables of torchrun; a single process without them."""
    if "RANK" not in os.environ or "WORLD_SIZE" not in os.environ:
        return Processes()
    names = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "TORCHELASTIC_RESTART_COUNT")
    return Processes(*(int(os.environ.get(name, "0")) for name in names))


@contextlib.contextmanager
def joined(processes: Processes, device: torch.device) -> Iterator[None]:
    """In the block, the processes can exchange tensors: by NCCL between GPUs, by gloo between CPUs."""
    if processes.size == 1 or dist.is_initialized():
        yield
        return
    if device.type == "cuda":
        # Unlike everything else, this wants the number also where the device is just "cuda"
        torch.cuda.set_device(processes.local_rank if device.index is None else device.index)
    # DistributedDataParallel imports this module, whose functions take the process group of that moment as a default
    # value. If there were one already, its threads would live as long as the module, and a thread that asks for the
    # interpreter while that shuts down ends the process with SIGABRT
    importlib.import_module("torch.distributed.nn.functional")
    # torchrun keeps its store when it restarts the processes, and they may join several times, all as often: without a
    # prefix they would wait for addresses of before
    store, rank, size = next(dist.rendezvous("env://"))
    store = dist.PrefixStore(f"restart_{processes.restarts}/join_{next(_JOINS)}", store)
    backend = "nccl" if device.type == "cuda" else "gloo"
    dist.init_process_group(backend, store=store, rank=rank, world_size=size, timeout=_LONGEST_WAIT)
    store.set_timeout(_LONGEST_WAIT)  # NCCL's processes meet in it when they first exchange something
    try:
        with loss_of_a_process(processes):
            yield
    finally:
        # After an error the other processes wait in a collective; torchrun ends them, so do not wait here. When one was
        # lost, torchrun sends SIGTERM to this one too, which first has to print what happened to it
        with StopRequest() as request:
            _clear_frames(sys.exc_info()[1])
            dist.destroy_process_group()
        if request.signal_number is not None and sys.exc_info()[0] is None:
            signal.raise_signal(request.signal_number)


def _clear_frames(error: BaseException | None) -> None:
    """Clear the local variables in the tracebacks of `error` and its causes: they may hold the process group."""
    seen = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        traceback.clear_frames(error.__traceback__)
        error = error.__cause__ or error.__context__


@contextlib.contextmanager
def loss_of_a_process(processes: Processes) -> Iterator[None]:
    """Turn the errors that the exchange with a lost process gives inside the block into a DistributedError."""
    try:
        yield
    except RuntimeError as error:
        if not isinstance(error, dist.DistError) and "gloo" not in str(error):
            raise
        raise DistributedError(
            f"process {processes.rank} of {processes.size} has lost the connection to another one, which died or ended "
            "with an error: torchrun says which one. What was saved is kept; the same command goes on from there, a "
            "training with TRAIN.RESUME=true"
        ) from error


def batches_of_process(processes: Processes, batches_per_update: int) -> int:
    """Batches of an update that each process computes. Raises DistributedError where they cannot be shared equally."""
    each, rest = divmod(batches_per_update, processes.size)
    if rest:
        raise DistributedError(
            f"TRAIN.BATCHES_PER_UPDATE {batches_per_update} cannot be shared equally among {processes.size} processes; "
            f"start {' or '.join(map(str, _divisors(batches_per_update)))} of them, or change the key"
        )
    return each


def _divisors(number: int) -> list[int]:
    return [d for d in range(1, number + 1) if number % d == 0][:8]
