"""Non-maximum suppression (docs/rules.md, section 2)."""

from __future__ import annotations

import torch
from torch import Tensor

from lib.boxes import overlaps
from lib.ops.dispatch import check_floating, run_in_float32, stand_in_on_cuda


def nms(
    boxes: Tensor, scores: Tensor, threshold: float, groups: Tensor | None = None, suppress_equal: bool = False
) -> Tensor:
    """Greedy non-maximum suppression: in descending score, keep a box unless a kept box of its group overlaps it.

    boxes: (n, 4), `(x1, y1, x2, y2)` with inclusive corners (`lib.boxes`), pixels of any one image.
    scores: (n,), of the boxes' dtype (float32 or float64; float32 under autocast).
    threshold: a box is dropped if its intersection over union with a kept one is above this, or equal to it with
    `suppress_equal` (as in the originals' Cython version; their Python and GPU versions keep a box at equality).
    groups: (n,) int64 or None: only boxes of one group suppress each other, so that one call serves
        all classes of all images.
    Returns the indices of the kept, int64, by descending score; among equal scores the lower index comes first.

    Raises ValueError for shapes that do not fit together, TypeError for other dtypes.
    """
    _check(boxes, scores, groups)
    return torch.ops.vod.nms(boxes.detach(), scores.detach(), groups, threshold, suppress_equal)


def nms_reference(
    boxes: Tensor, scores: Tensor, threshold: float, groups: Tensor | None = None, suppress_equal: bool = False
) -> Tensor:
    """The rule of `nms` in PyTorch; same arguments, same result.

    The greedy result is the only solution of "a box is kept if no kept box before it suppresses it". Starting with all
    boxes kept and applying this rule to the whole matrix repeatedly reaches it from the top down, one link of the
    longest chain of suppressions per round: a few rounds replace n steps.
    """
    _check(boxes, scores, groups)
    order = scores.sort(descending=True, stable=True).indices
    suppresses = _suppression_matrix(
        boxes[order], None if groups is None else groups[order], threshold, suppress_equal
    )  # (n, n): row before column
    kept = torch.ones_like(order, dtype=torch.bool)
    while True:
        settled = ~(suppresses & kept[:, None]).any(0)
        if torch.equal(settled, kept):
            return order[kept]
        kept = settled


def _suppression_matrix(boxes: Tensor, groups: Tensor | None, threshold: float, suppress_equal: bool) -> Tensor:
    """(n, n) bool: box i, if kept, suppresses box j > i."""
    n = len(boxes)
    matrix = torch.zeros(n, n, dtype=torch.bool, device=boxes.device)
    for rows in torch.arange(n, device=boxes.device).split(512):  # in slices: overlaps() takes 20 times the memory
        ious = overlaps(boxes[rows], boxes)
        matrix[rows] = ious >= threshold if suppress_equal else ious > threshold
        if groups is not None:
            matrix[rows] &= groups[rows][:, None] == groups
    return matrix.triu_(diagonal=1)


def _check(boxes: Tensor, scores: Tensor, groups: Tensor | None) -> None:
    check_floating("nms", boxes=boxes, scores=scores)
    if boxes.dim() != 2 or boxes.shape[1] != 4 or scores.shape != boxes.shape[:1]:
        raise ValueError(f"nms wants boxes (n, 4) and scores (n,), not {tuple(boxes.shape)} and {tuple(scores.shape)}")
    if groups is not None and groups.shape != scores.shape:
        raise ValueError(f"nms wants groups of shape {tuple(scores.shape)}, not {tuple(groups.shape)}")
    if groups is not None and groups.dtype != torch.int64:
        raise TypeError(f"nms wants int64 groups, not {groups.dtype}")


@torch.library.register_fake("vod::nms")
def _fake(boxes: Tensor, scores: Tensor, groups: Tensor | None, threshold: float, suppress_equal: bool) -> Tensor:
    kept = torch.library.get_ctx().new_dynamic_size()
    return boxes.new_empty(kept, dtype=torch.int64)


def _stand_in(boxes: Tensor, scores: Tensor, groups: Tensor | None, threshold: float, suppress_equal: bool) -> Tensor:
    return nms_reference(boxes, scores, threshold, groups, suppress_equal)


run_in_float32("vod::nms")
stand_in_on_cuda("vod::nms", _stand_in)
