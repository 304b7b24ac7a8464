"""Convolutions with fixed weights, reordered once for oneDNN on the CPU."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class InferenceConv(nn.Module):
    """A convolution, transposed or not, with fixed weights; its input is cast to the weights' dtype.

    On the CPU the weights are reordered for oneDNN, once for each size of images; pack: whether to. The order does not
    depend on the number of images, or oneDNN reorders once more: FGFA's windows would otherwise hold eight copies.
    """

    def __init__(self, conv: nn.Conv2d | nn.ConvTranspose2d, dtype: torch.dtype | None, pack: bool = True) -> None:
        super().__init__()
        self.conv = conv if dtype is None else conv.to(dtype)
        self.in_channels, self.out_channels = conv.in_channels, conv.out_channels
        self.transposed = isinstance(conv, nn.ConvTranspose2d)
        self._geometry = list(conv.padding), list(conv.stride), list(conv.dilation)
        self._packed: dict[tuple[int, ...], Tensor] = {}
        on_cpu = conv.weight.device.type == "cpu"
        self._can_pack = pack and on_cpu and conv.groups == 1 and _has_packing(self.transposed, self.conv.weight.dtype)

    @property
    def weight(self) -> Tensor:
        return self.conv.weight

    def forward(self, x: Tensor, leaky_slope: float | None = None) -> Tensor:
        """The convolution of `x`, or with a slope its leaky ReLU; on the CPU in one pass over the result."""
        x = x.to(self.conv.weight.dtype)
        weight = self._packed_for(x)
        if weight is None:
            x = self.conv(x)
            return x if leaky_slope is None else F.leaky_relu(x, leaky_slope, inplace=True)
        return self._packed_convolution(x, weight, *(("none",) if leaky_slope is None else ("leaky_relu", leaky_slope)))

    def relu(self, x: Tensor, added: Tensor | None = None) -> Tensor:
        """ReLU of the convolution of `x`, or of the convolution plus `added`; on the CPU in one pass over the result.

        added: of the result's shape and dtype; the result may be in its memory.
        """
        conv = self.conv
        x = x.to(conv.weight.dtype)
        weight = None if self.transposed else self._packed_for(x)
        # For other formats than channels last torch adds in a pass of its own, which it does not have for bfloat16
        in_order = added is None or added.is_contiguous(memory_format=torch.channels_last)
        if weight is None or not in_order:
            x = self(x)
            return F.relu(x if added is None else x.add_(added), inplace=True)
        if added is None:
            return self._packed_convolution(x, weight, "relu")
        return torch.ops.mkldnn._convolution_pointwise_.binary(
            added, x, weight, conv.bias, *self._geometry, 1, "add", 1.0, "relu", [], None
        )

    def _packed_convolution(self, x: Tensor, weight: Tensor, activation: str, *parameters: float) -> Tensor:
        padding, stride, dilation = self._geometry
        activated = (activation, list(parameters), "")
        if self.transposed:
            return torch.ops.mkldnn._convolution_transpose_pointwise(
                x, weight, self.conv.bias, padding, [0, 0], stride, dilation, 1, *activated
            )
        return torch.ops.mkldnn._convolution_pointwise(
            x, weight, self.conv.bias, padding, stride, dilation, 1, *activated
        )

    def _packed_for(self, x: Tensor) -> Tensor | None:
        """The weights in the order for inputs of the size of `x`; None if the plain convolution is to be used."""
        if not self._can_pack or x.numel() == 0:
            return None
        return packed_for(x.shape, self._packed, self._pack)

    def _pack(self, size: torch.Size) -> Tensor:
        conv, weight = self.conv, self.conv.weight.contiguous()
        if self.transposed:
            return torch.ops.mkldnn._reorder_convolution_transpose_weight(
                weight, list(conv.padding), [0, 0], list(conv.stride), list(conv.dilation), 1, list(size)
            )
        return torch._C._nn.mkldnn_reorder_conv2d_weight(
            weight.to_mkldnn(), conv.padding, conv.stride, conv.dilation, 1, list(size)
        )


def packed_for(size: torch.Size, packed: dict[tuple[int, ...], Tensor], pack: Callable[[torch.Size], Tensor]) -> Tensor:
    """The weights that `pack` reorders for maps of `size` (B, C, H, W); `packed` keeps those of eight sizes (H, W)."""
    if size[2:] not in packed:
        if len(packed) >= 8:  # drop the oldest size; packing a new one takes milliseconds
            packed.pop(next(iter(packed)))
        packed[size[2:]] = pack(size)
    return packed[size[2:]]


def _has_packing(transposed: bool, dtype: torch.dtype) -> bool:
    """Whether oneDNN has packed convolutions of `dtype` on this processor; otherwise plain convolutions are used."""
    name = "_convolution_transpose_pointwise" if transposed else "_convolution_pointwise"
    if not torch.backends.mkldnn.is_available() or not hasattr(torch.ops.mkldnn, name):
        return False
    return dtype != torch.bfloat16 or torch.ops.mkldnn._is_mkldnn_bf16_supported()  # not before AVX-512


def conv_relu(conv: nn.Module, x: Tensor) -> Tensor:
    """ReLU of a convolution of `x` that may be in its form for inference."""
    return F.relu(conv(x), inplace=True) if isinstance(conv, nn.Conv2d) else conv.relu(x)


def conv_leaky_relu(conv: nn.Module, x: Tensor, slope: float) -> Tensor:
    """Leaky ReLU of a convolution of `x`, transposed or not, that may be in its form for inference."""
    plain = isinstance(conv, nn.Conv2d | nn.ConvTranspose2d)
    return F.leaky_relu(conv(x), slope, inplace=True) if plain else conv(x, slope)
