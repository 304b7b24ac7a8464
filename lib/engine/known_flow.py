"""Zero flow or the synthetic generator's true flow in place of the learned one, in testing.

Between the two lies what a flow network can give a method: they tell a bad flow from a bad method.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor, nn

from lib.errors import InputError
from lib.synthetic.casting import make_clip
from lib.synthetic.dataset import recorded_plan
from lib.synthetic.flow_pairs import STRIDE, flow_in_cells, things_in_cells
from lib.synthetic.writer import video_of_stem

KINDS = ("learned", "zero", "true")
SURROUNDINGS = 3.0  # cells around an object that true flow moves with it
FlowOf = Callable[[int, int], np.ndarray]  # (frame, other frame), from 0 -> (2, H, W) pixels or (2, h, w) cells


class KnownFlowError(InputError):
    """A flow that is asked for and cannot be known; the message says why."""


class KnownFlow(nn.Module):
    """Stands in for the flow network `learned` of DFF or FGFA; where there is a scale map, it stays the learned one.

    `begin(name)` starts a video. Each of its frames then goes once, in order, through `halve`, which notes the frame's
    number in a fourth channel, so that `between_halves` knows which frames it is asked about.
    flow_of: (video name, height, width of the network's input) -> the flow between two of its frames, (2, h, w) cells.
    """

    def __init__(self, learned: nn.Module, flow_of: Callable[[str, int, int], FlowOf]) -> None:
        super().__init__()
        self.learned, self.flow_of = learned, flow_of
        self._name, self._seen = "", 0
        self._between: FlowOf | None = None

    def begin(self, name: str) -> None:
        """The frames that follow are those of video `name`."""
        self._name, self._seen, self._between = name, 0, None

    def halve(self, images: Tensor) -> Tensor:
        """(B, 3, H, W), the video's next frames -> (B, 4, H/2, W/2)."""
        if self._between is None:
            self._between = self.flow_of(self._name, *images.shape[2:])
        halves = self.learned.halve(images)
        numbers = torch.arange(self._seen, self._seen + len(images), device=halves.device, dtype=halves.dtype)
        self._seen += len(images)
        return torch.cat((halves, numbers.view(-1, 1, 1, 1).expand_as(halves[:, :1])), dim=1)

    def between_halves(self, halves: Tensor, other_halves: Tensor) -> tuple[Tensor, Tensor | None]:
        """As `FlowNetS.between_halves`, of frames that went through `halve`."""
        pairs = zip(halves[:, 3, 0, 0].tolist(), other_halves[:, 3, 0, 0].tolist(), strict=True)
        flow = np.stack([self._between(int(frame), int(other)) for frame, other in pairs])
        scale = None
        if self.learned.Convolution5_scale is not None:
            scale = self.learned.between_halves(halves[:, :3], other_halves[:, :3])[1]
        return torch.from_numpy(flow).to(halves), scale  # (B, 2, h, w), (B, C, h, w)


def replace_flow(model: nn.Module, kind: str, dataset_path: str | Path) -> Callable[[str], None]:
    """Let `model` read features along the flow of `kind`, one of KINDS; returns what to call as each video begins.

    "true": `dataset_path` must be a data set that tools/make_synthetic_vid.py made, tested at its own size.
    Raises KnownFlowError.
    """
    if kind == "learned":
        return lambda name: None
    check_flow(model, kind, dataset_path)
    flow_of = zero_flow if kind == "zero" else true_flow(dataset_path)
    model.flow_net = KnownFlow(model.flow_net, flow_of)
    return model.flow_net.begin


def check_flow(model: nn.Module, kind: str, dataset_path: str | Path) -> None:
    """Raise InputError where `replace_flow` would, so that it shows before other work is done."""
    if kind != "learned" and not hasattr(model, "flow_net"):
        raise KnownFlowError(f"--flow {kind}: this method has no flow that could be replaced")
    if kind == "true":
        recorded_plan(Path(dataset_path))


def zero_flow(name: str, height: int, width: int) -> FlowOf:
    """Nothing moves."""
    flow = np.zeros((2, -(-height // STRIDE), -(-width // STRIDE)), np.float32)
    return lambda frame, other: flow


def true_flow(dataset_path: str | Path) -> Callable[[str, int, int], FlowOf]:
    """What the generator knows, with the surroundings of an object moving as it does (`with_surroundings`)."""
    settings = recorded_plan(Path(dataset_path)).settings

    def of_video(name: str, height: int, width: int) -> FlowOf:
        if (height, width) != (settings.height, settings.width):
            raise KnownFlowError(
                f"--flow true: the network sees {width}x{height} pixels, the generator made {settings.width}x"
                f"{settings.height}; test at that size (SCALES)"
            )
        try:
            clip = make_clip(settings, *video_of_stem(name))
        except ValueError as error:
            raise KnownFlowError(
                f"--flow true: '{name}' is no video of the generator, so its flow is not known"
            ) from error

        def between(frame: int, other: int) -> np.ndarray:
            found = clip.flow(frame, other)
            return with_surroundings(flow_in_cells(found.flow, found.layers), things_in_cells(found.layers) > 0)

        return between

    return of_video


def with_surroundings(flow: np.ndarray, objects: np.ndarray, reach: float = SURROUNDINGS) -> np.ndarray:
    """`flow` (2, h, w) with that of the nearest object in the cells up to `reach` cells from one; objects: (h, w) bool.

    What a network says of an object lies around it too, as far as its receptive fields go. Were that read along the
    background's own flow, the object's rim would stay behind, and be seen twice.
    """
    if not objects.any():
        return flow
    distance, nearest = ndimage.distance_transform_edt(~objects, return_indices=True)
    return np.where(distance <= reach, flow[:, nearest[0], nearest[1]], flow)
