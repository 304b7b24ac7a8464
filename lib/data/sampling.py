"""The order in which an epoch visits its entries, and the choice of reference frames (docs/rules.md, section 3).

A rule for reference frames is a function `choose_references(frame, length, rng) -> list[int]`: for frame `frame`
(0-based) of a video of `length` frames, the 0-based frames that go with it. A still image is a video of one frame, so
every reference of a still is the still itself.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

import numpy as np

from lib.config import Config

_log = logging.getLogger(__name__)

ChooseReferences = Callable[[int, int, np.random.RandomState], list[int]]


def no_references(frame: int, length: int, rng: np.random.RandomState) -> list[int]:
    """R-FCN: no reference frames."""
    return []


def one_reference(
    frame: int, length: int, rng: np.random.RandomState, min_offset: int = -9, max_offset: int = 0
) -> list[int]:
    """Deep Feature Flow: one frame at an offset from `min_offset` to `max_offset`, clamped to the video."""
    return [_inside(frame + rng.randint(min_offset, max_offset + 1), length)]


def two_references(
    frame: int, length: int, rng: np.random.RandomState, min_offset: int = -9, max_offset: int = 9
) -> list[int]:
    """FGFA: two frames at different offsets; clamped to the video they may still coincide, or be `frame` itself."""
    offsets = rng.choice(max_offset - min_offset + 1, 2, replace=False) + min_offset
    return [_inside(frame + offset, length) for offset in offsets]


def _inside(frame: int, length: int) -> int:
    return int(min(max(frame, 0), length - 1))


def training_offsets(cfg: Config, reach: tuple[int, int]) -> tuple[int, int]:
    """Smallest and largest offset of the reference frames, in frames; negative: before the current frame.

    reach: the offsets that the method uses in testing, which are the default. TRAIN.MIN_OFFSET and MAX_OFFSET replace
    them if they are not both 0, with a warning if they exceed them.
    """
    offsets = (cfg.TRAIN.MIN_OFFSET, cfg.TRAIN.MAX_OFFSET)
    if offsets == (0, 0):
        return reach
    if offsets[0] < reach[0] or offsets[1] > reach[1]:
        _log.warning(
            "reference frames are drawn from offsets %d to %d, but in testing they are %d to %d away: "
            "change TRAIN.MIN_OFFSET and MAX_OFFSET together with TEST.KEY_FRAME_INTERVAL, or leave them out",
            *offsets,
            *reach,
        )
    return offsets


def epoch_order(
    widths: np.ndarray,
    heights: np.ndarray,
    batch: int,
    rng: np.random.RandomState,
    shuffle: bool = True,
    aspect_grouping: bool = True,
) -> np.ndarray:
    """The order in which one epoch visits n entries: a permutation of range(n), int64.

    widths, heights: (n,) sizes of the images. batch: entries of one update on all devices together. With grouping,
    landscape and portrait images are permuted apart, so that few batches mix them, and then whole batches are shuffled.
    The caller leaves out the last `n % batch` entries, as the originals do.
    """
    n = len(widths)
    if not shuffle:
        return np.arange(n)
    if not aspect_grouping:
        return rng.permutation(n)
    landscape = np.asarray(widths) >= np.asarray(heights)
    order = np.hstack((rng.permutation(np.flatnonzero(landscape)), rng.permutation(np.flatnonzero(~landscape))))
    tail = n % batch
    if tail:
        # Without a tail the originals' slice `[:-0]` is empty: the batches then stay as they are, all landscape ones
        # first. That is always so for a batch of one.
        rows = order[:-tail].reshape(-1, batch)
        order[:-tail] = rows[rng.permutation(len(rows))].reshape(-1)
    return order
