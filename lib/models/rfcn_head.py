"""The R-FCN head (Dai et al. 2016): position-sensitive maps, pooled per RoI, averaged (docs/rules.md, section 1)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from lib.ops import psroi_pool, psroi_vote


class RFCNHead(nn.Module):
    """(features (B, in_channels, h, w), rois (R, 5)) -> class scores (R, K) before softmax, box deltas (R, 8).

    rois: image index and x1, y1, x2, y2 in network-input pixels. K counts the background (class 0). Boxes are
    class-agnostic: deltas 0..3 belong to the background and are not used, 4..7 are the foreground box's.
    """

    def __init__(self, in_channels: int, num_classes: int, pooled_size: int = 7, stride: int = 16) -> None:
        super().__init__()
        self.num_classes, self.pooled_size, self.stride = num_classes, pooled_size, stride
        bins = pooled_size * pooled_size
        self.rfcn_cls = nn.Conv2d(in_channels, bins * num_classes, 1)
        self.rfcn_bbox = nn.Conv2d(in_channels, bins * 8, 1)
        for conv in (self.rfcn_cls, self.rfcn_bbox):
            nn.init.normal_(conv.weight, std=0.01)
            nn.init.zeros_(conv.bias)

    def forward(self, features: Tensor, rois: Tensor) -> tuple[Tensor, Tensor]:
        class_maps = self.rfcn_cls(features).to(rois.dtype)  # (B, 49K, h, w); pooling is not in reduced precision
        box_maps = self.rfcn_bbox(features).to(rois.dtype)  # (B, 49*8, h, w)
        return self._vote(class_maps, rois, self.num_classes), self._vote(box_maps, rois, 8)

    def _vote(self, maps: Tensor, rois: Tensor, output_dim: int) -> Tensor:
        geometry = (rois, output_dim, self.pooled_size, 1.0 / self.stride)
        if torch.is_grad_enabled():  # the sums of torch's mean: trainings stay bit for bit what they were
            return psroi_pool(maps, *geometry).mean(dim=(2, 3))  # (R, D)
        return psroi_vote(maps, *geometry)  # (R, D)
