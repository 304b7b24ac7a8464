"""Compare detections whose order is undefined where scores are equal, or equal after rounding."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from lib.boxes import overlaps
from lib.models.postprocess import RawDetections
from lib.structures import Detections, Frame
from tools.parity.original_rules import POSTPROCESS
from tools.parity.rows import Recording

PIXELS = 1e-3  # of the original frame, or of the network's input for RoIs
SCORES = 1e-5


def detections_of(boxes: Tensor, probabilities: Tensor) -> Detections:
    """What post-processing by the originals' rule leaves of one image: boxes (R, 4), probabilities (R, K)."""
    image = Frame(torch.empty(3, 0, 0), scale=1.0)
    (found,) = POSTPROCESS(RawDetections([image], boxes[None], probabilities[None]))
    return found


def as_rows(labels, boxes, scores) -> np.ndarray:
    """Columns -> rows (class, x1, y1, x2, y2, score), as recorded."""
    return np.column_stack([np.asarray(x, np.float64) for x in (labels, boxes, scores)])


def compare_rows(recording: Recording, array: str, found: np.ndarray, note: str = "") -> bool:
    """Add the row of recorded detections: the same boxes in the same order wherever scores are distinct.

    Rows of one class may have changed places only where their recorded scores differ by no more than scores may.
    """
    expected = recording[array]
    if found.shape != expected.shape or (found[:, 0] != expected[:, 0]).any():
        recording.fail(array, f"{len(found)} detections here, {len(expected)} recorded, or other classes; {note}")
        return False
    place = _places(found, expected)
    boxes = np.abs(found[place, 1:5] - expected[:, 1:5]).max(initial=0.0)
    scores = np.abs(found[place, 5] - expected[:, 5]).max(initial=0.0)
    moved = int((place != np.arange(len(place))).sum())
    if not _order_is_free(place, expected):
        recording.fail(array, f"{moved} detections with distinct scores are in another order; {note}")
        return False
    notes = [
        f"scores within {scores:.1e} of {SCORES:.0e}",
        f"{moved} nearly tied rows changed places" * bool(moved),
        note,
    ]
    boxes = boxes if scores <= SCORES else np.inf
    largest = np.abs(expected[:, 1:5]).max(initial=0.0)
    return recording.judge(array, boxes, boxes / max(largest, 1.0), PIXELS, "abs", "; ".join(filter(None, notes)))


def _places(found: np.ndarray, expected: np.ndarray) -> np.ndarray:
    """For each recorded row the row of `found` that it is: the nearest of its class that is still free."""
    place = np.arange(len(expected))
    free = np.ones(len(found), bool)
    scale = np.array([1.0, 1, 1, 1, 100.0])  # a score counts too, where boxes coincide
    for row, wanted in enumerate(expected):
        candidates = np.flatnonzero(free & (found[:, 0] == wanted[0]))
        distance = (np.abs(found[candidates, 1:] - wanted[1:]) * scale).max(axis=1)
        place[row] = candidates[distance.argmin()]
        free[place[row]] = False
    return place


def _order_is_free(place: np.ndarray, expected: np.ndarray) -> bool:
    """Whether all rows that changed their order have scores that rounding could swap."""
    first, second = np.nonzero(np.triu(place[:, None] > place[None, :], k=1))
    return bool((np.abs(expected[first, 5] - expected[second, 5]) <= 2 * SCORES).all())


def not_suppressed(boxes: np.ndarray, scores: np.ndarray, kept: np.ndarray, threshold: float, least: float) -> str:
    """Why `kept` (indices) cannot be the result of NMS for one class; "" if it can, for some order of ties.

    That is so exactly when no two kept boxes overlap by more than `threshold`, and every other box that scores `least`
    or more overlaps a kept one that scores no less.
    """
    iou = overlaps(torch.from_numpy(boxes), torch.from_numpy(boxes)).numpy()
    among = iou[np.ix_(kept, kept)] > threshold
    if (among & ~np.eye(len(kept), dtype=bool)).any():
        return "two of the kept boxes suppress each other"
    others = np.setdiff1d(np.flatnonzero(scores >= least), kept)
    excused = ((iou[np.ix_(others, kept)] > threshold) & (scores[kept] >= scores[others, None])).any(axis=1)
    return "" if excused.all() else "a box is missing that nothing suppresses"
