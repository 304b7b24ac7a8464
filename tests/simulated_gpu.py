"""A GPU for tests on machines without one: tensors that lie on the CPU but are named as on GPU 0.

Its arithmetic is the CPU's. What it adds is what a GPU refuses: one operation on tensors of both devices, a NumPy array
made from a GPU's tensor. So code that forgets to move a tensor fails here as it does there. Kernels, streams, memory
and reduced precision are not simulated.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves, tree_map

_CUDA = {  # what torch.cuda says and does
    "_lazy_init": lambda: None,
    "_exchange_device": lambda index: 0,
    "_maybe_exchange_device": lambda index: 0,
    "current_device": lambda: 0,
    "device_count": lambda: 1,
    "get_device_capability": lambda device=None: (9, 0),
    "get_device_name": lambda device=None: "simulated GPU",
    "is_available": lambda: True,
    "is_bf16_supported": lambda including_emulation=True: True,
    "max_memory_allocated": lambda device=None: 0,
    "memory_allocated": lambda device=None: 0,
    "reset_peak_memory_stats": lambda device=None: None,
    "synchronize": lambda device=None: None,
}


class GPUTensor(Tensor):
    """A tensor that is named as on GPU 0."""

    @classmethod
    def __torch_function__(cls, func, types, args=(), kwargs=None):
        return _call(func, args, kwargs or {})

    def __reduce_ex__(self, protocol):
        return self.cpu().__reduce_ex__(protocol)


class _Mode(TorchFunctionMode):
    def __torch_function__(self, func, types, args=(), kwargs=None):
        return _call(func, args, kwargs or {})


@contextlib.contextmanager
def simulated_gpu() -> Iterator[None]:
    """In the block, "cuda" is a device: `device="cuda"` and `.to("cuda")` give `GPUTensor`s."""
    empty = torch.empty
    with pytest.MonkeyPatch.context() as patch, _Mode():
        for name, value in _CUDA.items():
            patch.setattr(torch.cuda, name, value)
        # The memory that a GPU reads by itself is asked for in threads too, where the mode is not
        patch.setattr(torch, "empty", lambda *args, pin_memory=False, **named: empty(*args, **named))
        patch.setattr(Tensor, "pin_memory", lambda self, device=None: self)
        patch.setattr(
            torch.optim.Optimizer, "_accelerator_graph_capture_health_check", lambda self: None, raising=False
        )
        # The type of a parameter says where it is, so one that is moved must be made anew
        patch.setattr(torch.__future__, "_overwrite_module_params_on_conversion", True)
        yield


def _call(func, args: tuple, kwargs: dict[str, Any]) -> Any:
    tensors = [x for x in tree_leaves((args, kwargs)) if isinstance(x, Tensor)]
    any_on_gpu = any(_is_on_gpu(tensor) for tensor in tensors)
    if func in (Tensor.to, Tensor.cpu, Tensor.cuda):
        return _moved(func, *args, **kwargs)
    if func is torch._has_compatible_shallow_copy_type:
        return _is_on_gpu(args[0]) == _is_on_gpu(args[1])
    if any_on_gpu and func in _NAMED:
        return _NAMED[func]
    if any_on_gpu and func in (Tensor.numpy, Tensor.__array__):
        raise TypeError("can't convert cuda:0 device type tensor to numpy")
    device = kwargs.get("device")
    if device is None:
        on_gpu = any_on_gpu
        if any_on_gpu and not _may_mix(func, args):
            _refuse_a_mixture(func, tensors)
    else:
        on_gpu, kwargs = _names_gpu(device), {**kwargs, "device": "cpu"}
    leaf = device is not None and kwargs.pop("requires_grad", False)  # renamed, it would no longer be one
    with torch._C.DisableTorchFunctionSubclass():
        result = func(*args, **kwargs)
    known = {id(tensor) for tensor in tensors}  # in-place functions return what they were given
    result = tree_map(lambda x: _placed(x, on_gpu) if isinstance(x, Tensor) and id(x) not in known else x, result)
    return result.requires_grad_() if leaf else result


_NAMED = {
    Tensor.device.__get__: torch.device("cuda", 0),
    Tensor.is_cuda.__get__: True,
    Tensor.is_cpu.__get__: False,
}


def _is_on_gpu(tensor: Tensor) -> bool:
    return isinstance(tensor, GPUTensor)


def _placed(tensor: Tensor, on_gpu: bool) -> Tensor:
    """The same memory under the name of a device."""
    if _is_on_gpu(tensor) == on_gpu:
        return tensor
    with torch._C.DisableTorchFunctionSubclass():
        return tensor.as_subclass(GPUTensor if on_gpu else Tensor)


def _names_gpu(device: object) -> bool:
    return str(device).startswith("cuda")


def _moved(func, tensor: Tensor, *args, **kwargs) -> Tensor:
    """What `to`, `cpu` and `cuda` return: a copy where the device is another one."""
    on_gpu = _is_on_gpu(tensor)
    device, other = kwargs.pop("device", None), None
    dtypes = []
    for value in args:
        if isinstance(value, Tensor):
            other = value
        elif isinstance(value, str | torch.device):
            device = value
        elif isinstance(value, torch.dtype):
            dtypes.append(value)
    if other is not None:
        device, dtypes = ("cuda" if _is_on_gpu(other) else "cpu"), [other.dtype]
    if func is not Tensor.to:
        device = "cpu" if func is Tensor.cpu else "cuda"
    wanted = on_gpu if device is None else _names_gpu(device)
    kwargs.pop("non_blocking", None)
    with torch._C.DisableTorchFunctionSubclass():
        result = tensor.to(*dtypes, **kwargs) if dtypes or kwargs else tensor
        if wanted != on_gpu and result.data_ptr() == tensor.data_ptr():
            result = result.clone()
    return _placed(result, wanted)


def _may_mix(func, args: tuple) -> bool:
    """Copies cross devices, and a GPU's tensor takes indices that lie on the CPU."""
    if func is Tensor.__setitem__:
        by_index = any(isinstance(x, Tensor) for x in tree_leaves(args[1]))
        return not by_index or not isinstance(args[2], Tensor) or _is_on_gpu(args[2]) == _is_on_gpu(args[0])
    return func is Tensor.copy_ or (func is Tensor.__getitem__ and _is_on_gpu(args[0]))


def _refuse_a_mixture(func, tensors: list[Tensor]) -> None:
    with torch._C.DisableTorchFunctionSubclass():
        shapes = [tuple(x.shape) for x in tensors if not _is_on_gpu(x) and x.dim() > 0]
    if shapes:
        raise RuntimeError(
            f"{func.__name__}: expected all tensors on cuda:0, but found one of shape {shapes} on the CPU"
        )
