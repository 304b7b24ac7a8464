"""The precision of the networks' convolutions (the configuration's PRECISION)."""

from __future__ import annotations

import functools
import logging
import platform

import torch

from lib.errors import InputError

_LOGGER = logging.getLogger(__name__)
_REDUCED = {"bfloat16": torch.bfloat16, "float16": torch.float16}


class PrecisionError(InputError):
    """A precision that the device cannot compute in; the message names both."""


def set_precision(precision: str, device: torch.device, training: bool = False) -> torch.dtype | None:
    """Allow or forbid TF32 in convolutions and matrix products, and check that `device` supports `precision`.

    training: whether it is for training, which is not offered in int8.

    Returns the reduced dtype of the networks' convolutions, None for float32 and TF32; for int8 that of those that are
    not in 8 bits: bfloat16 on processors with instructions for it, float32 on others, where bfloat16 is the slower one.
    PyTorch allows TF32 in cuDNN's convolutions by default; here float32 means float32. Boxes, flow grids, warping,
    pooling and losses are float32 in every precision. Raises PrecisionError.
    """
    allow_tf32 = precision == "tf32"
    torch.backends.cuda.matmul.allow_tf32 = allow_tf32
    torch.backends.cudnn.allow_tf32 = allow_tf32
    if precision in ("tf32", "float16") and device.type != "cuda":
        raise PrecisionError(f"PRECISION {precision} needs a GPU, not {device}; give float32 or bfloat16")
    if precision == "int8" and training:
        raise PrecisionError("PRECISION int8 is for testing; train in float32 or bfloat16")
    if precision == "int8" and (device.type != "cpu" or not _has_int8()):
        instead = "float32" if device.type == "cpu" else "bfloat16"
        raise PrecisionError(f"PRECISION int8 needs a CPU with AVX-512 VNNI, not this {device}; give {instead}")
    if precision == "tf32" and torch.cuda.get_device_capability(device)[0] < 8:
        raise PrecisionError(f"PRECISION tf32: {torch.cuda.get_device_name(device)} has no TF32; give float32")
    if precision == "bfloat16" and device.type == "cuda" and not _gpu_has_bfloat16(device):
        raise PrecisionError(f"PRECISION bfloat16: {torch.cuda.get_device_name(device)} has none; give float16")
    if precision == "bfloat16" and device.type == "cpu" and _lacks_bfloat16():
        _warn_of_bfloat16()
    if precision == "int8":
        return None if _lacks_bfloat16() else torch.bfloat16
    return _REDUCED.get(precision)


def _gpu_has_bfloat16(device: torch.device) -> bool:
    with torch.cuda.device(device):  # torch asks the current one
        return torch.cuda.is_bf16_supported(including_emulation=False)


def _lacks_bfloat16() -> bool:
    """Whether this processor is known to have no instructions for bfloat16; oneDNN imitates them, slowly."""
    return platform.machine() in ("x86_64", "AMD64") and not torch.cpu._is_avx512_bf16_supported()


@functools.cache  # once
def _warn_of_bfloat16() -> None:
    _LOGGER.warning("PRECISION bfloat16: this CPU has no instructions for it (AVX-512 BF16); float32 is faster here")


def _has_int8() -> bool:
    return torch.backends.mkldnn.is_available() and torch.cpu._is_vnni_supported()
