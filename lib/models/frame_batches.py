"""Batches of frames, and the `ClipDetector` of single-frame methods."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from lib.models.postprocess import RawDetections
from lib.structures import Frame


@dataclass
class SeparateFrames:
    """A `ClipDetector` (lib.models.video_model) for a method that processes each frame independently.

    detect: frames of one size -> their detections. batch_images: the most frames per call.
    """

    detect: Callable[[Sequence[Frame]], RawDetections]
    batch_images: int
    waiting: list[Frame] = field(default_factory=list)

    def add(self, frame: Frame) -> list[RawDetections]:
        self.waiting.append(frame)
        return self.close() if len(self.waiting) == self.batch_images else []

    def close(self) -> list[RawDetections]:
        frames, self.waiting = self.waiting, []
        return [self.detect(frames)] if frames else []


def stack_frames(frames: Sequence[Frame], device: torch.device) -> tuple[Tensor, Tensor]:
    """The images (B, 3, H, W) and the im_info (B, 3) of frames of one size, on `device`."""
    return stack_images(frames, device), stack_im_info(frames, device)


def stack_images(frames: Sequence[Frame], device: torch.device) -> Tensor:
    """The images (B, 3, H, W) of frames of one size, on `device`.

    On the CPU the image of a single frame is the frame's own memory. A GPU fetches each image into its place in the
    batch, for which nothing waits if the images are pinned (`Preprocessing.pin`); the CPU copies nothing.
    """
    images = [frame.image for frame in frames]
    if device.type == "cpu":
        return images[0][None] if len(images) == 1 else torch.stack(images)
    batch = torch.empty(len(images), *images[0].shape, dtype=images[0].dtype, device=device)
    for place, image in zip(batch, images, strict=True):
        place.copy_(image, non_blocking=True)
    return batch


def stack_im_info(frames: Sequence[Frame], device: torch.device) -> Tensor:
    """The im_info (B, 3) of frames, on `device`."""
    return torch.stack([frame.im_info for frame in frames]).to(device, non_blocking=True)
