"""The reader of MATLAB's cell arrays: what SciPy reads, in every form that SciPy writes; damaged files are errors."""

import struct
import zlib

import numpy as np
import pytest
import scipy.io

from lib.evaluation.mat_cells import MatError, read_cells
from lib.evaluation.motion import MotionError, read_motion


def random_cells(seed):
    rng = np.random.default_rng(seed)
    types = (np.float64, np.float32, np.int32, np.uint8, np.int64)
    cells = np.empty((rng.integers(1, 9), rng.integers(1, 4)), object)
    for place in np.ndindex(cells.shape):
        shape = tuple(rng.integers(0, 4, 2 + rng.integers(0, 2)))
        cells[place] = (100 * rng.random(shape)).astype(types[rng.integers(0, len(types))])
    return cells


@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize("seed", range(8))
def test_reads_what_scipy_reads(tmp_path, seed, compressed):
    variables = {"before": np.arange(5.0), "wanted": random_cells(seed), "after": "text"}
    scipy.io.savemat(tmp_path / "a.mat", variables, do_compression=compressed)
    expected = scipy.io.loadmat(tmp_path / "a.mat")["wanted"].reshape(-1, order="F")
    found = read_cells((tmp_path / "a.mat").read_bytes(), "wanted")
    assert len(found) == len(expected)
    for ours, theirs in zip(found, expected, strict=True):
        assert ours.shape == theirs.shape
        np.testing.assert_array_equal(ours, theirs)


def element(order, kind, data):
    return struct.pack(f"{order}II", kind, len(data)) + data + bytes(-len(data) % 8)


def matrix(order, kind, shape, name, rest):
    flags = element(order, 6, struct.pack(f"{order}II", kind, 0))
    dimensions = element(order, 5, struct.pack(f"{order}{len(shape)}i", *shape))
    return element(order, 14, flags + dimensions + element(order, 1, name) + rest)


def file(order, *elements, version=0x0100):
    header = b"made by hand".ljust(124) + struct.pack(f"{order}H", version)
    return header + (b"IM" if order == "<" else b"MI") + b"".join(elements)


@pytest.mark.parametrize("order", "<>")
def test_both_byte_orders_small_elements_and_empty_cells(order, tmp_path):
    small = struct.pack(f"{order}I", 2 << 16 | 2) + bytes([3, 4, 0, 0])  # two uint8 inside the tag
    cells = [
        matrix(order, 6, (2, 1), b"", element(order, 9, struct.pack(f"{order}2d", 0.25, 0.5))),
        matrix(order, 6, (1, 2), b"", small),
        element(order, 14, b""),  # as MATLAB writes an empty cell
        matrix(order, 6, (0, 0), b"", element(order, 9, b"")),
    ]
    content = file(order, matrix(order, 1, (4, 1), b"wanted", b"".join(cells)))
    (tmp_path / "a.mat").write_bytes(content)
    expected = scipy.io.loadmat(tmp_path / "a.mat")["wanted"][:, 0]
    found = read_cells(content, "wanted")
    assert [cell.shape for cell in found] == [cell.shape for cell in expected] == [(2, 1), (1, 2), (1, 0), (0, 0)]
    assert [cell.ravel().tolist() for cell in found] == [[0.25, 0.5], [3, 4], [], []]


NUMBER = matrix("<", 6, (1, 1), b"", element("<", 9, struct.pack("<d", 1)))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is not a MATLAB file"),
        (file("<", version=0x0200), "save it with -v7"),  # HDF5
        (file("<", b"\x0e\0\0\0"), "is cut off"),
        (file("<", struct.pack("<II", 14, 1 << 31)), "an element of 2147483648 bytes where 0 are left"),
        (file("<", element("<", 15, b"no zlib")), "a compressed part cannot be unpacked"),
        (file("<", matrix("<", 6, (1, 1), b"x", NUMBER)), "that is not a cell array"),
        (file("<", matrix("<", 1, (2, 1), b"x", NUMBER)), "a cell array of 2 cells with 1"),
        (file("<", matrix("<", 1, (1, 1), b"x", NUMBER + NUMBER)), "something else than its cells"),
        (file("<", matrix("<", 1, (-1, 1), b"x", b"")), "an array of shape"),
        (file("<", matrix("<", 1, (2**31 - 1,) * 3, b"x", b"")), "cells with 0"),
        (file("<", matrix("<", 1, (1, 1), b"x", matrix("<", 2, (1, 1), b"", b""))), "cells that are not numbers"),
        (file("<", matrix("<", 1, (1, 1), b"x", matrix("<", 0x806, (1, 1), b"", b""))), "cells that are not numbers"),
        (file("<", matrix("<", 1, (1, 1), b"x", matrix("<", 6, (9, 9), b"", b""))), "an element of type 0"),
        (file("<", matrix("<", 1, (1, 1), b"x", matrix("<", 6, (2, 1), b"", NUMBER[-16:]))), "with 1 values"),
    ],
)
def test_what_is_wrong_is_said(content, message):
    with pytest.raises(MatError, match=message):
        read_cells(content, "x")


def test_a_name_that_is_not_there():
    with pytest.raises(KeyError):
        read_cells(file("<", matrix("<", 1, (1, 1), b"y", NUMBER)), "x")


def test_a_variable_that_unpacks_to_more_than_the_limit(monkeypatch):
    monkeypatch.setattr("lib.evaluation.mat_cells._MOST", 1000)
    content = file("<", element("<", 15, zlib.compress(bytes(10**6))))
    with pytest.raises(MatError, match="more than 1000 bytes"):
        read_cells(content, "x")


@pytest.mark.parametrize("compressed", [False, True])
def test_damaged_files_end_in_the_one_error_or_are_read(tmp_path, compressed):
    rng = np.random.default_rng(int(compressed))
    cells = np.empty((4, 1), object)
    for row, length in enumerate((2, 1, 0, 3)):
        cells[row, 0] = rng.random((length, 1))
    path = tmp_path / "a.mat"
    scipy.io.savemat(path, {"motion_iou": cells}, do_compression=compressed)
    good, read, errors = path.read_bytes(), 0, []
    for _ in range(1500):
        content = bytearray(good)
        for _ in range(rng.integers(1, 4)):
            content[rng.integers(0, len(content))] = rng.integers(0, 256)
        path.write_bytes(content[: rng.integers(0, len(content))] if rng.random() < 0.2 else content)
        try:
            read_motion(path)
            read += 1
        except MotionError as error:
            errors.append(str(error))
    assert read > 0
    assert errors
    assert all(error.startswith(f"{path}: ") for error in errors)
