"""Cutting a stream of frames into pieces that can go through a network together, without reading ahead."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import torch
from torch import Tensor

from lib.structures import Frame


def equal_sized(frames: Iterable[Frame], most: int) -> Iterator[list[Frame]]:
    """Consecutive frames of equal size, at most `most` at a time."""
    batch: list[Frame] = []
    for frame in frames:
        if batch and frame.image.shape != batch[0].image.shape:
            yield batch
            batch = []
        batch.append(frame)
        if len(batch) == most:  # at once: a camera's frame is not kept waiting for the next one
            yield batch
            batch = []
    if batch:
        yield batch


def begins_clip(frame: Frame, previous: Frame | None) -> bool:
    """Whether `frame` has nothing to do with the one before it: another video, or one of another size."""
    return previous is None or frame.first or frame.image.shape != previous.image.shape


def stack_images(batch: list[Frame], device: torch.device) -> Tensor:
    """(B, 3, H, W) on `device`."""
    return torch.stack([frame.image for frame in batch]).to(device)


def stack_im_info(batch: list[Frame]) -> Tensor:
    """(B, 3) on the CPU."""
    return torch.stack([frame.im_info for frame in batch])
