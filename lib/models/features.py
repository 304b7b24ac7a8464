"""The feature extractor that all methods share; its map is warped, scaled and cached (docs/rules.md, section 1)."""

from __future__ import annotations

from torch import Tensor, nn

from lib.models.inference_conv import conv_relu
from lib.models.memory_format import fast_memory_format
from lib.models.resnet import ResNet


class Features(nn.Module):
    """ResNet, `feat_conv_3x3` with dilation 6, ReLU: images (B, 3, H, W) -> (B, out_channels, H/16, W/16)."""

    def __init__(self, resnet: ResNet, out_channels: int = 1024) -> None:
        super().__init__()
        self.resnet = resnet
        self.out_channels = out_channels
        self.feat_conv_3x3 = nn.Conv2d(resnet.out_channels, out_channels, 3, padding=6, dilation=6)
        nn.init.normal_(self.feat_conv_3x3.weight, std=0.01)
        nn.init.zeros_(self.feat_conv_3x3.bias)
        self._memory_format = fast_memory_format(resnet.conv1.out_channels)
        self.to(memory_format=self._memory_format)

    def forward(self, images: Tensor) -> Tensor:
        x = self.resnet(images.contiguous(memory_format=self._memory_format))  # (B, C5, H/16, W/16)
        return conv_relu(self.feat_conv_3x3, x)  # (B, out_channels, H/16, W/16)
