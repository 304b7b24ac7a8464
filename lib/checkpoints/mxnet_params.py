"""MXNet's parameter files (`mx.nd.save`), read and written without MXNet, in every dense layout from 0.8 to 1.9.

A file is a list of arrays, then a list of as many names, or of none. All numbers are little-endian:

    uint64 0x112, uint64 0, uint64 number of arrays, the arrays, uint64 number of names, (uint64 length, bytes) each

The layouts differ in how an array begins. After that come the device (two int32, ignored: it may be a GPU), the
type (int32) and the values. An array without a value ends after its shape.

    legacy (to 0.10)    uint32 ndim, uint32 dimensions; without a value: ndim 0
    v1 (0.11)           uint32 0xF993FAC8, uint32 ndim, int64 dimensions; without a value: ndim 0
    v2 (from 0.12)      uint32 0xF993FAC9, int32 storage (0: dense), then as v1
    v3 (from 1.5)       uint32 0xF993FACA, then as v2, but ndim 0 is a scalar and ndim -1 an array without a value
"""

from __future__ import annotations

import math
import os
import stat
import struct
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

import numpy as np

from lib.errors import InputError
from lib.files import writing

LAYOUTS = ("legacy", "v1", "v2", "v3")

_LIST_MAGIC = 0x112
_ARRAY_MAGIC = {"v1": 0xF993FAC8, "v2": 0xF993FAC9, "v3": 0xF993FACA}
_TYPE_NAMES = "float32 float64 float16 uint8 int32 int8 int64 bool int16 uint16 uint32 uint64"  # numbers 0, 1, ...
_DTYPES = [np.dtype(name).newbyteorder("<") for name in _TYPE_NAMES.split(" ")]
_NUMBERS = {dtype: number for number, dtype in enumerate(_DTYPES)}
_BFLOAT16 = 12
_STORAGE = {1: "row-sparse", 2: "compressed-sparse-row"}
_CPU = (1, 0)  # the device that is written
_MOST_DIMENSIONS = 32
_LARGEST_DIMENSION = 2**63 - 1


class ParamsError(InputError):
    """A parameter file that cannot be read or written; the message names the file, and the byte where reading ended."""


@dataclass
class ParamsFile:
    """The contents of a parameter file, in order. names: one per array, or none at all. layout: of the first array.

    An array without a value is float32 of shape (0,).
    """

    names: list[str]
    arrays: list[np.ndarray]
    layout: str = field(default="v2", compare=False)

    def named(self) -> dict[str, np.ndarray]:
        """Name -> array. Raises ParamsError for a file without names."""
        if len(self.names) != len(self.arrays):
            raise ParamsError(f"{len(self.arrays)} arrays, but {len(self.names)} names: these arrays have no names")
        return dict(zip(self.names, self.arrays, strict=True))


def is_params(path: str | os.PathLike) -> bool:
    """Whether the file at `path` begins like a parameter file, whatever its name."""
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):
            return False
        with open(path, "rb") as file:
            return file.read(8) == struct.pack("<Q", _LIST_MAGIC)
    except OSError:
        return False


def read_params(path: str | os.PathLike) -> ParamsFile:
    """Read every array of the file at `path`, byte for byte, with its name if there are names.

    Raises ParamsError for a file that is missing, of another format, cut off, too long, inconsistent, or has arrays
    that NumPy does not support (sparse, bfloat16). Memory is bounded by the size of the file.
    """
    path = Path(path)
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):
            raise ParamsError(f"{path}: not a file")
        with open(path, "rb") as file:
            return _parse(_Bytes(path, file, os.fstat(file.fileno()).st_size))
    except OSError as error:
        raise ParamsError(f"{path}: cannot be read ({error.strerror or error})") from error


class _Bytes:
    """The unread part of a file. Reading past its end is a ParamsError, found before anything is allocated."""

    def __init__(self, path: Path, file: BinaryIO, size: int) -> None:
        self.path, self.file, self.size, self.offset = path, file, size, 0

    @property
    def left(self) -> int:
        return self.size - self.offset

    def error(self, text: str, offset: int | None = None) -> ParamsError:
        return ParamsError(f"{self.path}: byte {self.offset if offset is None else offset}: {text}")

    def expect(self, count: int, what: str) -> None:
        """Raise ParamsError unless `count` more bytes are left."""
        if count > self.left:
            raise self.error(f"{what} needs {count} bytes, but the file of {self.size} bytes has {self.left} more")

    def read(self, count: int, what: str) -> np.ndarray:
        """The next `count` bytes, (count,) uint8."""
        self.expect(count, what)
        values = np.empty(count, np.uint8)
        if self.file.readinto(values) != count:
            raise self.error(f"{what}: the file became shorter while it was read")
        self.offset += count
        return values

    def numbers(self, form: str, what: str) -> tuple[int, ...]:
        """The next numbers, in `struct`'s form without the byte order."""
        return struct.unpack(f"<{form}", self.read(struct.calcsize(f"<{form}"), what).tobytes())


def _parse(data: _Bytes) -> ParamsFile:
    magic, _ = data.numbers("QQ", "the file's head")  # MXNet ignores the second
    if magic != _LIST_MAGIC:
        raise data.error(f"not an MXNet parameter file (it begins with {magic:#x})", 0)
    (count,) = data.numbers("Q", "the number of arrays")
    data.expect(4 * count, f"a list of {count} arrays")
    arrays, layouts = [], []
    for index in range(count):
        array, layout = _read_array(data, f"array {index + 1} of {count}")
        arrays.append(array)
        layouts.append(layout)
    names = _read_names(data, count)
    if data.left:
        raise data.error(f"{data.left} more bytes after the end of the last name")
    return ParamsFile(names, arrays, layouts[0] if layouts else "v2")


