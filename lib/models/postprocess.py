"""From raw boxes and class probabilities to detections (docs/rules.md, section 2)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from lib.ops import nms
from lib.structures import Detections


@dataclass
class RawDetections:
    """What a detector says about one image, before anything is suppressed.

    boxes: (R, 4) in pixels of the ORIGINAL frame. probabilities: (R, K), column 0 the background.
    """

    boxes: Tensor
    probabilities: Tensor


@dataclass(frozen=True)
class PostProcess:
    """Score threshold, NMS within each class, cap: `RawDetections` -> `Detections` on the CPU, in class order.

    score_threshold: boxes of a class need a higher probability than this.
    nms_threshold: a box whose overlap with a better one of its class is higher is dropped; None: none is.
    max_per_image: detections of an image; those that tie with the last one stay too. None: any number.
    Within a class the order is by descending score, ties by index; without NMS it is the order of the boxes.
    """

    score_threshold: float = 1e-3
    nms_threshold: float | None = 0.3
    max_per_image: int | None = 300

    def __call__(self, raw: RawDetections) -> Detections:
        by_class = raw.probabilities[:, 1:].T  # (K - 1, R)
        labels, rows = torch.nonzero(by_class > self.score_threshold, as_tuple=True)  # class by class
        scores, boxes = by_class[labels, rows], raw.boxes[rows]  # (n,), (n, 4)
        if self.nms_threshold is not None:
            kept = nms(boxes, scores, self.nms_threshold, groups=labels)  # by descending score
            kept = kept[labels[kept].argsort(stable=True)]  # by class, then by descending score
            boxes, scores, labels = boxes[kept], scores[kept], labels[kept]
        detections = Detections(boxes, scores, labels + 1).to("cpu")
        if self.max_per_image is not None and len(detections) > self.max_per_image:
            least = detections.scores.topk(self.max_per_image).values[-1]
            detections = detections[detections.scores >= least]
        return detections
