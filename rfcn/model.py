"""R-FCN: detects in every frame on its own (Dai et al., NIPS 2016)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from lib.config import Config
from lib.models.build import build_detector, build_features, fix_parameters
from lib.models.detector import Detector
from lib.models.features import Features
from lib.models.frame_batches import SeparateFrames, stack_frames
from lib.models.postprocess import RawDetections
from lib.structures import Frame, Inside, TrainingBatch


class RFCN(nn.Module):
    """The single-frame detector: features, then the detector that all methods share. A `VideoModel`."""

    flow_net = None
    lr_mult: dict[str, float] = {}

    def __init__(self, features: Features, detector: Detector) -> None:
        super().__init__()
        self.features = features
        self.detector = detector

    def losses(self, batch: TrainingBatch, rng: np.random.RandomState) -> dict[str, Tensor]:
        """Named loss terms and metrics of a batch whose frames are on the model's device; see `Detector.losses`."""
        return self.detector.losses(self.features(batch.images), batch, rng)

    def begin_clip(self, batch_images: int = 1, inside: bool = False) -> SeparateFrames:
        """See `VideoModel.begin_clip`."""
        return SeparateFrames(lambda frames: self.detect(frames, inside), batch_images)

    @torch.no_grad()
    def detect(self, frames: Sequence[Frame], inside: bool = False) -> RawDetections:
        """Boxes and class probabilities in B frames of one size."""
        images, im_info = stack_frames(frames, next(self.parameters()).device)  # (B, 3, H, W), (B, 3)
        features = self.features(images)  # (B, C, H/16, W/16)
        if inside:
            for frame, one in zip(frames, features, strict=True):
                frame.inside = Inside(one, references=[])
        return RawDetections(frames, *self.detector.predict(features, im_info))


def build_rfcn(cfg: Config, num_classes: int) -> RFCN:
    """R-FCN as `cfg` describes it, with random weights; `num_classes` counts the background."""
    return fix_parameters(RFCN(build_features(cfg), build_detector(cfg, num_classes)), cfg)
