"""Batches of frame pairs with their flow, for training a flow network."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields, replace
from typing import Protocol

import numpy as np
import torch
from numpy.random import Generator
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from lib.data.workers import samples_of, start_worker
from lib.errors import InputError
from lib.synthetic.flow_pairs import FlowPair, flow_in_cells, things_in_cells, varied


class PairSource(Protocol):
    """Where pairs come from: `pair(number, vary)` makes the same one for the same arguments."""

    def pair(self, number: int, vary: Generator) -> FlowPair: ...


@dataclass
class FlowBatch:
    """images: (B, 2, 3, H, W) uint8 R, G, B, the current frame and the reference frame.

    flow_cells: (B, 2, ceil(H/16), ceil(W/16)) float32: where the content of the current frame's cells lies in the
    reference frame, in feature cells of stride 16. objects: (B, the same) bool: cells that show an object, none where
    that is not known.
    """

    images: Tensor
    flow_cells: Tensor
    objects: Tensor

    def __len__(self) -> int:
        return len(self.images)

    def to(self, device: torch.device | str) -> FlowBatch:
        moved = {name: value.to(device) for name, value in vars(self).items()}
        return replace(self, **moved)


def batch_of(pairs: Sequence[FlowPair]) -> FlowBatch:
    """The pairs, of one size, as a batch."""
    images = np.stack([[pair.current, pair.reference] for pair in pairs])[..., ::-1]  # (B, 2, H, W, 3)
    cells = np.stack([flow_in_cells(pair.flow, pair.layers) for pair in pairs])
    objects = np.stack(
        [
            np.zeros(flow.shape[1:], bool) if pair.layers is None else things_in_cells(pair.layers) > 0
            for pair, flow in zip(pairs, cells, strict=True)
        ]
    )
    images = np.ascontiguousarray(images.transpose(0, 1, 4, 2, 3))  # (B, 2, 3, H, W)
    return FlowBatch(torch.from_numpy(images), torch.from_numpy(cells), torch.from_numpy(objects))


class FlowPairs(Dataset):
    """An endless row of pairs: item `number` comes from one of `sources`, drawn by their shares, and is `varied`.

    It depends on (seed, number) only. Shares need not add up to 1.
    """

    def __init__(self, sources: Sequence[tuple[PairSource, float]], seed: int) -> None:
        self.sources = [source for source, _ in sources]
        self.limits = np.cumsum([share for _, share in sources]) / sum(share for _, share in sources)
        self.seed = seed

    def __getitem__(self, number: int) -> FlowBatch | InputError:
        """A batch of one; what the user has to mend as a value: raised in a worker it would arrive as a traceback."""
        vary = np.random.default_rng([self.seed, number])
        source = self.sources[int(np.searchsorted(self.limits, vary.random(), side="right"))]
        try:
            return batch_of([varied(source.pair(number, vary), vary)])
        except InputError as error:
            return error


class _Numbers:
    """The numbers of each batch from batch `start` of `epoch` to that epoch's end."""

    def __init__(self, batches: int, batch: int) -> None:
        self.batches, self.batch = batches, batch
        self.epoch, self.start = 0, 0

    def __iter__(self) -> Iterator[list[int]]:
        for place in range(self.epoch * self.batches + self.start, (self.epoch + 1) * self.batches):
            yield list(range(place * self.batch, (place + 1) * self.batch))


class FlowLoader:
    """Calling it with (epoch, first batch) gives the rest of that epoch, made by `workers` processes.

    The processes stay from one epoch to the next, with the backgrounds, sprites and clips that they have painted.
    Raises the InputError of the first pair that cannot be made, ReaderError for a process that died.
    """

    def __init__(self, pairs: FlowPairs, batches: int, batch: int, workers: int) -> None:
        self._numbers = _Numbers(batches, batch)
        self._loader = DataLoader(
            pairs,
            batch_sampler=self._numbers,
            num_workers=workers,
            persistent_workers=workers > 0,
            prefetch_factor=8 if workers else None,
            collate_fn=_collate,
            worker_init_fn=start_worker,
            generator=torch.Generator(),  # of its own, so that reading draws nothing from torch's global one
        )

    def __call__(self, epoch: int, start_batch: int = 0) -> Iterator[FlowBatch]:
        self._numbers.epoch, self._numbers.start = epoch, start_batch
        return samples_of(self._loader)


def _collate(items: Sequence[FlowBatch | InputError]) -> FlowBatch | InputError:
    errors = [item for item in items if isinstance(item, InputError)]
    if errors:
        return errors[0]
    return FlowBatch(*(torch.cat([getattr(item, field.name) for item in items]) for field in fields(FlowBatch)))
