"""From RPN outputs to object proposals (docs/rules.md, section 2; Faster R-CNN paper, section 3.1)."""

from __future__ import annotations

import torch
from torch import Tensor

from lib.boxes import decode
from lib.ops.dispatch import check_floating, run_in_float32, stand_in_on_cuda
from lib.ops.nms import nms_reference


def proposals(
    cls_prob: Tensor,
    deltas: Tensor,
    im_info: Tensor,
    anchors: Tensor,
    stride: int,
    pre_nms_top_n: int,
    post_nms_top_n: int,
    nms_threshold: float,
    min_size: float,
) -> tuple[Tensor, Tensor]:
    """The RPN's best boxes of each image: decoded, clipped, sorted, suppressed, and repeated up to a fixed number.

    cls_prob: (B, 2A, h, w) after the softmax; channels A.. are the foreground of anchors 0..A-1.
    deltas: (B, 4A, h, w), channel `4 * a + k`, with the training normalisation taken out (times the anchor stds).
    im_info: (B, 3) height, width (pixels of the network input, without padding) and scale; any device.
    anchors: (A, 4) boxes of cell (0, 0), network pixels; cell (y, x) is `stride` pixels further per step; any device.
    pre_nms_top_n: boxes that go into the suppression; 0 or less means all. post_nms_top_n: P, boxes per image returned.
    nms_threshold: suppresses intersection over union strictly above it.
    min_size: pixels of the original image.
    Returns rois (B*P, 5) [image, x1, y1, x2, y2] in network pixels and their scores (B*P,). No gradients.
    dtype float32 or float64 (float32 under autocast).

    The originals' operator, with what is easily missed: candidates are counted (row, column, anchor) and sorted stably,
    so equal scores keep that order. dw and dh are not bounded. A cell whose row is int(height / stride) or beyond, or
    its column likewise, scores -1; a box smaller than min_size * scale grows by half of that on each side and scores
    -1. Both stay candidates. If fewer than P survive - also because there are fewer than P anchors in all - the
    survivors are repeated from the first on, in order, until P.

    In an image of no, negative or NaN height or width no cell lies inside: all scores are -1. Corners are then 0 or one
    below that side; a NaN side clips none from above, and a NaN scale makes no box too small. Corners from deltas that
    are no numbers are NaN; they suppress nothing. A NaN score sorts before all others.

    Raises ValueError for shapes that do not fit together or a map without cells, TypeError for other dtypes.
    """
    _check(cls_prob, deltas, im_info, anchors, stride, post_nms_top_n)
    return torch.ops.vod.proposals(
        cls_prob.detach(),
        deltas.detach(),
        im_info.to(cls_prob, non_blocking=True),  # from the CPU to a GPU without waiting for the GPU
        anchors.to(cls_prob, non_blocking=True),
        stride,
        pre_nms_top_n,
        post_nms_top_n,
        nms_threshold,
        min_size,
    )


def proposals_reference(
    cls_prob: Tensor,
    deltas: Tensor,
    im_info: Tensor,
    anchors: Tensor,
    stride: int,
    pre_nms_top_n: int,
    post_nms_top_n: int,
    nms_threshold: float,
    min_size: float,
) -> tuple[Tensor, Tensor]:
    """The rule of `proposals` in PyTorch; same arguments, same result."""
    _check(cls_prob, deltas, im_info, anchors, stride, post_nms_top_n)
    anchors = anchors.to(cls_prob)
    rois, scores = [cls_prob.new_zeros(0, 5)], [cls_prob.new_zeros(0)]
    for image, info in enumerate(im_info.to(cls_prob)):
        boxes, box_scores = _candidates(cls_prob[image], deltas[image], anchors, stride, info, min_size)  # (h*w*A, 4)
        order = box_scores.sort(descending=True, stable=True).indices
        order = order[:pre_nms_top_n] if pre_nms_top_n > 0 else order
        boxes, box_scores = boxes[order], box_scores[order]
        kept = nms_reference(boxes, box_scores, nms_threshold)
        kept = kept[torch.arange(post_nms_top_n, device=kept.device) % len(kept)]  # (P,)
        rois.append(torch.cat((boxes.new_full((post_nms_top_n, 1), image), boxes[kept]), dim=1))
        scores.append(box_scores[kept])
    return torch.cat(rois), torch.cat(scores)


