"""R-FCN: every frame on its own (Dai et al. 2016)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
import torch
from torch import Tensor, nn

from lib.config import Config
from lib.models.build import build_detector, build_features, fix_parameters
from lib.models.detector import Detector
from lib.models.features import Features
from lib.models.frame_batches import equal_sized, stack_im_info, stack_images
from lib.models.postprocess import PostProcess
from lib.structures import Detections, Frame, TrainingBatch


class RFCN(nn.Module):
    """The single-frame detector: features, then the detector that all methods share."""

    def __init__(self, features: Features, detector: Detector) -> None:
        super().__init__()
        self.features = features
        self.detector = detector

    def losses(self, batch: TrainingBatch, rng: np.random.RandomState) -> dict[str, Tensor]:
        """Named loss terms and metrics of a batch whose frames are on the model's device; see `Detector.losses`."""
        return self.detector.losses(self.features(batch.images), batch, rng)

    def detect(self, frames: Iterable[Frame], postprocess: PostProcess, batch_images: int = 1) -> Iterator[Detections]:
        """One `Detections` per frame, in order, in original pixels.

        Up to `batch_images` consecutive frames of equal size go through the network together; no more are held.
        """
        device = next(self.parameters()).device
        for batch in equal_sized(frames, batch_images):
            # Inside the loop: a generator must not leave gradients switched off in its caller between two frames.
            with torch.no_grad():
                features = self.features(stack_images(batch, device))  # (B, C, H/16, W/16)
                found = [postprocess(raw) for raw in self.detector.predict(features, stack_im_info(batch))]
            yield from found


def build_rfcn(cfg: Config, num_classes: int) -> RFCN:
    """R-FCN as `cfg` describes it, with random weights; `num_classes` counts the background."""
    return fix_parameters(RFCN(build_features(cfg), build_detector(cfg, num_classes)), cfg)
