"""Losses of one update, with gradients summed over the processes of a run."""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Iterator

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from lib.engine.distributed import Processes


class _Losses(nn.Module):
    """A model whose `forward` computes its losses, as DistributedDataParallel needs it."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, batch: object, rng: np.random.RandomState) -> dict[str, Tensor]:
        return self.model.losses(batch, rng)


class SharedLosses:
    """The losses of `model`, whose gradients are summed over all processes.

    Calling it computes the model's losses. Run forward and backward inside `exchanging`: gradients are accumulated, and
    exchanged in the last batch of an update. With one process it only calls the model.
    """

    def __init__(self, model: nn.Module, processes: Processes) -> None:
        self._model = model
        self._parallel: DistributedDataParallel | None = None
        if processes.size > 1:
            # Unused: Deep Feature Flow leaves its flow network out where all reference frames are the frames
            # themselves. With this, gradients also keep their places in the buckets, so that after a resume they are
            # summed in the same order. The buffers are those of `RunningStatistics`.
            options = inspect.signature(DistributedDataParallel).parameters
            sync = "forward_sync_buffers" if "forward_sync_buffers" in options else "broadcast_buffers"  # before 2.13
            self._parallel = DistributedDataParallel(_Losses(model), find_unused_parameters=True, **{sync: False})
            self._parallel.register_comm_hook(None, _sum_gradients)

    def __call__(self, batch: object, rng: np.random.RandomState) -> dict[str, Tensor]:
        return self._model.losses(batch, rng) if self._parallel is None else self._parallel(batch, rng)

    @contextlib.contextmanager
    def exchanging(self, last_of_update: bool) -> Iterator[None]:
        """Around forward and backward of a batch; gradients are exchanged in the last batch of an update."""
        if self._parallel is None or last_of_update:
            yield
        else:
            with self._parallel.no_sync():
                yield

    def leave(self) -> None:
        """Release the process group, so that destroying it ends its threads. No gradients are exchanged afterwards."""
        self._parallel = None


def _sum_gradients(_state, bucket):
    """The originals sum gradients over GPUs; DistributedDataParallel by itself would average them.

    bucket: a `dist.GradBucket`. Returns a future of the summed buffer. Not annotated, because PyTorch compares the
    annotations with its own types, and they are strings here.
    """
    work = dist.all_reduce(bucket.buffer(), async_op=True)
    return work.get_future().then(lambda future: future.value()[0])


class RunningStatistics:
    """Keeps the running statistics of trained batch norms equal in all processes.

    A single process adds the statistics of an update's batches one after the other. With several processes, each has
    added those of its own batches to the same initial values; `combine` computes what a single process would have.
    """

    def __init__(self, model: nn.Module, processes: Processes, batches_each: int) -> None:
        self._processes, self._batches = processes, batches_each
        norms = [m for m in model.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm) and m.track_running_stats]
        self._norms = norms if processes.size > 1 else []
        self._before: list[Tensor] = []  # in an update: what they were when it began
        self._tracked = [norm.num_batches_tracked for norm in self._norms]

    def note(self) -> None:
        """Before the first batch of an update."""
        self._before = [value.clone() for value in (*self._values(), *self._tracked)]

    def undo(self) -> None:
        """Where an update could not be finished: what they were when it began."""
        for value, before in zip((*self._values(), *self._tracked), self._before, strict=False):
            value.copy_(before)
        self._before = []

    def _values(self) -> list[Tensor]:
        return [value for norm in self._norms for value in (norm.running_mean, norm.running_var)]

    @torch.no_grad()
    def combine(self) -> None:
        """Combine the statistics of all processes; call it after the last batch of an update."""
        if not self._norms:
            return
        after = self._values()
        kept = [(1 - norm.momentum) ** self._batches for norm in self._norms for _ in range(2)]
        before = self._before[: len(after)]
        changes = torch.cat([a - keep * b for a, b, keep in zip(after, before, kept, strict=True)])
        shares = [share.split([len(value) for value in after]) for share in self._processes.gather(changes)]
        for i, value in enumerate(after):
            total = before[i]
            for share in shares:
                total = kept[i] * total + share[i]
            value.copy_(total)
        for tracked in self._tracked:
            tracked += self._batches * (self._processes.size - 1)
        self._before = []
