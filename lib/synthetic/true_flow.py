"""The generator's true flow between frames of its videos, as a `KnownFlow` for DFF and FGFA.

Zero flow and true flow bound what a flow network can give a method: they separate errors of the flow from errors of the
method.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor

from lib.errors import InputError
from lib.structures import Frame
from lib.synthetic.casting import make_clip
from lib.synthetic.dataset import recorded_plan
from lib.synthetic.flow_pairs import flow_in_cells, things_in_cells
from lib.synthetic.scene import Clip
from lib.synthetic.writer import video_of_stem

SURROUNDINGS = 3.0  # cells around an object that true flow moves with it


class TrueFlowError(InputError):
    """A flow that is unknown; the message says why."""


class TrueFlow:
    """A `KnownFlow` (lib.models.video_model) for the videos of the data set at `dataset_path`.

    The surroundings of an object move as it does (`with_surroundings`). Raises InputError for a data set that
    tools/make_synthetic_vid.py did not make; called with frames, TrueFlowError for a video that is not the generator's
    or frames of another size than it makes.
    """

    def __init__(self, dataset_path: str | Path) -> None:
        self.settings = recorded_plan(Path(dataset_path)).settings
        self._clip: tuple[str, Clip] | None = None  # of the latest video

    def __call__(self, frames: Sequence[Frame], others: Sequence[Frame]) -> Tensor:
        """The flow from each of N `frames` to the frame at the same index of `others`: (N, 2, h, w), in cells."""
        pairs = zip(frames, others, strict=True)
        return torch.from_numpy(np.stack([self._between(frame, other) for frame, other in pairs]))

    def _between(self, frame: Frame, other: Frame) -> np.ndarray:
        clip = self._clip_of(frame)
        found = clip.flow(frame.index, other.index)
        return with_surroundings(flow_in_cells(found.flow, found.layers), things_in_cells(found.layers) > 0)

    def _clip_of(self, frame: Frame) -> Clip:
        if self._clip is not None and self._clip[0] == frame.video:
            return self._clip[1]
        height, width = (int(side) for side in frame.im_info[:2])
        if (height, width) != (self.settings.height, self.settings.width):
            raise TrueFlowError(
                f"--flow true: the network sees {width}x{height} pixels, the generator made {self.settings.width}x"
                f"{self.settings.height}; test at that size (SCALES)"
            )
        try:
            clip = make_clip(self.settings, *video_of_stem(frame.video))
        except ValueError as error:
            raise TrueFlowError(
                f"--flow true: '{frame.video}' is no video of the generator, so its flow is not known"
            ) from error
        self._clip = (frame.video, clip)
        return clip


def with_surroundings(flow: np.ndarray, objects: np.ndarray, reach: float = SURROUNDINGS) -> np.ndarray:
    """`flow` (2, h, w) with the nearest object's flow in all cells up to `reach` cells from it; objects: (h, w) bool.

    The features of an object extend around it as far as their receptive fields. If they were warped along the
    background's flow, the object's border would stay in place and appear twice.
    """
    if not objects.any():
        return flow
    distance, nearest = ndimage.distance_transform_edt(~objects, return_indices=True)
    return np.where(distance <= reach, flow[:, nearest[0], nearest[1]], flow)
