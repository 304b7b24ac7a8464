"""The interface of a method's model: typed protocols that the rest of the code relies on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

import numpy as np
from torch import Tensor, nn

from lib.models.detector import Detector
from lib.models.features import Features
from lib.models.flownet_s import FlowNetS
from lib.models.postprocess import RawDetections
from lib.structures import Frame, TrainingBatch


class ClipDetector(Protocol):
    """Detects in the frames of one clip, which have one size and are added one at a time, in order.

    Every frame is answered exactly once, in order. Each method decides how many frames late it answers.
    """

    def add(self, frame: Frame) -> list[RawDetections]:
        """Take the next frame; returns the answers that are ready."""

    def close(self) -> list[RawDetections]:
        """End the clip; returns the remaining answers."""


class VideoModel(Protocol):
    """A method's model: an `nn.Module` with these parts and methods.

    features, detector: the parts that all methods share. flow_net: FlowNet-S, or None for a method without flow.
    lr_mult: original parameter name -> multiple of the learning rate, where it is not 1.
    """

    features: Features
    detector: Detector
    flow_net: FlowNetS | None
    lr_mult: Mapping[str, float]

    def losses(self, batch: TrainingBatch, rng: np.random.RandomState) -> dict[str, Tensor]:
        """Scalars by name: those whose name ends in `_loss` are summed and minimised, the others are metrics.

        batch: its frames are on the model's device. rng: for the random choice of training targets.
        """

    def begin_clip(self, batch_images: int = 1, inside: bool = False) -> ClipDetector:
        """A detector for a new clip, without any state of earlier clips.

        batch_images: the most frames that go through a network together; the detections are the same.
        inside: fill in `Frame.inside` of the answered frames.
        """


class Backbone(Protocol):
    """The attributes of a ResNet (an `nn.Module`) that loading pre-trained weights uses.

    stages: the names of its units, stage by stage. style: "caffe" or "pytorch" (network.STYLE). bn_eps: the epsilon of
    its batch normalisation.
    """

    stages: list[list[str]]
    style: str
    bn_eps: float

    def state_dict(self) -> dict[str, Tensor]:
        """See `nn.Module`."""


class KnownFlow(Protocol):
    """A flow that replaces the learned one in testing: zero flow, or the true flow of generated videos."""

    def __call__(self, frames: Sequence[Frame], others: Sequence[Frame]) -> Tensor:
        """The flow from each of N `frames` to the frame at the same index of `others`: (N, 2, h, w), in cells."""


class ZeroFlow:
    """A `KnownFlow` that is zero everywhere."""

    def __call__(self, frames: Sequence[Frame], others: Sequence[Frame]) -> Tensor:
        height, width = map_size(frames[0])
        return frames[0].im_info.new_zeros(len(frames), 2, height, width)


def map_size(frame: Frame) -> tuple[int, int]:
    """Height and width, in cells of 16 pixels, of the feature map of a frame."""
    height, width = (int(side) for side in frame.im_info[:2])
    return -(-height // 16), -(-width // 16)


def parts_of(model: nn.Module) -> dict[str, nn.Module]:
    """The parts of a model by name: features, detector, flow_net, embed_net, ..."""
    return dict(model.named_children())
