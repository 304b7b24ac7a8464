"""Count the floating-point operations of the networks' parts, and add them up per frame for each method."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from lib.models.detector import Detector
from lib.models.features import Features
from lib.models.flownet_s import FlowNetS


@dataclass(frozen=True)
class PartFlops:
    """Operations of one frame (of one pair of frames for flow), 2 for each multiply-add, convolutions only.

    features: backbone and feat_conv_3x3. heads: RPN and R-FCN head, without pooling and suppression. flow: FlowNet-S,
    with the scale map where the method has one. embedding: FGFA's. 0 for a part that a method does not have.
    """

    features: int
    heads: int
    flow: int = 0
    embedding: int = 0

    def rfcn(self) -> float:
        """Per frame of R-FCN."""
        return self.features + self.heads

    def dff(self, interval: float, flows: float = 1.0) -> float:
        """Per frame of Deep Feature Flow, over a key frame and `interval` - 1 others of `flows` flows each."""
        return self.heads + (self.features + (interval - 1) * flows * self.flow) / interval

    def fgfa(self, averaged: float) -> float:
        """Per frame of FGFA that averages `averaged` frames, the current one included."""
        return self.features + self.heads + self.embedding + averaged * self.flow


def count_parts(
    features: Features,
    detector: Detector,
    flow_net: FlowNetS | None,
    embed_net: nn.Module | None,
    height: int,
    width: int,
) -> PartFlops:
    """Run each part once on an empty frame of `height` x `width` pixels and count."""
    device = detector.anchors.device
    with torch.no_grad():
        image = torch.zeros(1, 3, height, width, device=device)
        map_size = (-(-height // 16), -(-width // 16))
        maps = torch.zeros(1, features.out_channels, *map_size, device=device)
        half = maps[:, : features.out_channels // 2]
        halves = torch.zeros(1, 3, -(-height // 2), -(-width // 2), device=device)

        def heads() -> None:
            detector.rpn(half)
            detector.head.rfcn_cls(half)
            detector.head.rfcn_bbox(half)

        return PartFlops(
            features=_counted(lambda: features(image)),
            heads=_counted(heads),
            flow=0 if flow_net is None else _counted(lambda: flow_net.between(halves, halves)),
            embedding=0 if embed_net is None else _counted(lambda: embed_net(maps)),
        )


def _counted(run) -> int:
    with FlopCounterMode(display=False) as counter:
        run()
    return counter.get_total_flops()
