"""The R-FCN head (Dai et al. 2016): position-sensitive maps, pooled per RoI, averaged (docs/rules.md, section 1)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from lib.ops import psroi_pool, psroi_vote


class RFCNHead(nn.Module):
    """(features (B, in_channels, h, w), rois (R, 5)) -> class scores (R, K) before softmax, box deltas (R, 4).

    rois: image index and x1, y1, x2, y2 in network-input pixels. K counts the background (class 0). Boxes are
    class-agnostic: of the originals' eight deltas the last four, the foreground box's, are returned; nothing uses the
    background's. Pooling is in float32 whatever the maps' dtype is.
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
        if self.rfcn_cls is None:
            geometry = (rois, self.num_classes + 4, self.pooled_size, 1.0 / self.stride)
            votes = psroi_vote(self.rfcn_joined(features), *geometry, by_bin=True)  # (R, K + 4)
            return votes[:, : self.num_classes], votes[:, self.num_classes :]
        class_maps = self.rfcn_cls(features)  # (B, 49K, h, w)
        box_maps = self.rfcn_bbox(features)  # (B, 49*8, h, w)
        return self._vote(class_maps, rois, self.num_classes), self._vote(box_maps, rois, 8)[:, 4:]

    def join_convolutions(self) -> None:
        """Make one convolution of the two, in place, for inference: one product and one pass over the RoIs.

        Its channels lie bin by bin, those of all scores and deltas of a bin together: `psroi_vote` reads them in one
        piece where the maps have channels last. The background's deltas are left out.
        """
        bins = self.pooled_size**2

        def joined(name: str) -> nn.Parameter:
            scores, deltas = (getattr(conv, name).detach() for conv in (self.rfcn_cls, self.rfcn_bbox))
            own = torch.cat((scores, deltas[4 * bins :])).unflatten(0, (-1, bins))  # (K + 4, P*P, ...)
            return nn.Parameter(own.transpose(0, 1).flatten(0, 1))

        self.rfcn_joined = nn.Conv2d(self.rfcn_cls.in_channels, (self.num_classes + 4) * bins, 1)
        self.rfcn_joined.weight, self.rfcn_joined.bias = joined("weight"), joined("bias")
        self.rfcn_cls = self.rfcn_bbox = None

    def _vote(self, maps: Tensor, rois: Tensor, output_dim: int) -> Tensor:
        geometry = (rois, output_dim, self.pooled_size, 1.0 / self.stride)
        if torch.is_grad_enabled():  # the sums of torch's mean: trainings stay bit for bit what they were
            return psroi_pool(maps, *geometry).mean(dim=(2, 3))  # (R, D)
        return psroi_vote(maps, *geometry)  # (R, D)