def _read_array(data: _Bytes, what: str) -> tuple[np.ndarray, str]:
    """The next array and the name of its layout."""
    layout, shape = _read_shape(data, what)
    if shape is None:
        return np.empty(0, np.float32), layout
    data.numbers("ii", f"{what}: its device")
    at = data.offset
    (number,) = data.numbers("i", f"{what}: its type")
    if not 0 <= number < len(_DTYPES):
        name = "bfloat16, which NumPy does not have" if number == _BFLOAT16 else f"unknown (number {number})"
        raise data.error(f"{what}: its type is {name}; save the file with float32 arrays", at)
    dtype = _DTYPES[number]
    size = math.prod(shape) * dtype.itemsize
    if size == 0 and math.prod(max(n, 1) for n in shape) * dtype.itemsize > _LARGEST_DIMENSION:
        raise data.error(f"{what}: no array has the shape {shape}", at)
    return data.read(size, f"{what}: an array of shape {shape}, {dtype.name},").view(dtype).reshape(shape), layout


def _read_shape(data: _Bytes, what: str) -> tuple[str, tuple[int, ...] | None]:
    """Layout and shape of the next array; the shape is None if it has no value."""
    start = data.offset
    (magic,) = data.numbers("I", what)
    layout = next((name for name, number in _ARRAY_MAGIC.items() if number == magic), "legacy")
    if layout in ("v2", "v3"):
        (storage,) = data.numbers("i", f"{what}: its storage type")
        if storage:
            kind = _STORAGE.get(storage, f"unknown (number {storage})")
            raise data.error(f"{what}: its storage is {kind}; only dense arrays can be read", start + 4)
    at = data.offset if layout != "legacy" else start
    ndim = magic if layout == "legacy" else data.numbers("i", f"{what}: its number of dimensions")[0]
    if ndim == (-1 if layout == "v3" else 0):
        return layout, None
    if not 0 <= ndim <= _MOST_DIMENSIONS:
        known = "" if layout != "legacy" else f", nor is {magic:#x} a known array layout"
        raise data.error(f"{what}: {ndim} dimensions, not 0 to {_MOST_DIMENSIONS}{known}", at)
    at = data.offset
    shape = data.numbers(f"{ndim}{'I' if layout == 'legacy' else 'q'}", f"{what}: its {ndim} dimensions")
    if any(n < 0 for n in shape):
        raise data.error(f"{what}: a dimension below 0 in the shape {shape}", at)
    return layout, shape


def _read_names(data: _Bytes, arrays: int) -> list[str]:
    start = data.offset
    (count,) = data.numbers("Q", "the number of names")
    if count not in (0, arrays):
        raise data.error(f"{count} names for {arrays} arrays", start)
    names: dict[str, None] = {}
    for index in range(count):
        at = data.offset
        what = f"name {index + 1} of {count}"
        (length,) = data.numbers("Q", f"{what}: its length")
        try:
            name = data.read(length, what).tobytes().decode("utf-8")
        except UnicodeDecodeError as error:
            raise data.error(f"{what}: not UTF-8 text", at + 8) from error
        if name in names:
            raise data.error(f"{what}: '{name}' is there twice", at)
        names[name] = None
    return list(names)


def write_params(path: str | os.PathLike, params: ParamsFile, layout: str = "v2") -> Path:
    """Write `params` to `path` in one of LAYOUTS, whole or not at all.

    Arrays of shape (0,) are written as arrays without a value, except in v3. Raises ParamsError for what the layout
    cannot hold (a scalar, except in v3; types other than numbers; a number of names that is not the arrays'),
    OutputError where `path` cannot be written.
    """
    path = Path(path)
    if layout not in LAYOUTS:
        raise ValueError(f"layout must be one of {LAYOUTS}, not {layout!r}")
    if params.names and len(params.names) != len(params.arrays) or len(set(params.names)) != len(params.names):
        raise ParamsError(f"{path}: not written: {len(params.arrays)} arrays need as many different names, or none")
    with writing(path) as file:
        file.write(struct.pack("<QQQ", _LIST_MAGIC, 0, len(params.arrays)))
        for index, array in enumerate(params.arrays):
            name = f"'{params.names[index]}'" if params.names else f"array {index + 1}"
            _write_array(file, np.asarray(array), layout, f"{path}: not written: {name}")
        file.write(struct.pack("<Q", len(params.names)))
        for name in params.names:
            text = name.encode("utf-8")
            file.write(struct.pack("<Q", len(text)) + text)
    return path


def _write_array(file: BinaryIO, array: np.ndarray, layout: str, where: str) -> None:
    dtype = array.dtype.newbyteorder("<")
    if dtype not in _NUMBERS:
        raise ParamsError(f"{where} is of type {array.dtype}, which MXNet does not have")
    if array.ndim == 0 and layout != "v3":
        raise ParamsError(f"{where} is a scalar, which only the layout v3 can hold")
    if array.ndim > _MOST_DIMENSIONS or (layout == "legacy" and any(n >= 2**32 for n in array.shape)):
        raise ParamsError(f"{where} has the shape {array.shape}, too large for the layout {layout}")
    shape = () if array.shape == (0,) and layout != "v3" else array.shape
    if layout != "legacy":
        file.write(struct.pack("<I", _ARRAY_MAGIC[layout]))
    if layout in ("v2", "v3"):
        file.write(struct.pack("<i", 0))
    file.write(struct.pack(f"<I{len(shape)}{'I' if layout == 'legacy' else 'q'}", len(shape), *shape))
    if shape or layout == "v3":
        file.write(struct.pack("<iii", *_CPU, _NUMBERS[dtype]))
        file.write(np.asarray(array, dtype, order="C").tobytes())
