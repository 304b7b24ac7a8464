"""The objects that are passed between the parts: a frame, a training batch, detections, ground truth.

Coordinates follow the conventions written in `lib.boxes`: `(x1, y1, x2, y2)`, 0-based pixels, inclusive corners.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor


@dataclass
class Inside:
    """Intermediate results of a model for one frame; a cell is 16 network-input pixels.

    features: (C, h, w), the input of the detector. references: the `index` of each frame whose features were warped to
    this one. flow: (n, 2, h, w) in cells, from this frame to each reference, or None. weights: (n, h, w), the weight of
    each reference in the average, summing to 1 over n (FGFA), or None. scale: (C, h, w), Deep Feature Flow's scale map,
    or None.
    """

    features: Tensor
    references: list[int]
    flow: Tensor | None = None
    weights: Tensor | None = None
    scale: Tensor | None = None


@dataclass
class Frame:
    """One video frame as a network reads it.

    image: (3, H, W) float32, RGB order, (colour - PIXEL_MEANS) / PIXEL_STDS, in network-input pixels.
    scale: network-input pixels per pixel of the original frame.
    frame_id: number written into the results, 1-based and cumulative over the image set (docs/rules.md, section 4).
    first: whether a new video begins with this frame.
    index: number of the frame in its video, from 0. name: its file's name, or its number with six digits.
    video: name of its video in a data set. seconds: its time in the video, None if unknown (images).
    pixels: (H0, W0, 3) uint8, the original frame in B, G, R order, if the source keeps it.
    inside: see `Inside`; None unless requested. key_frame: in Deep Feature Flow, whether the frame's features were
    computed instead of warped from another frame; None in other methods.
    """

    image: Tensor
    scale: float
    frame_id: int = 1
    first: bool = False
    index: int = 0
    name: str = ""
    video: str = ""
    seconds: float | None = None
    pixels: np.ndarray | None = None
    inside: Inside | None = None
    key_frame: bool | None = None
    im_info: Tensor | None = None

    def __post_init__(self) -> None:
        """Set im_info, (3,) float32 on the CPU: height and width of `image`, and `scale`."""
        if self.im_info is None:
            self.im_info = torch.tensor([*self.image.shape[1:], self.scale], dtype=torch.float32)

    def without_image(self) -> Frame:
        """The same frame with an empty `image`, for code that only needs to identify the frame."""
        return replace(self, image=self.image.new_empty(3, 0, 0))


@dataclass
class TrainingBatch:
    """B training samples of T frames each, zero-padded at the right and bottom to a common size.

    frames: (B, T, 3, H, W) float32; frame 0 is the one whose boxes are given, the others are its reference frames.
    im_info: (B, 3) float32, on the CPU: height, width (without padding) and scale of each sample.
    boxes: B tensors (n_i, 4) float32, on the CPU, network-input pixels.
    labels: B tensors (n_i,) int64, on the CPU, classes from 1 (0 is the background).
    same_frame: (B, T - 1) bool, on the CPU: the reference is the current frame itself (docs/rules.md,
    section 1).
    """

    frames: Tensor
    im_info: Tensor
    boxes: list[Tensor]
    labels: list[Tensor]
    same_frame: Tensor

    @property
    def images(self) -> Tensor:
        """(B, 3, H, W): the frames whose boxes are given."""
        return self.frames[:, 0]

    def __len__(self) -> int:
        return len(self.boxes)

    def pin_memory(self) -> TrainingBatch:
        """The same batch with its pixels in pinned memory, which is copied to a GPU asynchronously."""
        return replace(self, frames=self.frames.pin_memory())

    def to(self, device: torch.device | str) -> TrainingBatch:
        """The same batch with its pixels on `device`; the box tensors stay on the CPU, where targets are assigned."""
        return replace(self, frames=self.frames.to(device, non_blocking=True))


class Detection(NamedTuple):
    """One box: its label, from 1, its score and (x1, y1, x2, y2) in pixels of the original frame."""

    label: int
    score: float
    box: tuple[float, float, float, float]


@dataclass
class Detections:
    """The detections in one frame: equal-length fields, one row per box.

    boxes: (n, 4) float32 in pixels of the ORIGINAL frame. scores: (n,) float32. labels: (n,) int64, from 1.
    """

    boxes: Tensor
    scores: Tensor
    labels: Tensor

    def __post_init__(self) -> None:
        n = len(self.boxes)
        if self.boxes.shape != (n, 4) or self.scores.shape != (n,) or self.labels.shape != (n,):
            raise ValueError(
                "Detections wants boxes (n, 4), scores (n,) and labels (n,), "
                f"not {tuple(self.boxes.shape)}, {tuple(self.scores.shape)} and {tuple(self.labels.shape)}"
            )

    def __len__(self) -> int:
        return len(self.boxes)

    def __getitem__(self, rows) -> Detections:
        """The rows that `rows` (a mask, an index tensor or a slice) selects."""
        return Detections(self.boxes[rows], self.scores[rows], self.labels[rows])

    def __iter__(self) -> Iterator[Detection]:
        """Yield one `Detection` per row."""
        for label, score, box in zip(self.labels.tolist(), self.scores.tolist(), self.boxes.tolist(), strict=True):
            yield Detection(label, score, tuple(box))

    def to(self, device: torch.device | str) -> Detections:
        return Detections(self.boxes.to(device), self.scores.to(device), self.labels.to(device))

    @staticmethod
    def cat(parts: Sequence[Detections]) -> Detections:
        """All rows of `parts`, in order; without parts no rows."""
        if not parts:
            return Detections(torch.zeros(0, 4), torch.zeros(0), torch.zeros(0, dtype=torch.int64))
        return Detections(
            torch.cat([p.boxes for p in parts]),
            torch.cat([p.scores for p in parts]),
            torch.cat([p.labels for p in parts]),
        )


@dataclass
class GroundTruth:
    """Annotated objects of an image set, column by column; frame `f` of F has frame id `f + 1`.

    class_names: the foreground classes in label order (label 1 first).
    videos: (F,) int64, index of each frame's video (frames of a still-image set are videos of one frame).
    offsets: (F + 1,) int64; the objects of frame f are rows `offsets[f]:offsets[f + 1]`.
    boxes: (G, 4) float64, original pixels. labels: (G,) int64 from 1. track_ids: (G,) int64, -1 where unknown.
    """

    class_names: list[str]
    videos: np.ndarray
    offsets: np.ndarray
    boxes: np.ndarray
    labels: np.ndarray
    track_ids: np.ndarray

    @property
    def num_frames(self) -> int:
        return len(self.offsets) - 1

    def frame_of_object(self) -> np.ndarray:
        """(G,) int64: the frame index of every object."""
        return np.repeat(np.arange(self.num_frames), np.diff(self.offsets))

    def first_frames(self, count: int) -> GroundTruth:
        """The ground truth of frames 0 to `count` - 1 alone."""
        objects = slice(0, int(self.offsets[count]))
        return replace(
            self,
            videos=self.videos[:count],
            offsets=self.offsets[: count + 1],
            boxes=self.boxes[objects],
            labels=self.labels[objects],
            track_ids=self.track_ids[objects],
        )
