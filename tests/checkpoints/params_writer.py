"""MXNet parameter files written from the description of the format alone, to test the reader against."""

from __future__ import annotations

import struct
from collections.abc import Sequence

import numpy as np

MAGIC = {"legacy": None, "v1": 0xF993FAC8, "v2": 0xF993FAC9, "v3": 0xF993FACA}
TYPES = {"f4": 0, "f8": 1, "f2": 2, "u1": 3, "i4": 4, "i1": 5, "i8": 6, "b1": 7}


def array_bytes(array: np.ndarray | None, layout: str, device: tuple[int, int] = (1, 0), storage: int = 0) -> bytes:
    """One array; None is an array without a value."""
    legacy = layout == "legacy"
    head = b"" if legacy else struct.pack("<I", MAGIC[layout])
    if layout in ("v2", "v3"):
        head += struct.pack("<i", storage)
    if array is None:
        return head + struct.pack("<i", -1 if layout == "v3" else 0)
    head += struct.pack("<I", array.ndim)
    for n in array.shape:
        head += struct.pack("<I" if legacy else "<q", n)
    values = b"".join(array[index].tobytes() for index in np.ndindex(array.shape))
    return head + struct.pack("<ii", *device) + struct.pack("<i", TYPES[array.dtype.str[1:]]) + values


def file_bytes(
    arrays: Sequence[np.ndarray | None], names: Sequence[str], layout: str, device: tuple[int, int] = (1, 0)
) -> bytes:
    content = struct.pack("<QQ", 0x112, 0) + struct.pack("<Q", len(arrays))
    for array in arrays:
        content += array_bytes(array, layout, device)
    content += struct.pack("<Q", len(names))
    for name in names:
        content += struct.pack("<Q", len(name.encode())) + name.encode()
    return content


def some_arrays() -> dict[str, np.ndarray]:
    """One of each type and of several shapes."""
    rng = np.random.default_rng(5)
    return {
        "arg:conv_weight": rng.standard_normal((3, 2, 5, 1)).astype(np.float32),
        "arg:double": rng.standard_normal((2, 3)),
        "arg:half": rng.standard_normal(7).astype(np.float16),
        "arg:bytes": rng.integers(0, 256, (2, 2), np.uint8),
        "arg:int": rng.integers(-9, 9, (4,), np.int32),
        "arg:small": rng.integers(-9, 9, (1, 1, 3), np.int8),
        "arg:long": rng.integers(-9, 9, (2,), np.int64),
        "arg:truth": np.array([True, False, True]),
        "aux:größe": rng.standard_normal(1).astype(np.float32),
    }
