"""Store weights in half the bytes: convolution weights in float16, what is small and sensitive in float32."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from lib.checkpoints.conversion import WeightsError


def to_half(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """`state` with every floating-point tensor of two or more dimensions in float16.

    Biases and batch-norm statistics stay in float32: they are under one per cent of the bytes, and a variance may be
    smaller than float16 reaches. Raises WeightsError for a weight that is too large for float16 or not finite.
    """
    half = {}
    for name, value in state.items():
        half[name] = value.detach().clone(memory_format=torch.contiguous_format)
        if value.is_floating_point() and value.dim() >= 2:
            half[name] = half[name].to(torch.float16)
            if not bool(half[name].isfinite().all()):
                largest = float(value.abs().max())
                raise WeightsError(f"{name} has a value of {largest:g}, too large for float16")
    return half


def rounding(state: Mapping[str, Tensor], half: Mapping[str, Tensor]) -> str:
    """What float16 changed, in words: the largest change of a value, as it is and in parts of its tensor's largest."""
    changed = [name for name in state if half[name].dtype != state[name].dtype]
    largest = relative = 0.0
    for name in changed:
        change = float((half[name].double() - state[name].double()).abs().max())
        largest = max(largest, change)
        relative = max(relative, change / max(float(state[name].double().abs().max()), 1e-30))
    return (
        f"{len(changed)} of {len(state)} arrays stored in float16: a value changes by at most {largest:.2g}, and by at "
        f"most {relative:.2g} of the largest in its array"
    )
