"""Read one cell array of numbers out of a MATLAB file (level 5, as MATLAB 5 to 7 write it), every length checked.

SciPy's reader ends the process on some damaged files. A file is a header of 128 bytes and elements: a tag of type and
length, then the data, filled up to a multiple of 8 bytes. Elements of up to 4 bytes have both lengths in half a tag. An
array is an element that holds elements: flags, dimensions, name, and the values or, for a cell array, the arrays.
"""

from __future__ import annotations

import math
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

_HEADER = 128
_INT32, _ARRAY, _COMPRESSED = 5, 14, 15
_TYPES = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8", 12: "i8", 13: "u8"}
_CELLS, _NUMBERS = 1, range(6, 16)  # classes of arrays
_COMPLEX, _DOUBLES = 0x800, 6
_MATRIX = struct.Struct("<IIIIIIiiIIII")  # flags, dimensions and no name, each with its tag, and the tag of the values
_MOST = 1 << 30  # bytes of a variable that are unpacked


class MatError(ValueError):
    """A file that is no MATLAB file of level 5, is damaged or holds something else under the name; the message says
    what the file is."""


@dataclass
class _Array:
    """The header of an array. rest: the elements that follow."""

    kind: int
    shape: tuple[int, ...]
    name: str
    rest: Iterator[tuple[int, memoryview]]


def read_cells(content: bytes, name: str) -> list[np.ndarray]:
    """The cells of the cell array `name`, column by column, each an array of its own shape.

    A cell of no bytes at all, as MATLAB writes an empty one, is (1, 0): SciPy, with which the originals read, has it
    so. Raises MatError; KeyError where the file has no such variable.
    """
    if len(content) < _HEADER or content[126:128] not in (b"IM", b"MI"):
        raise MatError("is not a MATLAB file of version 7 or older")
    order = "<" if content[126:128] == b"IM" else ">"
    if struct.unpack(f"{order}H", content[124:126])[0] >> 8 != 1:
        raise MatError("is not a MATLAB file of version 7 or older; save it with -v7")
    for kind, data in _elements(memoryview(content)[_HEADER:], order):
        if kind == _COMPRESSED:
            kind, data = next(_elements(memoryview(_unpacked(data)), order), (0, data))
        if kind == _ARRAY:
            found = _array(data, order)
            if found.name == name:
                if found.kind != _CELLS:
                    raise MatError(f"has a '{name}' that is not a cell array")
                return _cells(found, order)
    raise KeyError(name)


def _unpacked(data: memoryview) -> bytes:
    unpacker = zlib.decompressobj()
    try:
        content = unpacker.decompress(data, _MOST)
    except zlib.error as error:
        raise MatError(f"is damaged: a compressed part cannot be unpacked ({error})") from error
    if unpacker.unconsumed_tail:
        raise MatError(f"has a variable of more than {_MOST} bytes")
    return content


def _elements(data: memoryview, order: str) -> Iterator[tuple[int, memoryview]]:
    """(type, data) of each element of `data`."""
    tag, at = struct.Struct(f"{order}II"), 0
    while at < len(data):
        if at + 8 > len(data):
            raise MatError("is cut off")
        kind, count = tag.unpack_from(data, at)
        if kind >> 16:  # both in the first half of the tag
            kind, count, begin, step = kind & 0xFFFF, kind >> 16, at + 4, 8
            if count > 4:
                raise MatError(f"is damaged: a small element of {count} bytes")
        else:
            begin = at + 8
            step = 8 + count + (0 if kind == _COMPRESSED else -count % 8)
        if begin + count > len(data):
            raise MatError(f"is damaged or cut off: an element of {count} bytes where {len(data) - begin} are left")
        yield kind, data[begin : begin + count]
        at += step


def _array(data: memoryview, order: str) -> _Array:
    elements = _elements(data, order)
    flags = _numbers(elements, order)
    shape = tuple(_numbers(elements, order).tolist())
    if len(flags) != 2 or not 2 <= len(shape) <= 32 or any(n < 0 for n in shape):
        raise MatError(f"is damaged: an array of shape {shape}")
    name = next(elements, (0, b""))[1]
    return _Array(int(flags[0]) & 0xFF | int(flags[0]) & _COMPLEX, shape, bytes(name).decode("latin-1"), elements)


def _cells(array: _Array, order: str) -> list[np.ndarray]:
    count = math.prod(array.shape)
    cells = []
    for kind, data in array.rest:
        if kind != _ARRAY or len(cells) == count:
            raise MatError("is damaged: a cell array with something else than its cells")
        cells.append(_plain(data, order) if len(data) else np.zeros((1, 0)))
    if len(cells) != count:
        raise MatError(f"is damaged: a cell array of {count} cells with {len(cells)}")
    return cells


def _plain(data: memoryview, order: str) -> np.ndarray:
    """The values of an array of real numbers; the form that most have, an unnamed matrix of doubles, in one step."""
    if order == "<" and len(data) >= _MATRIX.size:
        tag, size, flags, _, dims, dims_size, rows, columns, _, name, kind, count = _MATRIX.unpack_from(data)
        usual = (tag, size, flags & 0xFFF, dims, dims_size, name, kind) == (6, 8, _DOUBLES, _INT32, 8, 0, 9)
        fits = rows >= 0 and columns >= 0 and 8 * rows * columns == count <= len(data) - _MATRIX.size
        if usual and fits:
            return np.frombuffer(data, "<f8", rows * columns, _MATRIX.size).reshape(rows, columns, order="F")
    return _values(_array(data, order), order)


def _values(array: _Array, order: str) -> np.ndarray:
    if array.kind not in _NUMBERS:
        raise MatError("has cells that are not numbers")
    values = _numbers(array.rest, order) if math.prod(array.shape) else np.zeros(0)
    if len(values) != math.prod(array.shape):
        raise MatError(f"is damaged: an array of shape {array.shape} with {len(values)} values")
    return values.reshape(array.shape, order="F")


def _numbers(elements: Iterator[tuple[int, memoryview]], order: str) -> np.ndarray:
    """The next element as numbers: (n,)."""
    kind, data = next(elements, (0, memoryview(b"")))
    if kind not in _TYPES:
        raise MatError(f"is damaged: an element of type {kind} where numbers should be")
    dtype = np.dtype(order + _TYPES[kind])
    if len(data) % dtype.itemsize:
        raise MatError(f"is damaged: {len(data)} bytes of {dtype} numbers")
    return np.frombuffer(data, dtype)
