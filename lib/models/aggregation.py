"""Weighted average of warped feature maps by their similarity to a frame (FGFA; docs/rules.md, section 1)."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from lib.models.inference_conv import conv_relu


class EmbedNet(nn.Module):
    """Features (B, in_channels, h, w) -> the embedding (B, out_channels, h, w) in which similarity is measured.

    Three convolutions, 1x1, 3x3, 1x1, ReLU between them; the first two have `hidden` channels.
    """

    def __init__(self, in_channels: int = 1024, hidden: int = 512, out_channels: int = 2048) -> None:
        super().__init__()
        self.em_conv1 = nn.Conv2d(in_channels, hidden, 1)
        self.em_conv2 = nn.Conv2d(hidden, hidden, 3, padding=1)
        self.em_conv3 = nn.Conv2d(hidden, out_channels, 1)
        for conv in self.children():
            fan_in = conv.in_channels * math.prod(conv.kernel_size)
            nn.init.normal_(conv.weight, std=math.sqrt(2 / fan_in))
            nn.init.zeros_(conv.bias)

    def forward(self, features: Tensor) -> Tensor:
        x = conv_relu(self.em_conv1, features)  # (B, hidden, h, w)
        return self.em_conv3(conv_relu(self.em_conv2, x))  # (B, out_channels, h, w)


def length(x: Tensor, dim: int) -> Tensor:
    """sqrt(sum x^2 + 1e-10) along `dim`, which is kept: never zero."""
    return torch.sqrt(torch.linalg.vector_norm(x, dim=dim, keepdim=True).square() + 1e-10)


def cosine_similarity(embeddings: Tensor, reference: Tensor) -> Tensor:
    """Cosine at each position: (..., C, h, w) and a broadcastable shape -> (..., 1, h, w), in [-1, 1]."""
    # The originals normalise both maps first; dividing the sum is equivalent and needs no further maps of that size
    return (embeddings * reference).sum(-3, keepdim=True) / (length(embeddings, -3) * length(reference, -3))


def aggregation_weights(similarities: Tensor, counts: Tensor | None = None) -> Tensor:
    """Softmax over the frames: similarities (B, N, 1, h, w) -> weights of the same shape that sum to 1 over N.

    counts: (B, N) how often each frame counts, None: once. A frame with count n has the weight of n equal frames.
    """
    if counts is not None:
        similarities = similarities + counts.to(similarities).log()[:, :, None, None, None]
    return similarities.softmax(dim=1)
