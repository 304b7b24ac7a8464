"""Confusion matrix: classes of objects against classes of the detections that match them by IoU alone."""

from __future__ import annotations

import numpy as np

from lib.evaluation.mean_ap import find_objects
from lib.evaluation.results_file import DetectionTable
from lib.structures import GroundTruth


def confusion_matrix(truth: GroundTruth, detections: DetectionTable) -> np.ndarray:
    """(K + 1, K + 1) int64, row: class of the object, column: class of the detection, both from label 1.

    In descending score, every detection is matched with the object of the largest IoU among the unmatched objects whose
    threshold it reaches, whatever the classes. The last row counts unmatched detections (background), the last column
    unmatched objects (missed); the cell in both is 0.
    detections: sorted by frame, above the score threshold that is wanted.
    """
    classes = len(truth.class_names)
    matrix = np.zeros((classes + 1, classes + 1), np.int64)
    found = find_objects(truth, detections, any_class=True)
    met = found >= 0
    rows = np.full(len(detections), classes)
    rows[met] = truth.labels[found[met]] - 1
    np.add.at(matrix, (rows, detections.labels - 1), 1)
    missed = np.ones(len(truth.labels), bool)
    missed[found[met]] = False
    np.add.at(matrix[:, classes], truth.labels[missed] - 1, 1)
    return matrix


def top_confusions(matrix: np.ndarray, count: int) -> list[tuple[int, int, int, float]]:
    """The up to `count` most frequent mistakes between two classes: (row, column, number, share of the row's objects).

    Row and column count from 0. Background and missed objects do not enter; the share is of all objects of the row.
    """
    between = matrix[:-1, :-1].copy()
    np.fill_diagonal(between, 0)
    order = np.argsort(-between, axis=None, kind="stable")[:count]
    objects = matrix.sum(axis=1)
    pairs = [(int(i // len(between)), int(i % len(between))) for i in order]
    return [(r, c, int(between[r, c]), float(between[r, c] / objects[r])) for r, c in pairs if between[r, c]]
