"""Deep Feature Flow: features of a few key frames, moved to the frames between them (Zhu et al., CVPR 2017)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from lib.config import Config
from lib.models.build import build_detector, build_features, build_flow_net, fix_parameters
from lib.models.detector import Detector
from lib.models.features import Features
from lib.models.flownet_s import FlowNetS
from lib.models.frame_batches import begins_clip, stack_im_info, stack_images
from lib.models.postprocess import PostProcess
from lib.ops import flow_warp
from lib.structures import Detections, Frame, TrainingBatch


@dataclass
class KeyFrame:
    """What is remembered of the latest key frame: all that the frames after it are made from.

    half: (1, 3, H/2, W/2), as the flow network looks at it. features: (1, C, H/16, W/16), as they were computed.
    """

    half: Tensor
    features: Tensor


class DFF(nn.Module):
    """Detects in a key frame's own features, and in any other frame on those of the key frame before it.

    The flow network says where the content of a frame lies in its key frame; the key frame's features are read there
    and multiplied by the scale map. They always come straight from the key frame, not from one frame to the next.
    interval: frames from one key frame to the next, from each video's first frame on (KEY_FRAME_INTERVAL).
    lr_mult: original parameter name -> multiple of the learning rate, as the originals train.
    """

    def __init__(self, features: Features, flow_net: FlowNetS, detector: Detector, interval: int = 10) -> None:
        super().__init__()
        if interval < 1:
            raise ValueError(f"DFF's key frame interval must be at least 1, not {interval}")
        self.features, self.flow_net, self.detector, self.interval = features, flow_net, detector, interval
        self.lr_mult = {"Convolution5_scale_bias": 0.0}

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

    def detect(self, frames: Iterable[Frame], postprocess: PostProcess, batch_images: int = 1) -> Iterator[Detections]:
        """One `Detections` per frame, in order, in original pixels.

        Up to `batch_images` frames, a key frame and those that follow it, go through the networks together; the
        detections are the same, and no more frames are held. A new video or another frame size begins with a key frame.
        """
        key = None
        for batch, begins_with_key in key_frame_batches(frames, self.interval, batch_images):
            key, found = self._detect(batch, None if begins_with_key else key, postprocess)
            yield from found

    @torch.no_grad()
    def _detect(
        self, batch: list[Frame], key: KeyFrame | None, postprocess: PostProcess
    ) -> tuple[KeyFrame, list[Detections]]:
        """Detections of `batch`, whose features come from `key`, or from its own first frame where that is None."""
        images = stack_images(batch, next(self.parameters()).device)  # (B, 3, H, W)
        halves = self.flow_net.halve(images)  # (B, 3, H/2, W/2)
        if key is None:
            key = KeyFrame(halves[:1], self.features(images[:1]).contiguous())
            followers = self.propagate(key, halves[1:])  # (B - 1, C, H/16, W/16)
            features = torch.cat((key.features.to(followers.dtype), followers))  # (B, C, H/16, W/16)
        else:
            features = self.propagate(key, halves)  # (B, C, H/16, W/16)
        return key, [postprocess(raw) for raw in self.detector.predict(features, stack_im_info(batch))]

    def propagate(self, key: KeyFrame, halves: Tensor) -> Tensor:
        """The key frame's features moved to N frames, given as (N, 3, H/2, W/2): (N, C, H/16, W/16). N may be 0."""
        if len(halves) == 0:
            return key.features[:0]
        return flow_warp(key.features, *self.flow_net.between_halves(halves, key.half.expand_as(halves)))


def key_frame_batches(frames: Iterable[Frame], interval: int, most: int) -> Iterator[tuple[list[Frame], bool]]:
    """Consecutive frames that go together, at most `most`, and whether the first is a key frame; none of the others is.

    Key frames are the first of each video, or run of frames of one size, and every `interval`-th from there.
    """
    batch: list[Frame] = []
    begins_with_key, previous = True, None
    position = 0  # of the next frame, counted from its video's first key frame
    for frame in frames:
        if begins_clip(frame, previous):
            if batch:
                yield batch, begins_with_key
            batch, position = [], 0
        if not batch:
            begins_with_key = position % interval == 0
        batch.append(frame)
        previous, position = frame, position + 1
        if len(batch) == most or position % interval == 0:  # at once: nobody waits for a frame that has nothing to add
            yield batch, begins_with_key
            batch = []
    if batch:
        yield batch, begins_with_key


def key_frame_interval(cfg: Config) -> int:
    """Frames from one key frame to the next; the originals' 10 where `cfg` does not say."""
    return cfg.TEST.KEY_FRAME_INTERVAL or 10


def build_dff(cfg: Config, num_classes: int) -> DFF:
    """Deep Feature Flow as `cfg` describes it, with random weights; `num_classes` counts the background."""
    features, flow_net = build_features(cfg), build_flow_net(cfg, scale_channels=cfg.network.FEAT_DIM)
    model = DFF(features, flow_net, build_detector(cfg, num_classes), key_frame_interval(cfg))
    return fix_parameters(model, cfg)
