"""The four losses and the six training metrics of ONE image (docs/rules.md, section 3).

Loss terms end in `_loss`; the metrics carry the originals' names and have no gradient.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def smooth_l1(x: Tensor, sigma: float = 1.0) -> Tensor:
    """0.5 (sigma x)^2 where |x| < 1 / sigma^2, |x| - 0.5 / sigma^2 elsewhere; element by element."""
    edge = 1.0 / sigma**2
    magnitude = x.abs()
    return torch.where(magnitude < edge, 0.5 * sigma**2 * x * x, magnitude - 0.5 * edge)


def softmax_loss(scores: Tensor, labels: Tensor) -> Tensor:
    """Mean cross entropy of scores (n, K) over the rows whose label is not -1; 0 if there is no such row."""
    total = F.cross_entropy(scores, labels, ignore_index=-1, reduction="sum")
    return total / (labels >= 0).sum().clamp(min=1)


def box_loss_sum(deltas: Tensor, target_deltas: Tensor, weights: Tensor) -> Tensor:
    """Sum of weights * smooth_l1 over (n, 4) normalised deltas."""
    return (weights * smooth_l1(deltas - target_deltas)).sum()


def rpn_losses(
    scores: Tensor, deltas: Tensor, labels: Tensor, target_deltas: Tensor, weights: Tensor, batch_size: int
) -> dict[str, Tensor]:
    """Anchor scores (N, 2), deltas (N, 4) and their targets -> losses and metrics of the RPN.

    The class loss is the mean over the anchors that are not ignored; the box loss is the sum divided by `batch_size`
    (RPN_BATCH_SIZE), whatever the number of anchors.
    """
    box_sum = box_loss_sum(deltas, target_deltas, weights)
    return {
        "rpn_cls_loss": softmax_loss(scores, labels),
        "rpn_bbox_loss": box_sum / batch_size,
        **_metrics("RPN", scores, labels, box_sum),
    }


def rcnn_losses(
    scores: Tensor, deltas: Tensor, labels: Tensor, target_deltas: Tensor, weights: Tensor, batch_size: int
) -> dict[str, Tensor]:
    """RoI scores (R, K), foreground deltas (R, 4) and their targets -> losses and metrics of the R-FCN head.

    labels is -1 where OHEM dropped the RoI. The class loss is the mean over the others; the box loss is the sum divided
    by `batch_size` (BATCH_ROIS_OHEM).
    """
    box_sum = box_loss_sum(deltas, target_deltas, weights)
    return {
        "rcnn_cls_loss": softmax_loss(scores, labels),
        "rcnn_bbox_loss": box_sum / batch_size,
        **_metrics("RCNN", scores, labels, box_sum),
    }


def mean_of(terms: list[dict[str, Tensor]]) -> dict[str, Tensor]:
    """The mean over images of each named term."""
    return {name: torch.stack([one[name] for one in terms]).mean() for name in terms[0]}


@torch.no_grad()
def _metrics(prefix: str, scores: Tensor, labels: Tensor, box_sum: Tensor) -> dict[str, Tensor]:
    """Accuracy, log loss and L1 loss over the labels that are not -1 (the originals' core/metric.py)."""
    kept = labels >= 0
    count = kept.sum().clamp(min=1)
    probability = scores.softmax(dim=1).gather(1, labels.clamp(min=0)[:, None])[:, 0]
    log_loss = -torch.log(probability + 1e-14)
    return {
        f"{prefix}Acc": ((scores.argmax(dim=1) == labels) & kept).sum() / count,
        f"{prefix}LogLoss": torch.where(kept, log_loss, 0.0).sum() / count,
        f"{prefix}L1Loss": box_sum.detach() / count,
    }
