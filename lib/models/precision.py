"""The precision of the networks' convolutions (the configuration's PRECISION)."""

from __future__ import annotations

import torch

from lib.errors import InputError

PRECISIONS = ("float32", "tf32", "bfloat16", "float16")
_REDUCED = {"bfloat16": torch.bfloat16, "float16": torch.float16}


class PrecisionError(InputError):
    """A precision that the device cannot compute in; the message names both."""


def set_precision(precision: str, device: torch.device) -> torch.dtype | None:
    """Allow or forbid TF32 in convolutions and matrix products, and check that `device` supports `precision`.

    Returns the reduced dtype of the networks' convolutions, None for float32 and TF32. PyTorch allows TF32 in cuDNN's
    convolutions by default; here float32 means float32. Boxes, flow grids, warping, pooling and losses are float32 in
    every precision. Raises PrecisionError.
    """
    allow_tf32 = precision == "tf32"
    torch.backends.cuda.matmul.allow_tf32 = allow_tf32
    torch.backends.cudnn.allow_tf32 = allow_tf32
    if precision in ("tf32", "float16") and device.type != "cuda":
        raise PrecisionError(f"PRECISION {precision} needs a GPU, not {device}; give float32 or bfloat16")
    if precision == "tf32" and torch.cuda.get_device_capability(device)[0] < 8:
        raise PrecisionError(f"PRECISION tf32: {torch.cuda.get_device_name(device)} has no TF32; give float32")
    if (
        precision == "bfloat16"
        and device.type == "cuda"
        and not torch.cuda.is_bf16_supported(including_emulation=False)
    ):
        raise PrecisionError(f"PRECISION bfloat16: {torch.cuda.get_device_name(device)} has none; give float16")
    return _REDUCED.get(precision)
