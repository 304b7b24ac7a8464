"""Load the compiled extension; functions for the registration of operators.

The C++ side (`csrc/register.cpp`) declares the operators of namespace `vod` and registers their CPU kernels, and CUDA
kernels if it was built with them; the Python files in this folder add shapes for `torch.compile`, gradients and
autocast.
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from lib.errors import BUILD_COMMAND

try:
    import lib.ops._C  # noqa: F401  (importing it registers the operators)
except ImportError as error:
    raise ImportError(
        f"lib.ops needs its compiled extension, which does not load: {error}\n"
        f"It loads with the version of torch that it was built against; {torch.__version__} is installed now. Build it "
        f"again, from the top folder of this repository:\n    {BUILD_COMMAND}\n"
        "or, if it was installed by pip: pip install --force-reinstall --no-deps --no-cache-dir PLACE"
    ) from error


def check_floating(
    name: str, *, dtypes: Sequence[torch.dtype] = (torch.float32, torch.float64), **tensors: Tensor | None
) -> None:
    """Raise TypeError unless all given tensors have one dtype, one of `dtypes`, or autocast will cast them."""
    given = {key: tensor for key, tensor in tensors.items() if tensor is not None}
    found = {tensor.dtype for tensor in given.values()}
    device = next(iter(given.values())).device.type
    if torch.is_autocast_enabled(device) and all(dtype.is_floating_point for dtype in found):
        return
    if len(found) > 1 or not found <= set(dtypes):
        listed = ", ".join(f"{key} {tensor.dtype}" for key, tensor in given.items())
        allowed = " or ".join(str(dtype).removeprefix("torch.") for dtype in dtypes)
        raise TypeError(f"{name} wants its tensors in one dtype, {allowed}, not {listed}")


def run_in_float32(name: str) -> None:
    """Under autocast, cast the floating inputs of `name` to float32: half precision is too coarse for positions."""
    for device in ("cpu", "cuda"):
        torch.library.register_autocast(name, device, torch.float32)


def stand_in_on_cuda(name: str, reference: Callable) -> None:
    """Register `reference` for operator `name` on CUDA tensors if the extension was built without CUDA kernels."""
    if not torch.ops.vod.has_cuda_kernels():
        torch.library.impl(name, "CUDA", _warn_and_call(reference))


def _warn_and_call(reference: Callable) -> Callable:
    @functools.wraps(reference)
    def stand_in(*arguments):
        _warn_once()
        return reference(*arguments)

    return stand_in


@functools.cache
def _warn_once() -> None:
    logging.getLogger(__name__).warning(
        "lib.ops was built without CUDA kernels: slower PyTorch versions with equal results stand in on the GPU. "
        "To build the kernels, install the CUDA toolkit (nvcc) and run: FORCE_CUDA=1 %s",
        BUILD_COMMAND,
    )
