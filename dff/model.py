"""Deep Feature Flow: computes features in key frames and warps them to the frames between (Zhu et al., CVPR 2017)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor, nn

from lib.config import Config
from lib.models.build import build_detector, build_features, build_flow_net, fix_parameters
from lib.models.detector import Detector
from lib.models.features import Features
from lib.models.flownet_s import FlowNetS
from lib.models.frame_batches import stack_frames
from lib.models.postprocess import RawDetections
from lib.models.video_model import KnownFlow
from lib.ops import flow_warp
from lib.structures import Frame, Inside, TrainingBatch


@dataclass
class KeyFrame:
    """What is kept of the latest key frame.

    frame: which one it was. half: (1, 3, H/2, W/2), its image as the flow network reads it.
    features: (1, C, H/16, W/16), as they were computed.
    """

    frame: Frame
    half: Tensor
    features: Tensor


class DFF(nn.Module):
    """Detects in a key frame's own features, and in any other frame in those of the key frame before it. A
    `VideoModel`.

    The flow network gives, for each cell of a frame, the place in the key frame that it shows; the key frame's features
    are read there and multiplied by the scale map. They always come straight from the key frame, never from one frame
    to the next.
    interval: frames from one key frame to the next, counted from the first frame of a clip (KEY_FRAME_INTERVAL).
    known_flow: takes the place of the learned flow in testing; the scale map stays the learned one.
    """

    lr_mult = {"Convolution5_scale_bias": 0.0}  # as the originals train

    def __init__(
        self,
        features: Features,
        flow_net: FlowNetS,
        detector: Detector,
        interval: int,
        known_flow: KnownFlow | None = None,
    ) -> None:
        super().__init__()
        if interval < 1:
            raise ValueError(f"DFF's key frame interval must be at least 1, not {interval}")
        self.features, self.flow_net, self.detector = features, flow_net, detector
        self.interval, self.known_flow = interval, known_flow

    def losses(self, batch: TrainingBatch, rng: np.random.RandomState) -> dict[str, Tensor]:
        """Named loss terms and metrics of a batch of (current, reference) pairs; see `Detector.losses`.

        Features are computed of the reference only. Where it is the current frame itself they are taken as they are,
        and nothing of the sample reaches the flow network. Raises ValueError for other than one reference per sample.
        """
        return self.detector.losses(self.training_features(batch), batch, rng)

    def training_features(self, batch: TrainingBatch) -> Tensor:
        """The map (B, C, H/16, W/16) that the losses of `batch` are about."""
        if batch.frames.shape[1] != 2:
            raise ValueError(f"DFF trains on a frame and one reference frame, not {batch.frames.shape[1]} frames")
        currents, references = batch.frames.unbind(dim=1)  # (B, 3, H, W) each
        features = self.features(references)  # (B, C, H/16, W/16)
        moved = torch.nonzero(~batch.same_frame[:, 0])[:, 0].to(features.device)  # (M,)
        if len(moved) == 0:
            return features
        warped = flow_warp(features[moved], *self.flow_net(currents[moved], references[moved]))  # (M, C, H/16, W/16)
        return features.to(warped.dtype).index_copy(0, moved, warped)

    def begin_clip(self, batch_images: int = 1, inside: bool = False) -> DFFClip:
        """See `VideoModel.begin_clip`. Frames are answered at once, or with the batch that they are in."""
        return DFFClip(self, batch_images, inside)

    @torch.no_grad()
    def detect(
        self, frames: Sequence[Frame], key: KeyFrame | None, inside: bool = False
    ) -> tuple[KeyFrame, RawDetections]:
        """Boxes and class probabilities in B frames of one size.

        key: the key frame before them; None: the first of them is a key frame. Returns it with the detections.
        """
        images, im_info = stack_frames(frames, next(self.parameters()).device)  # (B, 3, H, W), (B, 3)
        halves = self.flow_net.halve(images)  # (B, 3, H/2, W/2)
        first = 0
        if key is None:
            key, first = KeyFrame(frames[0].without_image(), halves[:1], self.features(images[:1]).contiguous()), 1
        features = self.propagate(key, frames[first:], halves[first:], inside)  # (B - first, C, H/16, W/16)
        if first:
            features = torch.cat((key.features.to(features.dtype), features))  # (B, C, H/16, W/16)
            if inside:
                frames[0].inside = Inside(key.features[0], references=[])
        return key, RawDetections(frames, *self.detector.predict(features, im_info))

    def propagate(self, key: KeyFrame, frames: Sequence[Frame], halves: Tensor, inside: bool = False) -> Tensor:
        """The key frame's features warped to N frames, given with their halves (N, 3, H/2, W/2): (N, C, H/16, W/16).

        N may be 0. inside: fill in `Frame.inside`.
        """
        if len(halves) == 0:
            return key.features[:0]
        flow, scale = self.flow_net.between_halves(halves, key.half.expand_as(halves))
        if self.known_flow is not None:
            flow = self.known_flow(frames, [key.frame] * len(frames)).to(flow)
        warped = flow_warp(key.features, flow, scale)
        if inside:
            for n, frame in enumerate(frames):
                frame.inside = Inside(warped[n], [key.frame.index], flow[n : n + 1], scale=scale[n])
        return warped


@dataclass
class DFFClip:
    """Deep Feature Flow over one clip (a `ClipDetector`): a key frame and those that follow it go through together."""

    model: DFF
    batch_images: int
    inside: bool = False
    key: KeyFrame | None = None
    begun: int = 0  # frames taken
    waiting: list[Frame] = field(default_factory=list)

    def add(self, frame: Frame) -> list[RawDetections]:
        self.waiting.append(frame)
        self.begun += 1
        # The frame before a key frame completes a batch: it would wait for nothing
        if len(self.waiting) == self.batch_images or self.begun % self.model.interval == 0:
            return self.close()
        return []

    def close(self) -> list[RawDetections]:
        frames, self.waiting = self.waiting, []
        if not frames:
            return []
        begins_with_key = (self.begun - len(frames)) % self.model.interval == 0
        self.key, raw = self.model.detect(frames, None if begins_with_key else self.key, self.inside)
        return [raw]


def key_frame_interval(cfg: Config) -> int:
    """Frames from one key frame to the next; the originals' 10 where `cfg` does not say."""
    return cfg.TEST.KEY_FRAME_INTERVAL or 10


def build_dff(cfg: Config, num_classes: int, known_flow: KnownFlow | None = None) -> DFF:
    """Deep Feature Flow as `cfg` describes it, with random weights; `num_classes` counts the background."""
    features, flow_net = build_features(cfg), build_flow_net(cfg, scale_channels=cfg.network.FEAT_DIM)
    model = DFF(features, flow_net, build_detector(cfg, num_classes), key_frame_interval(cfg), known_flow)
    return fix_parameters(model, cfg)
