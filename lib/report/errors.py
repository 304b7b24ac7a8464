"""Types of errors, and the AP that each of them costs (Hoiem et al. 2012, TIDE 2020).

A detection that is matched with an object by the rules of `lib.evaluation.mean_ap` is correct. Any other is an error of
the first type that applies, in TIDE's order. A detection "reaches" an object if their IoU is at least the object's
threshold (0.5, less for small objects), and "touches" it if their IoU is at least 0.1.

Types, and what happens to the detection when its type is fixed:

- localisation: it touches an object of its class, and reaches none of them. Fixed: it finds that object.
- classification: it reaches an object of another class. Fixed: it finds that object.
- duplicate: it reaches an object of its class that a higher-scoring detection has found. Fixed: it is removed.
- background: it has an IoU of at most 0.1 with every object of its frame. Fixed: it is removed.
- both: any other; it touches an object of another class, with class and box wrong. Fixed: it is removed.
- missed: an object that no detection finds and that none of the errors above refers to. Fixed: it is not searched for.

If several errors would find the same object, the one with the highest score finds it and the others are removed, and so
are those whose object is found already. Each type is fixed alone; costs do not add up, as one error can hide another.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from lib.evaluation.mean_ap import average_precision, by_class, find_objects, overlap_thresholds
from lib.evaluation.results_file import DetectionTable
from lib.report.pairs import Pairs
from lib.structures import GroundTruth

TOUCH = 0.1  # IoU below which a detection has nothing to do with an object
CORRECT, CLASSIFICATION, LOCALISATION, BOTH, DUPLICATE, BACKGROUND = range(6)
KINDS = ("classification", "localisation", "both", "duplicate", "background", "missed")
TOTALS = (
    "all false positives",
    "all objects not found",
)  # fixed together: the cost of all lost precision, and of all lost recall


@dataclass
class Outcomes:
    """The outcome of every detection of a table that is sorted by frame.

    kind: (n,) int8, `CORRECT` or an error. object: (n,) int32, the object that it finds, or that a classification or
    localisation error should have found; -1 for the others.
    """

    kind: np.ndarray
    object: np.ndarray

    def __getitem__(self, rows) -> Outcomes:
        return Outcomes(self.kind[rows], self.object[rows])

    def found(self, objects: int) -> np.ndarray:
        """(G,) bool: the objects, of `objects`, that a detection finds."""
        return self._named(self.kind == CORRECT, objects)

    def missed(self, objects: int) -> np.ndarray:
        """(G,) bool: the objects that no detection finds, and that no classification or localisation error meant."""
        named = (self.kind == CORRECT) | (self.kind == CLASSIFICATION) | (self.kind == LOCALISATION)
        return ~self._named(named, objects)

    def counts(self, objects: int) -> np.ndarray:
        """(6,) int64: how many errors of each of `KINDS`."""
        errors = np.bincount(self.kind, minlength=len(KINDS))[1:]
        return np.append(errors, self.missed(objects).sum())

    def _named(self, rows: np.ndarray, objects: int) -> np.ndarray:
        named = np.zeros(objects, bool)
        named[self.object[rows]] = True
        return named


@dataclass
class Costs:
    """ap: (K,) float64, NaN without objects. fixed: for each of `KINDS` and `TOTALS`, the (K,) AP without them."""

    ap: np.ndarray
    fixed: dict[str, np.ndarray]

    def of_class(self, kind: str) -> np.ndarray:
        """(K,): by how much the AP of each class would rise."""
        return self.fixed[kind] - self.ap

    def mean(self, kind: str) -> float:
        """By how much the mean AP would rise; NaN without any object."""
        known = ~np.isnan(self.ap)
        return float(self.of_class(kind)[known].mean()) if known.any() else float("nan")


def find_outcomes(truth: GroundTruth, detections: DetectionTable) -> Outcomes:
    """The outcome of every detection; `detections` are sorted by frame."""
    outcomes = Outcomes(np.empty(len(detections), np.int8), np.empty(len(detections), np.int32))
    thresholds = overlap_thresholds(truth.boxes)
    for pairs in Pairs.chunks(truth, detections):
        matched = find_objects(truth, detections[pairs.rows])
        same = detections.labels[pairs.rows][pairs.detection] == truth.labels[pairs.object]
        reaches = pairs.iou >= thresholds[pairs.object]
        own_iou, own = pairs.nearest(same)
        other_iou, _ = pairs.nearest(~same)
        _, reached_own = pairs.nearest(same & reaches)
        _, reached_other = pairs.nearest(~same & reaches)

        found = matched >= 0
        badly_placed = ~found & (own_iou >= TOUCH) & (reached_own < 0)
        wrongly_named = ~found & ~badly_placed & (reached_other >= 0)
        tests = (
            (CORRECT, found),
            (LOCALISATION, badly_placed),
            (CLASSIFICATION, wrongly_named),
            (DUPLICATE, reached_own >= 0),
            (BACKGROUND, np.maximum(own_iou, other_iou) <= TOUCH),
        )
        outcomes.kind[pairs.rows] = np.select([holds for _, holds in tests], [kind for kind, _ in tests], BOTH)
        meant = np.select([found, badly_placed, wrongly_named], [matched, own, reached_other], -1)
        outcomes.object[pairs.rows] = meant
    return outcomes


def error_costs(truth: GroundTruth, detections: DetectionTable, outcomes: Outcomes) -> Costs:
    """Compute the AP cost of each type of error, class by class."""
    classes, total = len(truth.class_names), len(truth.labels)
    found, missed = outcomes.found(total), outcomes.missed(total)
    objects, found_objects, missed_objects = (
        np.bincount(truth.labels[which] - 1, minlength=classes) for which in (np.ones(total, bool), found, missed)
    )
    renamed = _highest_scoring(detections, outcomes, np.flatnonzero(outcomes.kind == CLASSIFICATION), found)
    new_labels = truth.labels[outcomes.object[renamed]]
    costs = Costs(np.full(classes, np.nan), {kind: np.full(classes, np.nan) for kind in (*KINDS, *TOTALS)})
    for label, rows in by_class(detections, classes):
        k, count = label - 1, int(objects[label - 1])
        if not count:
            continue
        kind = outcomes.kind[rows]
        true, false = kind == CORRECT, kind != CORRECT
        none = np.zeros(len(rows), bool)
        costs.ap[k] = average_precision(true, false, count)

        placed = np.isin(rows, _highest_scoring(detections, outcomes, rows[kind == LOCALISATION], found))
        costs.fixed["localisation"][k] = average_precision(true | placed, false & (kind != LOCALISATION), count)
        for name, gone in (("both", BOTH), ("duplicate", DUPLICATE), ("background", BACKGROUND)):
            costs.fixed[name][k] = average_precision(true, false & (kind != gone), count)

        both_rows = np.concatenate((rows, renamed[new_labels == label]))
        order = np.lexsort((both_rows, -detections.scores[both_rows]))
        new_true = np.append(true, np.ones(len(both_rows) - len(rows), bool))
        new_false = np.append(false & (kind != CLASSIFICATION), np.zeros(len(both_rows) - len(rows), bool))
        costs.fixed["classification"][k] = average_precision(new_true[order], new_false[order], count)

        costs.fixed["missed"][k] = _ap_of_fewer(true, false, count - int(missed_objects[k]))
        costs.fixed[TOTALS[0]][k] = average_precision(true, none, count)
        costs.fixed[TOTALS[1]][k] = _ap_of_fewer(true, false, int(found_objects[k]))
    return costs


def _highest_scoring(detections: DetectionTable, outcomes: Outcomes, rows: np.ndarray, found: np.ndarray) -> np.ndarray:
    """Of the errors `rows`, the highest-scoring one for each object that is not `found` (G,): row numbers."""
    rows = rows[~found[outcomes.object[rows]]]
    rows = rows[np.lexsort((rows, -detections.scores[rows]))]
    _, first = np.unique(outcomes.object[rows], return_index=True)
    return rows[first]


def _ap_of_fewer(true: np.ndarray, false: np.ndarray, objects: int) -> float:
    """AP where only `objects` are to be found; 1 where there are none."""
    return average_precision(true, false, objects) if objects else 1.0
