"""What is exported of a detector: modules of tensors alone, one frame at a time, with nothing remembered inside.

The features of key frames and the maps of neighbours go in and out as tensors, so that whoever runs the exported files
decides on key frames and windows. Batch normalisation is folded; everything is float32.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from lib.models.detector import Detector
from lib.models.features import Features
from lib.models.flownet_s import FlowNetS
from lib.models.resnet import fold_batch_norms
from lib.models.video_model import VideoModel
from lib.ops import flow_warp


def export_form(model: VideoModel) -> VideoModel:
    """`model` in evaluation mode, without gradients, with its normalisation folded, in place; returns it."""
    fold_batch_norms(model.eval().features.resnet)
    model.to(memory_format=torch.contiguous_format)  # torch.export.save warns of weights in another order
    return model.requires_grad_(False)


class KeyNetwork(nn.Module):
    """Detects in a frame's own features: R-FCN, and the key frames of Deep Feature Flow.

    image (1, 3, H, W), im_info (1, 3) height, width and scale -> features (1, C, H/16, W/16), boxes (1, R, 4) in pixels
    of the original frame, probabilities (1, R, K), column 0 the background.
    """

    def __init__(self, model: VideoModel) -> None:
        super().__init__()
        self.features: Features = model.features
        self.detector: Detector = model.detector

    def forward(self, image: Tensor, im_info: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        features = self.features(image)
        return features, *self.detector.predict(features, im_info)


class NonKeyNetwork(nn.Module):
    """Detects in features that are warped from a key frame (Deep Feature Flow).

    image, key_image (1, 3, H, W); key_features (1, C, H/16, W/16), as `KeyNetwork` gave them; im_info (1, 3) ->
    boxes (1, R, 4), probabilities (1, R, K) of `image`.
    """

    def __init__(self, model: VideoModel) -> None:
        super().__init__()
        self.flow_net: FlowNetS = model.flow_net
        self.detector: Detector = model.detector

    def forward(self, image: Tensor, key_image: Tensor, key_features: Tensor, im_info: Tensor) -> tuple[Tensor, Tensor]:
        features = flow_warp(key_features, *self.flow_net(image, key_image))
        return self.detector.predict(features, im_info)


class MapNetwork(nn.Module):
    """What FGFA warps of a frame: image (1, 3, H, W) -> maps (1, C', H/16, W/16).

    Its features, followed by its embedding unless that is computed after the warp.
    """

    def __init__(self, model: VideoModel, embed_after_warp: bool) -> None:
        super().__init__()
        self.features: Features = model.features
        self.embed_net = None if embed_after_warp else model.embed_net

    def forward(self, image: Tensor) -> Tensor:
        features = self.features(image)
        return features if self.embed_net is None else torch.cat((features, self.embed_net(features)), dim=1)
