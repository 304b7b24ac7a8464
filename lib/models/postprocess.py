"""From raw boxes and class probabilities to detections (docs/rules.md, section 2)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from lib.ops import nms
from lib.structures import Detections, Frame


@dataclass
class RawDetections:
    """What a detector says about B frames, before anything is suppressed.

    frames: the B frames. boxes: (B, R, 4) in pixels of the ORIGINAL frames. probabilities: (B, R, K), column 0 the
    background.
    """

    frames: Sequence[Frame]
    boxes: Tensor
    probabilities: Tensor


@dataclass(frozen=True)
class PostProcess:
    """Score threshold, NMS within each class, cap: `RawDetections` -> one `Detections` per frame on the CPU.

    score_threshold: boxes of a class need a higher probability than this.
    nms_threshold: a box whose overlap with a better one of its class is higher is dropped; None: none is.
    max_per_image: detections of a frame; those that tie with the last one stay too. None: any number.
    Detections are in class order; within a class by descending score, ties by index; without NMS in the boxes' order.
    """

    score_threshold: float
    nms_threshold: float | None
    max_per_image: int | None

    def __call__(self, raw: RawDetections) -> list[Detections]:
        by_class = raw.probabilities[:, :, 1:].transpose(1, 2)  # (B, K - 1, R)
        # Frame by frame, and class by class in each
        images, labels, rows = torch.nonzero(by_class > self.score_threshold, as_tuple=True)  # (n,) each
        scores, boxes = by_class[images, labels, rows], raw.boxes[images, rows]  # (n,), (n, 4)
        if self.nms_threshold is not None:
            groups = images * by_class.shape[1] + labels
            kept = nms(boxes, scores, self.nms_threshold, groups=groups)  # by descending score
            kept = kept[groups[kept].argsort(stable=True)]  # by frame and class, then by descending score
            images, boxes, scores, labels = images[kept], boxes[kept], scores[kept], labels[kept]
        found = Detections(boxes, scores, labels + 1).to("cpu")
        counts = torch.bincount(images, minlength=len(raw.frames)).tolist()
        return [self._capped(found[end - count : end]) for end, count in _ends(counts)]

    def _capped(self, detections: Detections) -> Detections:
        if self.max_per_image is None or len(detections) <= self.max_per_image:
            return detections
        least = detections.scores.topk(self.max_per_image).values[-1]
        return detections[detections.scores >= least]


def _ends(counts: Sequence[int]) -> list[tuple[int, int]]:
    """(end, count) of consecutive runs of `counts` rows."""
    ends, end = [], 0
    for count in counts:
        end += count
        ends.append((end, count))
    return ends
