"""Average precision of ImageNet VID, for all objects or for a motion and size range (docs/rules.md, section 6).

All arithmetic is float64, and equal scores keep the order of frame, then of the results file. The numbers are those of
the originals with stable sorting, and of the official development kit.

Matching does not depend on the range: a detection is matched first, and then ignored if its object lies outside the
range. Matching is therefore done once, and each range only computes new weights of the detections. The loop over frames
is compiled from `_weighing.pyx`; `mean_ap_reference.py` is the readable reference.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from lib.evaluation.compiled import load_compiled
from lib.evaluation.results_file import DetectionTable

if TYPE_CHECKING:
    from lib.structures import GroundTruth

_weighing = load_compiled("_weighing", __name__)

_FILTER_ARRAYS = (("moves", np.bool_), ("inside", np.bool_), ("undecided", np.float64))  # of `_Filter`


@dataclass(frozen=True)
class ObjectRange:
    """A range of objects, both ends included: motion is their motion IoU, area their (x2 - x1 + 1) (y2 - y1 + 1)."""

    name: str
    motion: tuple[float, float] = (0.0, 1.0)
    area: tuple[float, float] = (0.0, 1e10)


MOTION_RANGES = (
    ObjectRange("all", (0.0, 1.0)),
    ObjectRange("fast", (0.0, 0.7)),
    ObjectRange("medium", (0.7, 0.9)),
    ObjectRange("slow", (0.9, 1.0)),
)


@dataclass
class RangeResult:
    """APs of one range. ap: (K,) float64, one per foreground class; NaN where the range has no object of the class."""

    range: ObjectRange
    ap: np.ndarray
    objects: np.ndarray = field(repr=False)  # (K,) int64, how many objects of each class the range has

    @property
    def mean_ap(self) -> float:
        """Mean over the classes that have objects; NaN without any."""
        known = self.ap[~np.isnan(self.ap)]
        return float(known.mean()) if len(known) else float("nan")


def mean_ap(
    truth: GroundTruth,
    detections: DetectionTable,
    motion_iou: np.ndarray | None = None,
    ranges: Sequence[ObjectRange] = MOTION_RANGES,
    zero_entries: int | None = None,
) -> list[RangeResult]:
    """Compute AP per class for each of `ranges`.

    detections: any order; frames and labels within the truth's. motion_iou: (G,) float64, of every object; may be left
    out only where every range has motion (0, 1). zero_entries: how many frames without objects count as one motion IoU
    of 0 each in the share of motion values (see `_Filter.undecided`); None: all, as in ImageNet VID's official file.
    Raises ValueError for a motion_iou of another length.
    """
    if motion_iou is None:
        if any(r.motion != (0.0, 1.0) for r in ranges):
            raise ValueError("motion ranges need the motion IoU of the objects")
        motion_iou = np.ones(len(truth.labels))
    if motion_iou.shape != (len(truth.labels),):
        raise ValueError(f"motion IoU of shape {motion_iou.shape} for {len(truth.labels)} objects")
    detections = detections.sorted_by_frame()
    if zero_entries is None:
        zero_entries = int((np.diff(truth.offsets) == 0).sum())
    filters = [_Filter(r, truth, motion_iou, zero_entries) for r in ranges]
    hit, miss = _weigh(truth, detections, filters)

    classes = len(truth.class_names)
    results = [RangeResult(f.range, np.full(classes, np.nan), f.objects) for f in filters]
    for label, rows in by_class(detections, classes):
        for result, true, false in zip(results, hit, miss, strict=True):
            if result.objects[label - 1]:
                result.ap[label - 1] = average_precision(true[rows], false[rows], result.objects[label - 1])
    return results


def average_precision(true: np.ndarray, false: np.ndarray, objects: int) -> float:
    """Area under the precision envelope, at every point of the curve.

    true: (n,) bool, false: (n,) float64 in [0, 1]: the detections of one class by descending score, both 0 for an
    ignored one. objects: how many there are to be found, at least 1.
    """
    return float(best_precision(true, false).sum() / objects)  # recall rises by 1 / objects at each true positive


def best_precision(true: np.ndarray, false: np.ndarray) -> np.ndarray:
    """(t,) float64: for each true positive, by descending score, the best precision at its recall or a higher one.

    true, false: (n,) as for `average_precision`. The i-th value belongs to the recall (i + 1) / objects.
    """
    found, wrong = np.cumsum(true, dtype=np.float64), np.cumsum(false, dtype=np.float64)
    precision = found / np.maximum(found + wrong, np.finfo(np.float64).eps)
    envelope = np.maximum.accumulate(precision[::-1])[::-1]
    return envelope[true]


def overlap_thresholds(boxes: np.ndarray) -> np.ndarray:
    """(G, 4) -> (G,): IoU threshold of each object: 0.5, less for small ones."""
    sides = boxes[:, 2:] - boxes[:, :2] + 1
    return np.minimum(0.5, box_areas(boxes) / ((sides[:, 0] + 10) * (sides[:, 1] + 10)))


class _Filter:
    """A range applied to the ground truth.

    moves: (G,) bool, the objects whose motion lies in the range. inside: (G,) bool, those of them that count, having
    the right size too. objects: (K,) int64, number of these per class.
    undecided: (F,) float64, false-positive weight of an unmatched detection that overlaps the objects of this motion
    and those of another equally. In a frame without objects it is the share of all motion values that lie in the
    range, elsewhere the share of the frame's objects of ANOTHER motion, as in the originals.
    """

    def __init__(self, wanted: ObjectRange, truth: GroundTruth, motion_iou: np.ndarray, zero_entries: int) -> None:
        self.range = wanted
        self.moves = _within(motion_iou, wanted.motion)
        self.inside = self.moves & _within(box_areas(truth.boxes), wanted.area)
        self.objects = np.bincount(truth.labels[self.inside] - 1, minlength=len(truth.class_names))
        zeros = zero_entries if wanted.motion[0] <= 0 <= wanted.motion[1] else 0
        share = (self.moves.sum() + zeros) / max(len(motion_iou) + zero_entries, 1)
        per_frame = np.diff(truth.offsets)
        others = np.bincount(truth.frame_of_object()[~self.moves], minlength=truth.num_frames)
        self.undecided = np.where(per_frame == 0, share, others / np.maximum(per_frame, 1))


def box_areas(boxes: np.ndarray) -> np.ndarray:
    """(n, 4) -> (n,): pixels, corners included."""
    sides = boxes[:, 2:] - boxes[:, :2] + 1
    return sides[:, 0] * sides[:, 1]


def _within(values: np.ndarray, ends: tuple[float, float]) -> np.ndarray:
    return (values >= ends[0]) & (values <= ends[1])


def find_objects(truth: GroundTruth, detections: DetectionTable, any_class: bool = False) -> np.ndarray:
    """(n,) int64: the object that each detection finds, -1 for none, as for AP.

    By descending score every detection takes the object of its class (or of any class) with the largest IoU among those
    that are still free and whose threshold it reaches; of equal IoUs the first. detections: by ascending frame.
    """
    n = len(detections)
    found = np.empty(n, np.int64)
    arrays = [*_detection_arrays(detections), *_object_arrays(truth)]
    room = [np.empty(_most_in_a_frame(detections), np.int64), np.zeros(len(truth.labels), bool), found]
    before, after = ([array.ctypes.data for array in group] for group in (arrays, room))
    _weighing.find_objects(n, *before, any_class, *after)
    return found


def _weigh(truth: GroundTruth, detections: DetectionTable, filters: Sequence[_Filter]) -> tuple[np.ndarray, np.ndarray]:
    """For each filter, whether each detection is a true positive, (R, n) bool, and its false-positive weight, (R, n).

    detections: by ascending frame.
    """
    n, ranges = len(detections), len(filters)
    most = _most_in_a_frame(detections)
    hit, miss = np.empty((ranges, n), bool), np.empty((ranges, n))
    found, objects = _detection_arrays(detections), _object_arrays(truth)
    rules = _arrays(
        *((np.stack([getattr(f, name) for f in filters]), kind) for name, kind in _FILTER_ARRAYS),
        (np.array([f.range.area for f in filters]), float),
    )
    room = [np.empty(most, np.int64), np.empty(most, np.int64), np.zeros(len(truth.labels), bool)]
    addresses = ([array.ctypes.data for array in arrays] for arrays in (found, objects, rules, [*room, hit, miss]))
    f, o, r, made = addresses
    _weighing.weigh(n, *f, len(truth.labels), *o, ranges, truth.num_frames, *r, *made)
    return hit, miss


def _most_in_a_frame(detections: DetectionTable) -> int:
    """Largest number of detections in a frame; they are sorted by frame."""
    starts = np.flatnonzero(np.diff(detections.frames, prepend=-1))
    return int(np.diff(starts, append=len(detections)).max()) if len(starts) else 0


def _detection_arrays(detections: DetectionTable) -> list[np.ndarray]:
    return _arrays(
        (detections.frames, np.int32),
        (detections.labels, np.int16),
        (detections.scores, float),
        (detections.boxes, float),
    )


def _object_arrays(truth: GroundTruth) -> list[np.ndarray]:
    return _arrays(
        (truth.offsets, np.int64),
        (truth.labels, np.int64),
        (truth.boxes, float),
        (overlap_thresholds(truth.boxes), float),
    )


def _arrays(*pairs: tuple[np.ndarray, type]) -> list[np.ndarray]:
    """Each array contiguous and of its type, for the compiled loops."""
    return [np.ascontiguousarray(array, kind) for array, kind in pairs]


def paired_iou(boxes: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Row by row IoU of two (P, 4), inclusive corners, 0 where the boxes do not touch: (P,)."""
    width = np.minimum(boxes[:, 2], others[:, 2]) - np.maximum(boxes[:, 0], others[:, 0]) + 1
    height = np.minimum(boxes[:, 3], others[:, 3]) - np.maximum(boxes[:, 1], others[:, 1]) + 1
    touch = (width > 0) & (height > 0)
    shared = np.where(touch, width * height, 0.0)
    return shared / np.where(touch, box_areas(boxes) + box_areas(others) - shared, 1.0)


def by_class(detections: DetectionTable, classes: int) -> Iterator[tuple[int, np.ndarray]]:
    """Each label and the rows of its detections by descending score; equal scores in the order of the rows."""
    by_label = np.argsort(detections.labels, kind="stable")
    ends = np.searchsorted(detections.labels[by_label], np.arange(1, classes + 2))
    for label in range(1, classes + 1):
        rows = by_label[ends[label - 1] : ends[label]]
        yield label, rows[np.argsort(-detections.scores[rows], kind="stable")]
