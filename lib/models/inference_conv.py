"""Convolutions with fixed weights, reordered once for oneDNN on the CPU."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class InferenceConv(nn.Module):
    """A convolution, transposed or not, with fixed weights; its input is cast to the weights' dtype.

    On the CPU the weights are reordered for oneDNN, once for each size of input; pack: whether to.
    """

    def __init__(self, conv: nn.Conv2d | nn.ConvTranspose2d, dtype: torch.dtype | None, pack: bool = True) -> None:
        super().__init__()
        self.conv = conv if dtype is None else conv.to(dtype)
        self.in_channels, self.out_channels = conv.in_channels, conv.out_channels
        self.transposed = isinstance(conv, nn.ConvTranspose2d)
        self._packed: dict[tuple[int, ...], Tensor] = {}
        on_cpu = conv.weight.device.type == "cpu"
        self._can_pack = pack and on_cpu and conv.groups == 1 and _has_packing(self.transposed)

    @property
    def weight(self) -> Tensor:
        return self.conv.weight

    def forward(self, x: Tensor) -> Tensor:
        conv = self.conv
        x = x.to(conv.weight.dtype)
        if not self._can_pack or x.numel() == 0:
            return conv(x)
        size = tuple(x.shape)
        if size not in self._packed:
            if len(self._packed) >= 8:  # drop the oldest size; packing a new one takes milliseconds
                self._packed.pop(next(iter(self._packed)))
            self._packed[size] = self._pack(size)
        geometry = (list(conv.padding), list(conv.stride), list(conv.dilation))
        if self.transposed:
            padding, stride, dilation = geometry
            return torch.ops.mkldnn._convolution_transpose_pointwise(
                x, self._packed[size], conv.bias, padding, [0, 0], stride, dilation, 1, "none", [], ""
            )
        return torch.ops.mkldnn._convolution_pointwise(x, self._packed[size], conv.bias, *geometry, 1, "none", [], "")

    def _pack(self, size: tuple[int, ...]) -> Tensor:
        conv, weight = self.conv, self.conv.weight.contiguous()
        if self.transposed:
            return torch.ops.mkldnn._reorder_convolution_transpose_weight(
                weight, list(conv.padding), [0, 0], list(conv.stride), list(conv.dilation), 1, list(size)
            )
        return torch._C._nn.mkldnn_reorder_conv2d_weight(
            weight.to_mkldnn(), conv.padding, conv.stride, conv.dilation, 1, list(size)
        )


def _has_packing(transposed: bool) -> bool:
    """Whether this build of torch has oneDNN with packed convolutions; otherwise plain convolutions are used."""
    name = "_convolution_transpose_pointwise" if transposed else "_convolution_pointwise"
    return torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, name)
