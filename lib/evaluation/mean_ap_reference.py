"""Reference implementation of ImageNet VID's AP: one detection, one object, one range at a time.

Slow, and easy to check against docs/rules.md, section 6. The tests of `lib.evaluation.mean_ap` compare with it, and
`tools/benchmark_evaluation.py` times both. Equal scores can be ordered by another sorting method, to measure the effect
of ties.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from lib.evaluation.mean_ap import MOTION_RANGES, ObjectRange

if TYPE_CHECKING:
    from lib.structures import GroundTruth


def read_results_reference(path: str | os.PathLike) -> np.ndarray:
    """A results file, line by line: (n, 7) rows frame (0-based), label, score, x1, y1, x2, y2."""
    rows = []
    with open(path, encoding="ascii") as file:
        for line in file:
            frame_id, label, score, *box = line.split()
            rows.append([int(frame_id) - 1, int(label), float(score), *map(float, box)])
    return np.array(rows, np.float64).reshape(-1, 7)


def mean_ap_reference(
    truth: GroundTruth,
    rows: np.ndarray,
    motion_iou: np.ndarray,
    ranges: Sequence[ObjectRange] = MOTION_RANGES,
    sort: str = "stable",
    zero_entries: int | None = None,
) -> np.ndarray:
    """(R, K) float64: AP of each range and class, NaN where the range has no object of the class.

    rows: (n, 7) as `read_results_reference` gives them. zero_entries: as for `mean_ap`.
    sort: how the originals' three sorts, by frame, within a frame and within a class, treat equal keys, as NumPy names
    it: "stable", or its default "quicksort", which has no rule.
    """
    rows = rows[np.argsort(rows[:, 0], kind=sort)]
    ends = np.searchsorted(rows[:, 0], np.arange(truth.num_frames + 1))
    aps = []
    for wanted in ranges:
        in_motion = [wanted.motion[0] <= value <= wanted.motion[1] for value in motion_iou]
        zeros = int((np.diff(truth.offsets) == 0).sum()) if zero_entries is None else zero_entries
        in_range = sum(in_motion) + zeros * (wanted.motion[0] <= 0 <= wanted.motion[1])
        share = in_range / max(1, len(motion_iou) + zeros)
        outcomes: list[list[tuple[float, bool, float]]] = [[] for _ in truth.class_names]
        for frame in range(truth.num_frames):
            in_frame = rows[ends[frame] : ends[frame + 1]]
            objects = range(truth.offsets[frame], truth.offsets[frame + 1])
            _weigh_frame(
                truth, in_frame[np.argsort(-in_frame[:, 2], kind=sort)], objects, in_motion, share, wanted, outcomes
            )
        counts = np.zeros(len(truth.class_names), int)
        for i, label in enumerate(truth.labels):
            counts[label - 1] += _counts(truth, i, in_motion, wanted)
        aps.append(
            [
                _area_under_curve(found, n, sort) if n else float("nan")
                for found, n in zip(outcomes, counts, strict=True)
            ]
        )
    return np.array(aps).reshape(len(ranges), len(truth.class_names))


def _weigh_frame(
    truth: GroundTruth,
    rows: np.ndarray,
    objects: range,
    in_motion: Sequence[bool],
    share: float,
    wanted: ObjectRange,
    outcomes: list[list[tuple[float, bool, float]]],
) -> None:
    """Append each detection's score, true-positive flag and false-positive weight to the outcomes of its class."""
    free = set(objects)
    for row in rows:
        label, score, box = int(row[1]), row[2], row[3:]
        best, best_overlap = None, -1.0
        for i in objects:
            if i in free and truth.labels[i] == label:
                overlap = box_iou(box, truth.boxes[i])
                if overlap >= overlap_threshold(truth.boxes[i]) and overlap > best_overlap:
                    best, best_overlap = i, overlap
        if best is not None:
            free.remove(best)
            outcomes[label - 1].append((score, _counts(truth, best, in_motion, wanted), 0.0))
            continue
        weight = 0.0
        if wanted.area[0] <= box_size(box) <= wanted.area[1]:
            weight = _false_positive(truth, box, objects, in_motion, share)
        outcomes[label - 1].append((score, False, weight))


def _false_positive(
    truth: GroundTruth, box: np.ndarray, objects: range, in_motion: Sequence[bool], share: float
) -> float:
    """False-positive weight of an unmatched detection in a range."""
    inside = outside = -1.0
    for i in objects:
        overlap = box_iou(box, truth.boxes[i])
        if in_motion[i]:
            inside = max(inside, overlap)
        else:
            outside = max(outside, overlap)
    if inside != outside:
        return float(inside > outside)
    if not objects:
        return share
    return sum(not in_motion[i] for i in objects) / len(objects)


def _counts(truth: GroundTruth, i: int, in_motion: Sequence[bool], wanted: ObjectRange) -> bool:
    return bool(in_motion[i] and wanted.area[0] <= box_size(truth.boxes[i]) <= wanted.area[1])


def box_size(box: np.ndarray) -> float:
    return (box[2] - box[0] + 1) * (box[3] - box[1] + 1)


def box_iou(a: np.ndarray, b: np.ndarray) -> float:
    width = min(a[2], b[2]) - max(a[0], b[0]) + 1
    height = min(a[3], b[3]) - max(a[1], b[1]) + 1
    if width <= 0 or height <= 0:
        return 0.0
    return width * height / (box_size(a) + box_size(b) - width * height)


def overlap_threshold(box: np.ndarray) -> float:
    """IoU threshold of an object: 0.5, less for small ones."""
    return min(0.5, box_size(box) / ((box[2] - box[0] + 11) * (box[3] - box[1] + 11)))


def _area_under_curve(outcomes: list[tuple[float, bool, float]], objects: int, sort: str) -> float:
    """Area under the best precision at each recall or a higher one."""
    scores = np.array([score for score, _, _ in outcomes])
    recalls, precisions, true, false = [0.0], [0.0], 0, 0.0
    for k in np.argsort(-scores, kind=sort):
        true, false = true + outcomes[k][1], false + outcomes[k][2]
        recalls.append(true / objects)
        precisions.append(true / (true + false) if true else 0.0)
    area, best = 0.0, 0.0
    for k in range(len(recalls) - 1, 0, -1):
        best = max(best, precisions[k])
        area += (recalls[k] - recalls[k - 1]) * best
    return area
