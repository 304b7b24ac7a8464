"""Round a map to 8 bits, with a scale for the whole map."""

from __future__ import annotations

import torch
from torch import Tensor

from lib.ops.dispatch import check_floating


def quantize(x: Tensor, zero_point: int = 0) -> tuple[Tensor, Tensor]:
    """8-bit integers q and a scale with `x` about `(q - zero_point) * scale`.

    A value of the largest magnitude becomes 255; with a zero point of 128 its negative becomes 1.
    x: bfloat16, of any shape, on the CPU. zero_point: 0 to 254, what 0 becomes; what lies below `-zero_point * scale`
    becomes 0. Returns q, uint8 of the shape and memory format of `x`, rounded to the nearest, halves up; and the scale,
    () float32: the largest magnitude in `x` divided by `255 - zero_point`, 1 if all is zero (magnitudes below 1e-30
    count as smaller than they are), NaN if any value is NaN or infinite. There is no gradient and no CUDA kernel.
    Raises TypeError for another dtype, ValueError for another zero point.
    """
    check_floating("quantize", dtypes=(torch.bfloat16,), x=x)
    return torch.ops.vod.quantize(x, zero_point)


def quantize_reference(x: Tensor, zero_point: int = 0) -> tuple[Tensor, Tensor]:
    """The rule of `quantize` in PyTorch; same arguments, same result."""
    check_floating("quantize", dtypes=(torch.bfloat16,), x=x)
    largest = x.float().abs().amax() if x.numel() else torch.zeros(())
    if not largest.isfinite():
        return torch.zeros_like(x, dtype=torch.uint8), torch.full_like(largest, torch.nan)
    steps = torch.full_like(largest, 255 - zero_point)
    q = (x.float() * (steps / largest.clamp(min=1e-30)) + zero_point + 0.5).clamp(0, 255).to(torch.uint8)
    return q, largest / steps if largest > 0 else torch.ones_like(largest)


@torch.library.register_fake("vod::quantize")
def _fake(x: Tensor, zero_point: int = 0) -> tuple[Tensor, Tensor]:
    return torch.empty_like(x, dtype=torch.uint8), x.new_empty((), dtype=torch.float32)