def _candidates(
    cls_prob: Tensor, deltas: Tensor, anchors: Tensor, stride: int, info: Tensor, min_size: float
) -> tuple[Tensor, Tensor]:
    """All boxes (h*w*A, 4) of one image and their scores (h*w*A,), in (row, column, anchor) order."""
    _, rows, columns = cls_prob.shape
    height, width, scale = info
    min_side = float(min_size * scale.double())
    row = torch.arange(rows, device=cls_prob.device)[:, None, None]
    column = torch.arange(columns, device=cls_prob.device)[None, :, None]
    corner = torch.stack(torch.broadcast_tensors(column, row, column, row), dim=-1) * stride  # (h, w, 1, 4)
    boxes = decode(corner + anchors, deltas.unflatten(0, (-1, 4)).permute(2, 3, 0, 1))  # (h, w, A, 4)
    # As the kernels do it, which matters for an image without pixels: 0 for what is below 0, the last one for the rest
    last = torch.stack((width, height, width, height)) - 1
    boxes = torch.where(boxes < 0, 0, torch.where(boxes > last, last, boxes))
    inside = (row < (height / stride).trunc()) & (column < (width / stride).trunc())  # (h, w, 1)
    sides = boxes[..., 2:] - boxes[..., :2] + 1
    small = (sides < min_side).any(-1)  # (h, w, A)
    growth = boxes.new_tensor([-0.5, -0.5, 0.5, 0.5]) * min_side
    boxes = torch.where(small[..., None], boxes + growth, boxes)
    scores = cls_prob[len(anchors) :].permute(1, 2, 0).masked_fill(~inside | small, -1)  # (h, w, A)
    return boxes.reshape(-1, 4), scores.reshape(-1)


def _check(
    cls_prob: Tensor, deltas: Tensor, im_info: Tensor, anchors: Tensor, stride: int, post_nms_top_n: int
) -> None:
    check_floating("proposals", cls_prob=cls_prob, deltas=deltas)
    if anchors.dim() != 2 or anchors.shape[1] != 4:
        raise ValueError(f"proposals wants anchors (A, 4), not {tuple(anchors.shape)}")
    count = len(anchors)
    shapes = tuple(cls_prob.shape), tuple(deltas.shape)
    if cls_prob.dim() != 4 or shapes[1] != (shapes[0][0], 4 * count, *shapes[0][2:]) or shapes[0][1] != 2 * count:
        raise ValueError(
            f"proposals wants cls_prob (B, {2 * count}, h, w) and deltas (B, {4 * count}, h, w) for {count} anchors, "
            f"not {shapes[0]} and {shapes[1]}"
        )
    if shapes[0][1] * shapes[0][2] * shapes[0][3] == 0:
        raise ValueError(f"proposals wants at least one anchor and one cell, not cls_prob {shapes[0]}")
    if im_info.shape != (shapes[0][0], 3):
        raise ValueError(f"proposals wants im_info ({shapes[0][0]}, 3), not {tuple(im_info.shape)}")
    if stride < 1 or post_nms_top_n < 1:
        raise ValueError(f"proposals wants stride and post_nms_top_n from 1, not {stride} and {post_nms_top_n}")


@torch.library.register_fake("vod::proposals")
def _fake(
    cls_prob: Tensor,
    deltas: Tensor,
    im_info: Tensor,
    anchors: Tensor,
    stride: int,
    pre_nms_top_n: int,
    post_nms_top_n: int,
    nms_threshold: float,
    min_size: float,
) -> tuple[Tensor, Tensor]:
    rows = cls_prob.shape[0] * post_nms_top_n
    return cls_prob.new_empty(rows, 5), cls_prob.new_empty(rows)


run_in_float32("vod::proposals")
stand_in_on_cuda("vod::proposals", proposals_reference)
