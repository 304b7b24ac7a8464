"""Non-maximum suppression of many sets of boxes at once, with results of a fixed size (docs/rules.md, section 2)."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from lib.ops.dispatch import check_floating, run_in_float32, stand_in_on_cuda
from lib.ops.nms import nms_reference


def nms_padded(
    boxes: Tensor,
    scores: Tensor,
    threshold: float,
    groups: Tensor | None = None,
    suppress_equal: bool = False,
    least_score: float = -math.inf,
) -> tuple[Tensor, Tensor]:
    """`nms` in each of S sets of n boxes: indices padded with -1, and counts.

    boxes: (S, n, 4), `(x1, y1, x2, y2)` with inclusive corners, pixels of any one image per set.
    scores: (S, n), of the boxes' dtype (float32 or float64; float32 under autocast). Boxes whose score is least_score
    or less, or NaN, take no part: they neither suppress nor are kept.
    threshold, suppress_equal: as for `nms`. groups: (S, n) int64 or None: only boxes of one set and group suppress each
    other.
    Returns kept (S, n) int64, indices into each set of n by descending score, among equal scores the lower index first,
    -1 beyond the count; and counts (S,) int64.

    Shapes do not depend on values, so no kernel makes the host wait for the GPU, and a CUDA graph can hold the call.

    Raises ValueError for shapes that do not fit together, TypeError for other dtypes.
    """
    _check(boxes, scores, groups)
    return torch.ops.vod.nms_padded(boxes.detach(), scores.detach(), groups, threshold, suppress_equal, least_score)


def nms_padded_reference(
    boxes: Tensor,
    scores: Tensor,
    threshold: float,
    groups: Tensor | None = None,
    suppress_equal: bool = False,
    least_score: float = -math.inf,
) -> tuple[Tensor, Tensor]:
    """The rule of `nms_padded`, set by set with `nms_reference`; same arguments, same result."""
    _check(boxes, scores, groups)
    kept = torch.full(scores.shape, -1, dtype=torch.int64, device=scores.device)
    counts = kept.new_zeros(len(scores))
    for i, (set_boxes, set_scores) in enumerate(zip(boxes, scores, strict=True)):
        rows = (set_scores > least_score).nonzero()[:, 0]
        set_groups = None if groups is None else groups[i, rows]
        rows = rows[nms_reference(set_boxes[rows], set_scores[rows], threshold, set_groups, suppress_equal)]
        kept[i, : len(rows)], counts[i] = rows, len(rows)
    return kept, counts


def _check(boxes: Tensor, scores: Tensor, groups: Tensor | None) -> None:
    check_floating("nms_padded", boxes=boxes, scores=scores)
    if boxes.dim() != 3 or boxes.shape[2] != 4 or scores.shape != boxes.shape[:2]:
        raise ValueError(
            f"nms_padded wants boxes (S, n, 4) and scores (S, n), not {tuple(boxes.shape)} and {tuple(scores.shape)}"
        )
    if groups is not None and groups.shape != scores.shape:
        raise ValueError(f"nms_padded wants groups of shape {tuple(scores.shape)}, not {tuple(groups.shape)}")
    if groups is not None and groups.dtype != torch.int64:
        raise TypeError(f"nms_padded wants int64 groups, not {groups.dtype}")


@torch.library.register_fake("vod::nms_padded")
def _fake(
    boxes: Tensor, scores: Tensor, groups: Tensor | None, threshold: float, suppress_equal: bool, least_score: float
) -> tuple[Tensor, Tensor]:
    return scores.new_empty(scores.shape, dtype=torch.int64), scores.new_empty(scores.shape[0], dtype=torch.int64)


def _stand_in(
    boxes: Tensor, scores: Tensor, groups: Tensor | None, threshold: float, suppress_equal: bool, least_score: float
) -> tuple[Tensor, Tensor]:
    return nms_padded_reference(boxes, scores, threshold, groups, suppress_equal, least_score)


run_in_float32("vod::nms_padded")
stand_in_on_cuda("vod::nms_padded", _stand_in)
