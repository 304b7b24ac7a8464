"""ckpt_*: parameter files as MXNet wrote them, exactly."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from lib.checkpoints.mxnet_params import read_params
from tools.parity.rows import EXACT, Recording


def compare_checkpoint(recording: Recording, path: Path) -> None:
    """`names` and the array a00, a01, ... of each, of the file at `path`. Raises its error where it cannot be read.

    A file of named arrays may hold them in another order; a list file has no names, and its order counts.
    """
    read = read_params(path)
    expected = recording.input("names").tolist()
    if path.name.startswith("ckpt_list_"):
        note = "a list file: no names"
        recording.compare_with("names", np.array([len(read.names), len(read.arrays)]), [0, len(expected)], EXACT, note)
        places = list(range(len(read.arrays)))
    else:
        recording.compare_with("names", np.sort(read.names), np.sort(expected))
        places = [read.names.index(name) if name in read.names else len(read.arrays) for name in expected]
    arrays = recording.matching(r"a\d+")
    if len(arrays) != len(expected):
        recording.fail("names", f"{len(expected)} names of {len(arrays)} arrays")
    for match, place in zip(arrays, places, strict=False):
        if place < len(read.arrays):
            _compare_array(recording, match[0], read.arrays[place])
        else:
            recording.fail(match[0], "the file has no array of its name")


def _compare_array(recording: Recording, array: str, actual: np.ndarray) -> None:
    if actual.dtype != recording[array].dtype:
        recording.fail(array, f"{actual.dtype} here, {recording[array].dtype} recorded")
    else:
        recording.compare(array, actual)
