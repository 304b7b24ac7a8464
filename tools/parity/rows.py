"""One row per recorded array: the error of this code, the tolerance, and how both were determined."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from lib.errors import InputError


class RecordingError(InputError):
    """A recording that cannot be compared; the message names the set, the array and what is wrong."""


@dataclass(frozen=True)
class Tolerance:
    """The largest accepted difference of two arrays: |a - b| <= absolute + relative * max|b|, for every element.

    element: if not 0, the bound is |a - b| <= absolute + element * |b| instead, each element by itself.
    """

    absolute: float = 0.0
    relative: float = 0.0
    element: float = 0.0


EXACT = Tolerance()


@dataclass(frozen=True)
class Row:
    """The comparison of one recorded array.

    max_abs: the largest |a - b|, for texts the number of different ones. max_rel: it over the largest |b|, or the
    largest of its elements (see `Tolerance.element`) where `measure` is "rel". Both are None where there is nothing to
    subtract, as with other shapes. tolerance: the bound on max_abs ("abs") or on max_rel ("rel"), as `measure` says.
    """

    set: str
    array: str
    max_abs: float | None
    max_rel: float | None
    tolerance: float
    measure: str
    passed: bool
    note: str = ""

    def to_json(self) -> dict:
        """The entry of the JSON file: plain numbers, never NaN or infinite."""
        names = ("set", "array", "max_abs", "max_rel", "tolerance", "measure", "note")
        return {name: getattr(self, name) for name in names} | {"pass": self.passed}


def failure(set_name: str, array: str, note: str) -> Row:
    """A failing row for an array that could not be compared."""
    return Row(set_name, array, None, None, 0.0, "abs", False, note)


class Recording:
    """The arrays of one recorded set, and the rows of what was compared with them.

    An array counts as known once it was compared, used as an input, or called information: `finish` makes a failing row
    of every other one, so that nothing is skipped in silence.
    """

    def __init__(self, name: str, arrays: Mapping[str, np.ndarray]) -> None:
        self.name = name
        self.rows: list[Row] = []
        self._arrays = dict(arrays)
        self._known: set[str] = set()

    def __contains__(self, array: str) -> bool:
        return array in self._arrays

    def __getitem__(self, array: str) -> np.ndarray:
        """The recorded array, which is not thereby known. Raises RecordingError where the set lacks it."""
        if array not in self._arrays:
            raise RecordingError(f"{self.name}: has no array '{array}'")
        return self._arrays[array]

    def input(self, array: str) -> np.ndarray:
        """A recorded array from which others are computed; a failing row if it holds NaN or infinite numbers."""
        value = self[array]
        if array not in self._known and value.dtype.kind == "f" and not np.isfinite(value).all():
            self.fail(array, "an input that is not finite")
        self._known.add(array)
        return value

    def number(self, array: str) -> float:
        """An input of one element."""
        value = self.input(array)
        if value.size != 1:
            raise RecordingError(f"{self.name}: '{array}' holds {value.size} numbers instead of one")
        return value.reshape(-1)[0].item()

    def information(self, *arrays: str) -> None:
        """Arrays that say how the recording was made and are compared with nothing; they need not be there."""
        self._known.update(arrays)

    def arrays(self) -> dict[str, np.ndarray]:
        """All recorded arrays by name; none becomes known by this."""
        return dict(self._arrays)

    def matching(self, pattern: str) -> list[re.Match]:
        """The names of arrays that match all of `pattern`, in order."""
        matches = (re.fullmatch(pattern, name) for name in sorted(self._arrays))
        return [match for match in matches if match]

    def compare(self, array: str, actual, tolerance: Tolerance = EXACT, note: str = "") -> bool:
        """Add the row of the recorded `array` beside `actual`, a tensor or an array; returns whether it passes."""
        self._known.add(array)
        return self.compare_with(array, actual, self[array], tolerance, note)

    def compare_with(self, array: str, actual, expected, tolerance: Tolerance = EXACT, note: str = "") -> bool:
        """`compare` with a given array: for what follows from recorded arrays, or is compared in another order."""
        actual, expected = np.atleast_1d(as_array(actual)), np.atleast_1d(expected)
        row = compare(self.name, array, actual, expected, tolerance, note)
        self.rows.append(row)
        return row.passed

    def judge(self, array: str, max_abs: float, max_rel: float, limit: float, measure: str, note: str = "") -> bool:
        """Add a row whose two errors were found elsewhere; returns whether it passes."""
        self._known.add(array)
        row = _row(self.name, array, max_abs, max_rel, limit, measure, note)
        self.rows.append(row)
        return row.passed

    def fail(self, array: str, note: str) -> None:
        """Add a failing row for an array that could not be compared."""
        self._known.add(array)
        self.rows.append(failure(self.name, array, note))

    def finish(self) -> list[Row]:
        """All rows, with a failing one for every array that was not used."""
        unknown = sorted(set(self._arrays) - self._known)
        return self.rows + [failure(self.name, array, "nothing here knows this array") for array in unknown]


def compare(
    set_name: str, array: str, actual: np.ndarray, expected: np.ndarray, tolerance: Tolerance, note: str = ""
) -> Row:
    """The row of two arrays of numbers or texts."""
    if actual.shape != expected.shape:
        shapes = f"shape {actual.shape} here, {expected.shape} recorded"
        return failure(set_name, array, "; ".join(filter(None, (shapes, note))))
    if not expected.size:
        return Row(set_name, array, 0.0, 0.0, 0.0, "abs", True, note)
    if expected.dtype.kind in "US" or actual.dtype.kind in "US":
        different = int((actual != expected).sum())
        return _row(set_name, array, different, different / expected.size, 0.0, "abs", note)
    error, size = _errors(actual.astype(np.float64), expected.astype(np.float64))
    if tolerance.element:
        floor = size + tolerance.absolute / tolerance.element
        each = np.divide(error, floor, out=np.where(error > 0, np.inf, 0.0), where=floor > 0)
        return _row(set_name, array, error.max(), each.max(), tolerance.element, "rel", note)
    largest = size.max()
    relative = error.max() / largest if largest else error.max()
    limit = tolerance.absolute + (tolerance.relative * largest if tolerance.relative else 0.0)
    return _row(set_name, array, error.max(), relative, limit, "abs", note)


def as_array(value) -> np.ndarray:
    """A tensor, on any device and with or without gradient, or anything that NumPy takes -> array."""
    return value.detach().cpu().numpy() if isinstance(value, Tensor) else np.asarray(value)


def worst(rows: Iterable[Row]) -> Row:
    """The failing row, if there is one, else the one that comes closest to its tolerance."""
    return max(rows, key=lambda row: (not row.passed, row.max_abs is None, used(row), row.max_rel or 0.0))


def used(row: Row) -> float:
    """The share of its tolerance that a row uses; 0 where both are 0."""
    error = row.max_rel if row.measure == "rel" else row.max_abs
    if not error:
        return 0.0
    return error / row.tolerance if row.tolerance else math.inf


def _errors(actual: np.ndarray, expected: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """|a - b|, 0 where both are NaN or the same infinity, infinite where only one is; and |b|, 0 where not finite."""
    with np.errstate(invalid="ignore"):
        error = np.abs(actual - expected)
    error[(actual == expected) | (np.isnan(actual) & np.isnan(expected))] = 0.0
    error[np.isnan(error)] = np.inf
    return error, np.where(np.isfinite(expected), np.abs(expected), 0.0)


def _row(set_name: str, array: str, max_abs: float, max_rel: float, limit: float, measure: str, note: str) -> Row:
    passed = bool((max_rel if measure == "rel" else max_abs) <= limit)
    finite = (float(value) if math.isfinite(value) else None for value in (max_abs, max_rel))
    return Row(set_name, array, *finite, float(limit), measure, passed, note)
