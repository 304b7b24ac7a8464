"""Convolutions in 8 bits on the CPU (the configuration's PRECISION of int8)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lib.models.inference_conv import packed_for
from lib.ops import quantize


class Int8Conv(nn.Module):
    """A convolution with fixed weights in 8 bits, sums in 32; results are bfloat16.

    signed: whether inputs may be below 0, which leaves them 7 bits beside the sign.

    A weight has 8 bits and a sign, with a scale for each output channel; an input is rounded to 8 bits with a scale for
    the whole map, which is measured in every call: nothing is calibrated. The products are exact on processors with
    VNNI instructions; others may cut sums off, and `lib.models.precision` refuses them. An input with NaN or infinity
    makes the whole result NaN, of which oneDNN's ReLU makes 0, as in `InferenceConv`.
    """

    def __init__(self, conv: nn.Conv2d, signed: bool = False) -> None:
        super().__init__()
        self._zero_point = 128 if signed else 0
        weight = conv.weight.detach().float()
        scales = (weight.abs().amax(dim=(1, 2, 3)) / 127).clamp(min=torch.finfo(torch.float32).tiny)  # (out,)
        rounded = (weight / scales[:, None, None, None]).round().to(torch.int8)
        self.register_buffer("weight", rounded)
        self.register_buffer("scales", scales)
        self.register_buffer("bias", None if conv.bias is None else conv.bias.detach().float())
        self.register_buffer("zero_points", torch.zeros(len(scales), dtype=torch.int64))
        self._geometry = list(conv.stride), list(conv.padding), list(conv.dilation)
        self._packed: dict[tuple[int, ...], Tensor] = {}

    def forward(self, x: Tensor, leaky_slope: float | None = None) -> Tensor:
        """The convolution of `x`, or with a slope its leaky ReLU."""
        x = self._convolution(x, "none")
        return x if leaky_slope is None else F.leaky_relu(x, leaky_slope, inplace=True)

    def relu(self, x: Tensor, added: Tensor | None = None) -> Tensor:
        """ReLU of the convolution of `x`, or of the convolution plus `added`, of the result's shape, in one pass."""
        if added is None:
            return self._convolution(x, "relu")
        first, rest = self._arguments(x)
        added = added.to(torch.bfloat16, memory_format=torch.channels_last)
        return torch.ops.onednn.qconv2d_pointwise.binary(*first, added, *rest, 1.0, 0, "sum", 1.0, "relu", [], "")

    def _convolution(self, x: Tensor, activation: str) -> Tensor:
        first, rest = self._arguments(x)
        return torch.ops.onednn.qconv2d_pointwise(*first, *rest, activation, [], "")

    def _arguments(self, x: Tensor) -> tuple[tuple, tuple]:
        """What oneDNN's convolutions have in common, before and after the map that may be added."""
        q, scale = quantize(x.to(torch.bfloat16, memory_format=torch.channels_last), self._zero_point)
        weight = packed_for(q.shape, self._packed, self._pack)
        first = q, float(scale), self._zero_point, weight, self.scales, self.zero_points
        return first, (self.bias, *self._geometry, 1, 1.0, 0, torch.bfloat16)  # one group; no rounding of the result

    def _pack(self, size: torch.Size) -> Tensor:
        zero_point = self._zero_point
        return torch.ops.onednn.qconv_prepack(self.weight, self.scales, 1.0, zero_point, *self._geometry, 1, list(size))
