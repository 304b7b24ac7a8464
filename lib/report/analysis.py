"""Compute all figures of one run that the report shows; their size does not grow with the number of detections."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from lib.evaluation.mean_ap import MOTION_RANGES, ObjectRange, RangeResult, best_precision, box_areas, by_class, mean_ap
from lib.evaluation.motion import Motion
from lib.evaluation.results_file import DetectionTable
from lib.report.confusion import confusion_matrix
from lib.report.errors import CORRECT, Costs, Outcomes, error_costs, find_outcomes
from lib.report.provenance import Provenance
from lib.structures import GroundTruth

RECALLS = np.linspace(0, 1, 101)
SCORE_BINS = np.linspace(0, 1, 41)
_SIDES = (50, 150)  # pixels, the originals' borders between small, medium and large objects
_FEWEST = 0.05  # share of the objects that each size should have, or the borders say nothing of this data set


@dataclass(frozen=True)
class OperatingPoint:
    """The score threshold with the best F1 over all classes; all NaN without detections."""

    score: float
    precision: float
    recall: float
    f1: float


@dataclass
class Analysis:
    """One run against the ground truth.

    motion, sizes: APs by motion (all objects first, then slow to fast) and by size; where motion is not known, of all
    objects only.
    precision: (K, 101), best precision at each of `RECALLS` or beyond; NaN for classes without objects.
    errors: (6,), numbers of `lib.report.errors.KINDS` at the operating point. confusion: (K + 1, K + 1), there too.
    true_scores, false_scores: (40,) int64, numbers of correct and of other detections in each of `SCORE_BINS`.
    videos: (V, 3) int64, correct detections, other detections and objects not found, at the operating point.
    shown: detections at the operating point. outcomes: theirs.
    frames_found: number of frames with a detection. detections: their number.
    """

    name: str
    file: str
    provenance: Provenance
    motion: list[RangeResult]
    sizes: list[RangeResult]
    precision: np.ndarray
    point: OperatingPoint
    costs: Costs
    errors: np.ndarray
    confusion: np.ndarray
    true_scores: np.ndarray
    false_scores: np.ndarray
    videos: np.ndarray
    shown: DetectionTable
    outcomes: Outcomes
    frames_found: int
    detections: int
    done: float = 1.0  # share of the image set's frames that the run has finished

    @property
    def ap(self) -> np.ndarray:
        """(K,) AP of all objects; NaN without objects."""
        return self.motion[0].ap

    @property
    def mean_ap(self) -> float:
        return self.motion[0].mean_ap

    def mean_precision(self) -> np.ndarray:
        """(101,): mean over the classes that have objects; NaN without any."""
        known = ~np.isnan(self.precision[:, 0])
        return self.precision[known].mean(axis=0) if known.any() else np.full(len(RECALLS), np.nan)


def analyse(
    name: str,
    file: str,
    provenance: Provenance,
    truth: GroundTruth,
    detections: DetectionTable,
    motion: Motion | None,
    sizes: Sequence[ObjectRange],
    done: float = 1.0,
) -> Analysis:
    """All figures of one run. motion: of the objects, None where it is not known. sizes: from `size_ranges`."""
    detections = detections.sorted_by_frame()
    by_motion = [MOTION_RANGES[0], *(reversed(MOTION_RANGES[1:]) if motion else ())]
    values, zeros = motion or (None, None)
    results = mean_ap(truth, detections, values, [*by_motion, *sizes], zeros)
    outcomes = find_outcomes(truth, detections)
    correct = outcomes.kind == CORRECT
    point = operating_point(detections.scores, correct, len(truth.labels))
    shown = detections.scores >= point.score
    point_detections, point_outcomes = detections[shown], outcomes[shown]
    return Analysis(
        name=name,
        file=file,
        provenance=provenance,
        motion=results[: len(by_motion)],
        sizes=results[len(by_motion) :],
        precision=precision_curves(truth, detections, correct),
        point=point,
        costs=error_costs(truth, detections, outcomes),
        errors=point_outcomes.counts(len(truth.labels)),
        confusion=confusion_matrix(truth, point_detections),
        true_scores=np.histogram(np.clip(detections.scores[correct], 0, 1), SCORE_BINS)[0],
        false_scores=np.histogram(np.clip(detections.scores[~correct], 0, 1), SCORE_BINS)[0],
        videos=count_by_video(truth, point_detections, point_outcomes),
        shown=point_detections,
        outcomes=point_outcomes,
        frames_found=int(np.count_nonzero(np.bincount(detections.frames, minlength=truth.num_frames))),
        detections=len(detections),
        done=done,
    )


def size_ranges(truth: GroundTruth) -> tuple[list[ObjectRange], str]:
    """The ranges of small, medium and large objects, and their borders in words.

    The originals' borders, 50 x 50 and 150 x 150 pixels, where each size has a twentieth of the objects; else thirds of
    the objects by area, with the borders at whole sides of a square.
    """
    areas = box_areas(truth.boxes)
    borders = _SIDES
    shares = np.histogram(areas, [0, _SIDES[0] ** 2, _SIDES[1] ** 2, np.inf])[0] / max(1, len(areas))
    words = "the originals' borders"
    if len(areas) and shares.min() < _FEWEST:
        borders = tuple(int(side) for side in np.rint(np.sqrt(np.quantile(areas, (1 / 3, 2 / 3)))))
        words = "about a third of the objects each, as the originals' borders of 50 and 150 pixels do not divide them"
    low, high = (float(side) ** 2 for side in borders)
    ranges = [
        ObjectRange("small", area=(0.0, low)),
        ObjectRange("medium", area=(low, high)),
        ObjectRange("large", area=(high, 1e10)),
    ]
    return ranges, f"small up to {borders[0]}² pixels, large from {borders[1]}² pixels: {words}"


def operating_point(scores: np.ndarray, correct: np.ndarray, objects: int) -> OperatingPoint:
    """The score threshold of the best F1, of equally good ones the highest.

    scores, correct: (n,) of all detections. objects: how many there are to be found.
    """
    order = np.argsort(-scores, kind="stable")
    last = np.append(np.diff(scores[order]) != 0, True)[: len(order)]  # equal scores are cut off together
    number = np.flatnonzero(last) + 1
    found = np.cumsum(correct[order])[last]
    if not len(number) or not objects or not found[-1]:
        return OperatingPoint(*[float("nan")] * 4)
    f1 = 2 * found / (number + objects)
    best = int(f1.argmax())
    score = float(scores[order[number[best] - 1]])
    return OperatingPoint(score, float(found[best] / number[best]), float(found[best] / objects), float(f1[best]))


def precision_curves(truth: GroundTruth, detections: DetectionTable, correct: np.ndarray) -> np.ndarray:
    """(K, 101): the best precision at each of `RECALLS` or beyond, 0 where it is not reached, NaN without objects."""
    classes = len(truth.class_names)
    objects = np.bincount(truth.labels - 1, minlength=classes)
    curves = np.full((classes, len(RECALLS)), np.nan)
    for label, rows in by_class(detections, classes):
        count = int(objects[label - 1])
        if count:
            best = best_precision(correct[rows], ~correct[rows])
            # The first true positive whose recall (i + 1) / count is not below; the small step takes care of rounding
            needed = np.maximum(np.ceil(RECALLS * count - 1e-9).astype(int), 1) - 1
            curves[label - 1] = np.append(best, 0.0)[np.minimum(needed, len(best))]
    return curves


def count_by_video(truth: GroundTruth, detections: DetectionTable, outcomes: Outcomes) -> np.ndarray:
    """(V, 3) int64 for videos 0 to the last: correct detections, other detections, objects not found."""
    count = int(truth.videos.max()) + 1 if truth.num_frames else 0
    correct = outcomes.kind == CORRECT
    video = truth.videos[detections.frames]
    lost = truth.videos[truth.frame_of_object()[~outcomes.found(len(truth.labels))]]
    columns = [np.bincount(which, minlength=count) for which in (video[correct], video[~correct], lost)]
    return np.stack(columns, axis=1)
