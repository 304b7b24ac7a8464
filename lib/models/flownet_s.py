"""FlowNet-S: the flow between two images (Dosovitskiy et al. 2015; docs/rules.md, section 1)."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lib.models.inference_conv import conv_leaky_relu
from lib.models.memory_format import fast_memory_format

FLOW_GAIN = 2.5  # FlowNet's unit is 20 pixels of the half-size image, and 8 of those make a feature cell
_SLOPE = 0.1  # of the leaky ReLUs
_COLOUR_RANGE = 255.0


class FlowNetS(nn.Module):
    """Two images -> the flow from the first to the second, in feature cells, and optionally a scale map.

    Images are as the detector reads them: (B, 3, H, W) float32, RGB, means subtracted, divided by the standard
    deviations `pixel_stds` (R, G, B; network.PIXEL_STDS), which are undone here. The flow is (B, 2, h, w) with
    h = ceil(H/16) and w = ceil(W/16): at (dx, dy) = flow[:, :, y, x], the content of the first image's cell (x, y) lies
    in the second at (x + dx, y + dy), which is where `lib.ops.flow_warp` reads the second's features.

    width: multiplies the number of channels; 1 is FlowNet-S. scale_channels: C > 0 adds Deep Feature Flow's scale map,
    (B, C, h, w), initially 1 everywhere. The convolutions of the outputs run in the module's own dtype, float32, even
    under autocast. Modules have the original parameters' names (`lib.models.mxnet_names`).
    """

    def __init__(
        self,
        width: float = 1.0,
        scale_channels: int = 0,
        pixel_stds: tuple[float, float, float] = (1.0, 1.0, 1.0),
    ) -> None:
        super().__init__()
        if width <= 0:
            raise ValueError(f"FlowNetS width must be above 0, not {width}")
        c64, c128, c256, c512, c1024 = (max(1, round(width * channels)) for channels in (64, 128, 256, 512, 1024))
        self.flow_conv1 = nn.Conv2d(6, c64, 7, stride=2, padding=3)
        self.conv2 = nn.Conv2d(c64, c128, 5, stride=2, padding=2)
        self.conv3 = nn.Conv2d(c128, c256, 5, stride=2, padding=2)
        self.conv3_1 = nn.Conv2d(c256, c256, 3, padding=1)
        self.conv4 = nn.Conv2d(c256, c512, 3, stride=2, padding=1)
        self.conv4_1 = nn.Conv2d(c512, c512, 3, padding=1)
        self.conv5 = nn.Conv2d(c512, c512, 3, stride=2, padding=1)
        self.conv5_1 = nn.Conv2d(c512, c512, 3, padding=1)
        self.conv6 = nn.Conv2d(c512, c1024, 3, stride=2, padding=1)
        self.conv6_1 = nn.Conv2d(c1024, c1024, 3, padding=1)

        self.Convolution1 = nn.Conv2d(c1024, 2, 3, padding=1)
        self.deconv5, self.upsample_flow6to5 = upsampler(c1024, c512), upsampler(2, 2)
        joined = c512 + c512 + 2
        self.Convolution2 = nn.Conv2d(joined, 2, 3, padding=1)
        self.deconv4, self.upsample_flow5to4 = upsampler(joined, c256), upsampler(2, 2)
        joined = c512 + c256 + 2
        self.Convolution3 = nn.Conv2d(joined, 2, 3, padding=1)
        self.deconv3, self.upsample_flow4to3 = upsampler(joined, c128), upsampler(2, 2)
        joined = c256 + c128 + 2
        self.Convolution4 = nn.Conv2d(joined, 2, 3, padding=1)
        self.deconv2, self.upsample_flow3to2 = upsampler(joined, c64), upsampler(2, 2)
        joined = c128 + c64 + 2
        self.Convolution5 = nn.Conv2d(joined, 2, 3, padding=1)
        self.Convolution5_scale = nn.Conv2d(joined, scale_channels, 1) if scale_channels else None
        self.register_buffer("pixel_stds", torch.tensor(pixel_stds).view(1, 3, 1, 1), persistent=False)
        self._initialise()
        self._memory_format = fast_memory_format(c64)
        for name, conv in self.named_children():
            if name != "Convolution5_scale":  # its output goes into the warp, which needs the contiguous format
                conv.to(memory_format=self._memory_format)

    def forward(self, images: Tensor, others: Tensor) -> tuple[Tensor, Tensor | None]:
        """Flow from each of `images` to the image at the same index of `others`, and the scale map or None."""
        return self.between(self.current_part(self.halve(images)), self.other_part(self.halve(others)))

    def halve(self, images: Tensor) -> Tensor:
        """Images (B, 3, H, W) as the network reads them: (B, 3, ceil(H/2), ceil(W/2)), (colour - mean) / 255."""
        if self.flow_conv1 is None and images.shape[2] % 2 == images.shape[3] % 2 == 0:
            # The same means, added up in another order, which takes fewer passes over the large image
            rows = images[:, :, ::2] + images[:, :, 1::2]
            return (rows[..., ::2] + rows[..., 1::2]) * (self.pixel_stds / (4 * _COLOUR_RANGE))
        return mean_of_blocks(images / _COLOUR_RANGE) * self.pixel_stds

    def current_part(self, halves: Tensor) -> Tensor:
        """The part of the first layer that depends on the first image of a pair alone; for `between`.

        halves: (B, 3, H/2, W/2). After `split_first_layer` it is the image's half of the first convolution, (B, 64,
        H/4, W/4), so that an image that is compared with several others goes through it once; before, the halves.
        """
        return halves if self.flow_conv1 is not None else self.first_of_current(self._ordered(halves))

    def other_part(self, halves: Tensor) -> Tensor:
        """`current_part` for the second image of a pair, which the flow points into."""
        return halves if self.flow_conv1 is not None else self.first_of_other(self._ordered(halves))

    def embedding(self, halves: Tensor) -> Tensor:
        """What the first layer makes of an image alone, averaged over feature cells, for measuring similarity.

        halves: (B, 3, H/2, W/2) -> (B, 64, H/16, W/16), of their dtype: the first convolution's share of a pair's
        second image, activated.
        """
        if self.flow_conv1 is None:
            first = self.first_of_other(self._ordered(halves))
        else:
            conv = self.flow_conv1
            first = F.conv2d(halves, conv.weight.chunk(2, dim=1)[1], conv.bias, conv.stride, conv.padding)
        return F.avg_pool2d(_leaky(first).to(halves.dtype), 4, ceil_mode=True)  # from (B, 64, H/4, W/4)

    def between(self, currents: Tensor, others: Tensor | Sequence[Tensor]) -> tuple[Tensor, Tensor | None]:
        """`forward` for what `current_part` and `other_part` gave; one of the two may be of one image for all.

        others: also one by one, each with a first dimension of 1.
        """
        return self.after_first_layer(_leaky(self.first_layer(currents, others)))

    def after_first_layer(self, first: Tensor) -> tuple[Tensor, Tensor | None]:
        """`between` from what the first convolution gave, activated: (B, 64, H/4, W/4)."""
        joined, _ = self._decode(first)
        with torch.autocast(joined.device.type, enabled=False):
            joined = joined.to(self.Convolution5.weight.dtype)
            scale = None
            if self.Convolution5_scale is not None:
                kept = joined.is_cpu and self.flow_conv1 is None  # then the warp reads channels last
                scale = self.Convolution5_scale(joined if kept else joined.contiguous()).to(joined.dtype)
            return self.Convolution5(joined) * FLOW_GAIN, scale  # (B, 2, H/16, W/16), (B, C, H/16, W/16)

    def all_flows(self, images: Tensor, others: Tensor) -> list[Tensor]:
        """The five flows, coarse to fine, at strides 128, 64, 32, 16, 16; all (B, 2, h, w) in cells of stride 16.

        For pre-training, with a loss on each. The last one is that of `forward`.
        """
        first = self.first_layer(self.current_part(self.halve(images)), self.other_part(self.halve(others)))
        joined, flows = self._decode(_leaky(first))
        return [flow * FLOW_GAIN for flow in (*flows, self.Convolution5(joined))]

    def split_first_layer(self) -> None:
        """Split the first convolution, over two images, into one for each; for inference, in place."""
        conv = self.flow_conv1
        weight_of_current, weight_of_other = conv.weight.detach().chunk(2, dim=1)  # (64, 3, 7, 7) each
        for name, weight, bias in (
            ("first_of_current", weight_of_current, None),
            ("first_of_other", weight_of_other, conv.bias),
        ):
            half = nn.Conv2d(3, conv.out_channels, conv.kernel_size, conv.stride, conv.padding, bias=bias is not None)
            half.weight = nn.Parameter(weight.contiguous(memory_format=self._memory_format))
            if bias is not None:
                half.bias = nn.Parameter(bias.detach())
            self.add_module(name, half)
        self.flow_conv1 = None

    def first_layer(self, currents: Tensor, others: Tensor | Sequence[Tensor]) -> Tensor:
        """The first convolution of pairs of images, before its activation: (B, 64, H/4, W/4)."""
        if self.flow_conv1 is not None:
            others = others if isinstance(others, Tensor) else torch.cat(list(others))
            size = torch.broadcast_shapes(currents.shape, others.shape)
            return self.flow_conv1(self._ordered(torch.cat((currents.expand(size), others.expand(size)), dim=1)))
        if isinstance(others, Tensor):
            return currents + others
        size = (len(others), *currents.shape[1:])
        first = torch.empty(size, dtype=currents.dtype, device=currents.device, memory_format=self._memory_format)
        for n, other in enumerate(others):  # written to its place at once, not stacked first
            torch.add(currents[n if len(currents) > 1 else 0], other[0], out=first[n])
        return first

    def _ordered(self, x: Tensor) -> Tensor:
        return x.contiguous(memory_format=self._memory_format)

    def _decode(self, first: Tensor) -> tuple[Tensor, list[Tensor]]:
        """The input (B, C, H/16, W/16) of the output layers, and the four coarser flows without the gain.

        first: of the first layer, activated.
        """
        skip2 = _activated(self.conv2, first)  # (B, 128, H/8, W/8)
        skip3 = _activated(self.conv3_1, _activated(self.conv3, skip2))  # (B, 256, H/16, W/16)
        skip4 = _activated(self.conv4_1, _activated(self.conv4, skip3))  # (B, 512, H/32, W/32)
        skip5 = _activated(self.conv5_1, _activated(self.conv5, skip4))  # (B, 512, H/64, W/64)
        x = _activated(self.conv6_1, _activated(self.conv6, skip5))  # (B, 1024, H/128, W/128)
        flows, parts = [], (x,)
        for skip, predict_flow, deconv, upsample_flow in (
            (skip5, self.Convolution1, self.deconv5, self.upsample_flow6to5),
            (skip4, self.Convolution2, self.deconv4, self.upsample_flow5to4),
            (skip3, self.Convolution3, self.deconv3, self.upsample_flow4to3),
            (skip2, self.Convolution4, self.deconv2, self.upsample_flow3to2),
        ):
            x = torch.cat(parts, dim=1)  # (B, C, h, w)
            flows.append(predict_flow(x))
            features = crop_to(_activated(deconv, x), skip)
            parts = skip, features, crop_to(upsample_flow(flows[-1]), skip)  # of the next finer size
        return torch.cat([mean_of_blocks(part) for part in parts], dim=1), flows  # joined when small

    def _initialise(self) -> None:
        for name, conv in self.named_children():
            if name == "Convolution5_scale":
                nn.init.zeros_(conv.weight)
                nn.init.ones_(conv.bias)
                continue
            fan_in = conv.in_channels * math.prod(conv.kernel_size)
            if isinstance(conv, nn.ConvTranspose2d):
                fan_in /= math.prod(conv.stride)  # an output pixel depends on one tap of every `stride` per direction
            predicts = name.startswith("Convolution")  # a small initial flow
            nn.init.normal_(conv.weight, std=0.01 if predicts else math.sqrt(2 / (1 + _SLOPE**2) / fan_in))
            nn.init.zeros_(conv.bias)


def mean_of_blocks(x: Tensor) -> Tensor:
    """Means of 2x2 blocks, (B, C, H, W) -> (B, C, ceil(H/2), ceil(W/2)); blocks at odd edges have fewer pixels."""
    return F.avg_pool2d(x, 2, stride=2, ceil_mode=True)


def crop_to(x: Tensor, like: Tensor) -> Tensor:
    """Crop `x` at the right and bottom to the size of `like`.

    The originals up-sample without padding and crop at offset (1, 1); here the padding has removed that edge already.
    """
    return x[:, :, : like.shape[2], : like.shape[3]]


def upsampler(in_channels: int, out_channels: int) -> nn.ConvTranspose2d:
    """(B, in, h, w) -> (B, out, 2h, 2w)."""
    return nn.ConvTranspose2d(in_channels, out_channels, 4, stride=2, padding=1)


def _leaky(x: Tensor) -> Tensor:
    return F.leaky_relu(x, _SLOPE, inplace=True)


def _activated(conv: nn.Module, x: Tensor) -> Tensor:
    return conv_leaky_relu(conv, x, _SLOPE)
