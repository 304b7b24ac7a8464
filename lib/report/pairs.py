"""IoU of all pairs of detections and objects in the same frame."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from lib.evaluation.mean_ap import paired_iou
from lib.evaluation.results_file import DetectionTable
from lib.structures import GroundTruth

_CHUNK = 400_000  # detections looked at together; bounds the memory of the pairs


class Pairs:
    """Every detection of `rows` (whole frames) with every object of its frame, whatever their classes.

    detection: (P,) counted from the first row, ascending. object: (P,). iou: (P,) float64.
    """

    @staticmethod
    def chunks(truth: GroundTruth, detections: DetectionTable) -> Iterator[Pairs]:
        """All pairs of `detections`, which are sorted by frame, in parts that bound the memory."""
        return (Pairs(truth, detections, rows) for rows in _chunks(detections.frames))

    def __init__(self, truth: GroundTruth, detections: DetectionTable, rows: slice) -> None:
        self.rows = rows
        frames = detections.frames[rows]
        first, self._counts = truth.offsets[frames], truth.offsets[frames + 1] - truth.offsets[frames]
        self.detection = np.repeat(np.arange(len(frames)), self._counts)
        self._starts = np.cumsum(self._counts) - self._counts
        self.object = np.arange(len(self.detection)) - np.repeat(self._starts - first, self._counts)
        self.iou = paired_iou(detections.boxes[rows][self.detection], truth.boxes[self.object])

    def nearest(self, wanted: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(rows,) the largest IoU of each detection in the pairs that `wanted` (P,) names, and (rows,) int64 that
        object, of equal ones the first; both -1 where it has no such pair."""
        values = np.where(wanted, self.iou, -1.0)
        largest, nearest = np.full(len(self._counts), -1.0), np.full(len(self._counts), -1)
        some = self._counts > 0
        if some.any():
            largest[some] = np.maximum.reduceat(values, self._starts[some])
        best = np.flatnonzero(wanted & (values == largest[self.detection]))
        best = best[np.diff(self.detection[best], prepend=-1) != 0]
        nearest[self.detection[best]] = self.object[best]
        return largest, nearest


def _chunks(frames: np.ndarray) -> Iterator[slice]:
    """Row ranges of about `_CHUNK` detections that cut between frames; `frames` ascends."""
    start = 0
    while start < len(frames):
        end = len(frames)
        if start + _CHUNK < end:
            # The first row of the frame that the cut falls into, or of the next where that frame fills the chunk
            end = int(np.searchsorted(frames, frames[start + _CHUNK]))
            if end <= start:
                end = int(np.searchsorted(frames, frames[start], side="right"))
        yield slice(start, end)
        start = end
