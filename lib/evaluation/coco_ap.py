"""COCO's AP, computed by pycocotools: at IoU 0.5, and the mean over the IoUs 0.5, 0.55, ... 0.95.

Its rules differ from ImageNet VID's: one IoU for objects of all sizes, precision at 101 recalls in place of every
point, at most 100 detections of a class in an image, no groups of motion.
"""

from __future__ import annotations

import contextlib
import io
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from tqdm import tqdm

from lib.evaluation.coco_boxes import xywh
from lib.evaluation.results_file import DetectionTable

if TYPE_CHECKING:
    from lib.structures import GroundTruth

MAX_DETECTIONS = 100  # of a class in an image


@dataclass(frozen=True)
class CocoAP:
    """ap50, ap: (K,) float64, one per foreground class, at IoU 0.5 and over 0.5 to 0.95; NaN without an object."""

    ap50: np.ndarray
    ap: np.ndarray

    @property
    def mean_ap50(self) -> float:
        return _mean(self.ap50)

    @property
    def mean_ap(self) -> float:
        return _mean(self.ap)


def coco_ap(truth: GroundTruth, detections: DetectionTable) -> CocoAP:
    """Compute COCO's AP of every class. detections: any order; equal scores keep their order."""
    detections = detections.sorted_by_frame()
    aps = np.full((2, len(truth.class_names)), np.nan)
    frame_of_object = truth.frame_of_object()
    # Class by class: pycocotools has a dictionary for every box
    for label in tqdm(range(1, len(truth.class_names) + 1), unit="class", desc="COCO's AP", delay=1):
        objects = np.flatnonzero(truth.labels == label)
        if len(objects):
            found = np.flatnonzero(detections.labels == label)
            precision = _precision(
                _dataset(frame_of_object[objects], truth.boxes[objects]),
                _dataset(detections.frames[found], detections.boxes[found], detections.scores[found]),
            )
            aps[:, label - 1] = precision[0].mean(), precision.mean()
    return CocoAP(*aps)


def _dataset(frames: np.ndarray, boxes: np.ndarray, scores: np.ndarray | None = None) -> COCO:
    """The boxes of one class in pycocotools' form; with scores, detections."""
    annotations = [
        {"id": i, "image_id": frame, "category_id": 1, "bbox": box, "area": box[2] * box[3], "iscrowd": 0}
        for i, (frame, box) in enumerate(zip(frames.tolist(), xywh(boxes).tolist(), strict=True), 1)
    ]
    if scores is not None:
        for annotation, score in zip(annotations, scores.tolist(), strict=True):
            annotation["score"] = score
    coco = COCO()
    images = [{"id": frame} for frame in np.unique(frames).tolist()]
    coco.dataset = {"images": images, "annotations": annotations, "categories": [{"id": 1}]}
    with contextlib.redirect_stdout(io.StringIO()):
        coco.createIndex()
    return coco


def _precision(truth: COCO, found: COCO) -> np.ndarray:
    """(10, 101): precision at each IoU and recall."""
    evaluation = COCOeval(truth, found, "bbox")
    evaluation.params.imgIds = sorted({*truth.imgs, *found.imgs})
    evaluation.params.catIds = [1]
    evaluation.params.areaRng, evaluation.params.areaRngLbl = [[0, 1e10]], ["all"]
    evaluation.params.maxDets = [MAX_DETECTIONS]
    with contextlib.redirect_stdout(io.StringIO()):
        evaluation.evaluate()
        evaluation.accumulate()
    return evaluation.eval["precision"][:, :, 0, 0, 0]


def _mean(values: np.ndarray) -> float:
    known = values[~np.isnan(values)]
    return float(known.mean()) if len(known) else float("nan")
