"""The feature map that every method shares, warps, scales and caches (spec section 1)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lib.models.resnet import ResNet

_SAFE_WIDTH = 16  # channels of conv1


class Features(nn.Module):
    """ResNet, `feat_conv_3x3` with dilation 6, ReLU: images (B, 3, H, W) -> (B, out_channels, H/16, W/16).

    Weights and maps lie in memory channel by channel for each position (channels last): the faster order for
    convolutions on CPUs and on GPUs with mixed precision. Shapes and values are not affected. Narrow networks are left
    out: in torch 2.14.1 the CPU gradient of a 1x1 convolution of stride 2 with 8 input channels or fewer writes outside
    its memory when they lie like that.
    """

    def __init__(self, resnet: ResNet, out_channels: int = 1024) -> None:
        super().__init__()
        self.resnet = resnet
        self.out_channels = out_channels
        self.feat_conv_3x3 = nn.Conv2d(resnet.out_channels, out_channels, 3, padding=6, dilation=6)
        nn.init.normal_(self.feat_conv_3x3.weight, std=0.01)
        nn.init.zeros_(self.feat_conv_3x3.bias)
        wide = resnet.conv1.out_channels >= _SAFE_WIDTH
        self._memory_format = torch.channels_last if wide else torch.contiguous_format
        self.to(memory_format=self._memory_format)

    def forward(self, images: Tensor) -> Tensor:
        x = self.resnet(images.contiguous(memory_format=self._memory_format))  # (B, C5, H/16, W/16)
        return F.relu(self.feat_conv_3x3(x), inplace=True)  # (B, out_channels, H/16, W/16)
