"""The region proposal network's heads: 1x1 convolutions directly on the features (docs/rules.md, section 1)."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class RPN(nn.Module):
    """Features (B, in_channels, h, w) -> scores (B, 2A, h, w) and normalised deltas (B, 4A, h, w).

    Score channels 0..A-1 are the background of anchors 0..A-1, A..2A-1 the foreground. Delta channel 4a + k is
    coordinate k of anchor a, in units of the anchor standard deviations.
    """

    def __init__(self, in_channels: int, num_anchors: int) -> None:
        super().__init__()
        self.num_anchors = num_anchors
        self.rpn_cls_score = nn.Conv2d(in_channels, 2 * num_anchors, 1)
        self.rpn_bbox_pred = nn.Conv2d(in_channels, 4 * num_anchors, 1)
        for conv in (self.rpn_cls_score, self.rpn_bbox_pred):
            nn.init.normal_(conv.weight, std=0.01)
            nn.init.zeros_(conv.bias)

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        if self.rpn_cls_score is None:
            return self.rpn_joined(features).split((2 * self.num_anchors, 4 * self.num_anchors), dim=1)
        return self.rpn_cls_score(features), self.rpn_bbox_pred(features)

    def join_convolutions(self) -> None:
        """Make one convolution of the two, in place, for inference: the features are read once."""
        convs = self.rpn_cls_score, self.rpn_bbox_pred
        self.rpn_joined = nn.Conv2d(convs[0].in_channels, 6 * self.num_anchors, 1)
        self.rpn_joined.weight = nn.Parameter(torch.cat([conv.weight.detach() for conv in convs]))
        self.rpn_joined.bias = nn.Parameter(torch.cat([conv.bias.detach() for conv in convs]))
        self.rpn_cls_score = self.rpn_bbox_pred = None


def anchor_probabilities(scores: Tensor) -> Tensor:
    """Softmax over background and foreground of each anchor: (B, 2A, h, w) -> (B, 2A, h, w)."""
    batch, channels, height, width = scores.shape
    pairs = scores.reshape(batch, 2, channels // 2, height, width)  # (B, 2, A, h, w)
    return pairs.softmax(dim=1).reshape(scores.shape)


def unnormalise_deltas(deltas: Tensor, means: Tensor, stds: Tensor) -> Tensor:
    """Deltas (B, 4A, h, w) in units of `stds` (4,), around `means` (4,), -> plain box deltas of the same shape."""
    num_anchors = deltas.shape[1] // 4
    return deltas * stds.repeat(num_anchors)[:, None, None] + means.repeat(num_anchors)[:, None, None]


def per_anchor(scores: Tensor, deltas: Tensor) -> tuple[Tensor, Tensor]:
    """(B, 2A, h, w) and (B, 4A, h, w) -> (B, h*w*A, 2) and (B, h*w*A, 4), in the order of `all_anchors`."""
    batch, channels, height, width = scores.shape
    num_anchors = channels // 2
    scores = scores.reshape(batch, 2, num_anchors, height, width).permute(0, 3, 4, 2, 1)  # (B, h, w, A, 2)
    deltas = deltas.reshape(batch, num_anchors, 4, height, width).permute(0, 3, 4, 1, 2)  # (B, h, w, A, 4)
    return torch.flatten(scores, 1, 3), torch.flatten(deltas, 1, 3)
