"""From raw boxes and class probabilities to detections (docs/rules.md, section 2)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from lib.ops import nms, nms_padded
from lib.structures import Detections, Frame


@dataclass
class RawDetections:
    """The output of a detector for B frames, before score threshold and NMS.

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
    nms_threshold: a box is dropped if its IoU with a higher-scoring box of its class exceeds this; None: no NMS.
    max_per_image: most detections of a frame, except that ties with the last one are kept too; None: no limit.
    Detections are in class order; within a class by descending score, ties by index; without NMS in the boxes' order.
    """

    score_threshold: float
    nms_threshold: float | None
    max_per_image: int | None

    def __call__(self, raw: RawDetections) -> list[Detections]:
        return self.with_fixed_shapes(raw) if raw.boxes.is_cuda else self.with_found_only(raw)

    def with_found_only(self, raw: RawDetections) -> list[Detections]:
        """Drop low scores first: fastest on the CPU; on a GPU each step would wait for the device."""
        by_class = _by_class(raw)
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

    def with_fixed_shapes(self, raw: RawDetections) -> list[Detections]:
        """Compute everything on the device of `raw`, with shapes that do not depend on values; copy once to the CPU."""
        rows = self.rows(raw).cpu()
        found = [frame[frame[:, 5] > 0] for frame in rows]
        return [Detections(f[:, :4].contiguous(), f[:, 4].contiguous(), f[:, 5].long()) for f in found]

    def rows(self, raw: RawDetections) -> Tensor:
        """(B, (K - 1) * R, 6): x1, y1, x2, y2, score, label; rows that are not detections have label 0."""
        by_class = _by_class(raw)
        order, found = self._kept(raw.boxes, by_class)
        scores = torch.where(found, by_class.gather(2, order), -torch.inf).flatten(1)  # (B, (K - 1) * R)
        labels = torch.arange(1, by_class.shape[1] + 1, device=scores.device)[None, :, None]
        labels = torch.where(found, labels, 0).flatten(1)
        if self.max_per_image is not None and self.max_per_image < scores.shape[1]:
            least = scores.topk(self.max_per_image).values[:, -1:]  # -inf where fewer are found
            labels = torch.where(scores >= least, labels, 0)
        boxes = raw.boxes.gather(1, order.flatten(1)[:, :, None].expand(-1, -1, 4))
        return torch.cat((boxes, scores[:, :, None], labels[:, :, None].to(boxes)), dim=2)

    def _kept(self, boxes: Tensor, by_class: Tensor) -> tuple[Tensor, Tensor]:
        """(B, K - 1, R) each: box indices of each frame and class in the order of detections; a mask of the kept."""
        if self.nms_threshold is None:
            order = torch.arange(by_class.shape[2], device=boxes.device).expand(by_class.shape)
            return order, by_class > self.score_threshold
        sets = boxes[:, None].expand(-1, by_class.shape[1], -1, -1).flatten(0, 1)  # (B * (K - 1), R, 4)
        kept, _ = nms_padded(sets, by_class.flatten(0, 1), self.nms_threshold, least_score=self.score_threshold)
        kept = kept.view(by_class.shape)
        return kept.clamp(min=0), kept >= 0

    def _capped(self, detections: Detections) -> Detections:
        if self.max_per_image is None or len(detections) <= self.max_per_image:
            return detections
        least = detections.scores.topk(self.max_per_image).values[-1]
        return detections[detections.scores >= least]


def _by_class(raw: RawDetections) -> Tensor:
    """Class probabilities without the background: (B, K - 1, R)."""
    return raw.probabilities[:, :, 1:].transpose(1, 2)


def _ends(counts: Sequence[int]) -> list[tuple[int, int]]:
    """(end, count) of consecutive runs of `counts` rows."""
    ends, end = [], 0
    for count in counts:
        end += count
        ends.append((end, count))
    return ends
