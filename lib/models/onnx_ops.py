"""The operators of `lib.ops` in ONNX, of opset 18 and standard operators alone, for the exported networks.

Each is the rule of the operator that it is named after, for one image. Rounding differs: sums are in another order.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import torch
from onnxscript import opset18 as op

OPSET = 18
_FLOAT, _INT64, _BOOL, _DOUBLE = 1, 7, 9, 11  # onnx.TensorProto's numbers of data types


def translations() -> dict[Any, Callable]:
    """Operator -> its translation, for `torch.onnx.export(custom_translation_table=...)`."""
    return {
        torch.ops.vod.flow_warp.default: flow_warp,
        torch.ops.vod.psroi_vote.default: psroi_vote,
        torch.ops.vod.proposals.default: proposals,
    }


def flow_warp(feature, flow, scale=None):
    """See `lib.ops.flow_warp`. GridSample fades to zero beyond the border as it does; a NaN in the flow is not kept."""
    _, _, height, width = flow.shape
    if min(height, width) < 2:
        raise ValueError(f"a feature map of {height} x {width} cells has no [-1, 1]; export for frames above 16 pixels")
    cells = np.stack(np.meshgrid(np.arange(width), np.arange(height)), axis=-1).astype(np.float32)  # (h, w, 2)
    halves = np.array([(width - 1) / 2, (height - 1) / 2], np.float32)
    positions = op.Add(op.Transpose(flow, perm=[0, 2, 3, 1]), _constant(cells))  # (N, h, w, 2)
    grid = op.Sub(op.Div(positions, _constant(halves)), _constant(np.float32(1)))
    if feature.shape[0] != flow.shape[0]:
        feature = op.Expand(feature, _constant(np.array([flow.shape[0], 1, 1, 1])))
    warped = op.GridSample(feature, grid, mode="bilinear", padding_mode="zeros", align_corners=1)
    return warped if scale is None else op.Mul(warped, scale)


def psroi_vote(feature, rois, output_dim: int, pooled_size: int, spatial_scale: float, by_bin: bool = False):
    """See `lib.ops.psroi_vote`. Sums over rectangles come from a summed-area table in float64."""
    if by_bin:
        raise NotImplementedError(
            "psroi_vote with by_bin has no ONNX translation: export the model before inference form"
        )
    _, _, height, width = feature.shape
    bins = pooled_size * pooled_size
    table = op.CumSum(op.CumSum(op.Cast(feature, to=_DOUBLE), _constant(np.array(2))), _constant(np.array(3)))
    table = op.Pad(table, _constant(np.array([0, 0, 1, 1, 0, 0, 0, 0])))  # (1, D*P*P, h+1, w+1)
    table = op.Reshape(table, _constant(np.array([output_dim, bins, (height + 1) * (width + 1)])))
    table = op.Transpose(table, perm=[1, 2, 0])  # (P*P, (h+1)*(w+1), D)
    left, right = _edges(rois, 1, 3, pooled_size, spatial_scale, width)  # (R, P) each
    top, bottom = _edges(rois, 2, 4, pooled_size, spatial_scale, height)
    number = _constant(np.arange(bins).reshape(1, pooled_size, pooled_size, 1))

    def corner(row, column):
        rows = op.Mul(op.Unsqueeze(row, _constant(np.array([2]))), _constant(np.array(width + 1)))  # (R, P, 1)
        cell = op.Add(rows, op.Unsqueeze(column, _constant(np.array([1]))))  # (R, P, P)
        cell = op.Unsqueeze(cell, _constant(np.array([3])))  # (R, P, P, 1)
        return op.GatherND(table, op.Concat(op.Expand(number, op.Shape(cell)), cell, axis=3))  # (R, P, P, D)

    inner = op.Sub(corner(bottom, right), corner(top, right))
    total = op.Sub(inner, op.Sub(corner(bottom, left), corner(top, left)))
    rows = op.Unsqueeze(op.Sub(bottom, top), _constant(np.array([2])))  # (R, P, 1)
    columns = op.Unsqueeze(op.Sub(right, left), _constant(np.array([1])))  # (R, 1, P)
    count = op.Mul(rows, columns)
    count = op.Max(op.Cast(op.Unsqueeze(count, _constant(np.array([3]))), to=_DOUBLE), _constant(np.float64(1)))
    means = op.ReduceMean(op.Div(total, count), _constant(np.array([1, 2])), keepdims=0)  # (R, D)
    return op.Cast(means, to=_FLOAT)


def _edges(rois, first: int, last: int, bins: int, scale: float, cells: int):
    """First cell and one past the last of each bin along an axis: two (R, bins) int64; see `psroi_pool_reference`."""
    start = op.Mul(_round_half_away(_column(rois, first)), _constant(np.float32(scale)))  # (R, 1)
    end = op.Mul(op.Add(_round_half_away(_column(rois, last)), _constant(np.float32(1))), _constant(np.float32(scale)))
    size = op.Div(op.Max(op.Sub(end, start), _constant(np.float32(0.1))), _constant(np.float32(bins)))
    begins, ends = (np.arange(bins, dtype=np.float32) + shift for shift in (0, 1))
    begin = op.Floor(op.Add(op.Mul(size, _constant(begins)), start))
    stop = op.Ceil(op.Add(op.Mul(size, _constant(ends)), start))
    begin, stop = (op.Clip(edge, _constant(np.float32(0)), _constant(np.float32(cells))) for edge in (begin, stop))
    return op.Cast(begin, to=_INT64), op.Cast(op.Max(begin, stop), to=_INT64)


def _round_half_away(x):
    return op.Mul(op.Sign(x), op.Floor(op.Add(op.Abs(x), _constant(np.float32(0.5)))))


def proposals(
    cls_prob,
    deltas,
    im_info,
    anchors,
    stride: int,
    pre_nms_top_n: int,
    post_nms_top_n: int,
    nms_threshold: float,
    min_size: float,
):
    """See `lib.ops.proposals`. Corners are inclusive, and not those of NonMaxSuppression: hence the pixel added."""
    count = anchors.shape[0]
    _, _, height, width = cls_prob.shape
    boxes, small = _candidates(deltas, im_info, anchors, stride, min_size, height, width)  # (n, 4), (n, 1)
    row, column = np.divmod(np.arange(height * width).repeat(count), width)  # (n,) each
    cells = op.Floor(op.Div(_column(im_info, slice(0, 2)), _constant(np.float32(stride))))  # (1, 2)
    outside = op.GreaterOrEqual(_constant(np.stack((row, column), axis=1).astype(np.float32)), cells)  # (n, 2)
    excluded = op.Or(
        small, op.Cast(op.ReduceMax(op.Cast(outside, to=_FLOAT), _constant(np.array([1])), keepdims=1), to=_BOOL)
    )
    foreground = op.Slice(
        cls_prob, _constant(np.array([count])), _constant(np.array([2 * count])), _constant(np.array([1]))
    )
    scores = op.Reshape(op.Transpose(foreground, perm=[0, 2, 3, 1]), _constant(np.array([-1])))  # (n,)
    scores = op.Where(op.Squeeze(excluded, _constant(np.array([1]))), _constant(np.float32(-1)), scores)
    number = height * width * count
    most = min(pre_nms_top_n, number) if pre_nms_top_n > 0 else number
    scores, order = op.TopK(scores, _constant(np.array([most])))  # equal scores: the lower index first
    boxes = op.Gather(boxes, order)
    exclusive = op.Add(boxes, _constant(np.array([0, 0, 1, 1], np.float32)))
    kept = op.NonMaxSuppression(
        op.Unsqueeze(exclusive, _constant(np.array([0]))),
        op.Unsqueeze(scores, _constant(np.array([0, 1]))),
        _constant(np.array([post_nms_top_n])),
        _constant(np.array([nms_threshold], np.float32)),
    )  # (m, 3) image, class, box
    kept = op.Squeeze(_column(kept, 2), _constant(np.array([1])))  # (m,)
    repeated = op.Mod(_constant(np.arange(post_nms_top_n)), op.Shape(kept))
    kept = op.Gather(kept, repeated)  # (P,)
    image = _constant(np.zeros((post_nms_top_n, 1), np.float32))
    return op.Concat(image, op.Gather(boxes, kept), axis=1), op.Gather(scores, kept)


def _candidates(deltas, im_info, anchors, stride: int, min_size: float, height: int, width: int):
    """All boxes (n, 4) in (row, column, anchor) order, and (n, 1) which were too small."""
    count = anchors.shape[0]
    deltas = op.Reshape(deltas, _constant(np.array([count, 4, height, width])))
    deltas = op.Reshape(op.Transpose(deltas, perm=[2, 3, 0, 1]), _constant(np.array([-1, 4])))  # (n, 4)
    row, column = np.divmod(np.arange(height * width), width)
    corner = (np.stack((column, row, column, row), axis=1) * stride).astype(np.float32)[:, None]  # (h*w, 1, 4)
    anchors = op.Reshape(op.Add(_constant(corner), anchors), _constant(np.array([-1, 4])))  # (n, 4)
    one, half = _constant(np.float32(1)), _constant(np.float32(0.5))
    first, last = _column(anchors, slice(0, 2)), _column(anchors, slice(2, 4))  # (n, 2) each
    sides = op.Add(op.Sub(last, first), one)
    centres = op.Add(first, op.Mul(half, op.Sub(sides, one)))
    centres = op.Add(op.Mul(_column(deltas, slice(0, 2)), sides), centres)
    sides = op.Mul(op.Exp(_column(deltas, slice(2, 4))), sides)
    reach = op.Mul(half, op.Sub(sides, one))
    corners = op.Concat(op.Sub(centres, reach), op.Add(centres, reach), axis=1)  # (n, 4)
    limits = op.Gather(im_info, _constant(np.array([1, 0, 1, 0])), axis=1)  # (1, 4) width, height, ...
    boxes = op.Min(op.Max(corners, _constant(np.float32(0))), op.Sub(limits, one))
    least = op.Mul(_column(im_info, 2), _constant(np.float32(min_size)))  # (1, 1)
    sides = op.Add(op.Sub(_column(boxes, slice(2, 4)), _column(boxes, slice(0, 2))), one)
    small = op.Less(op.ReduceMin(sides, _constant(np.array([1])), keepdims=1), least)  # (n, 1)
    growth = op.Mul(_constant(np.array([[-0.5, -0.5, 0.5, 0.5]], np.float32)), least)  # (1, 4)
    return op.Where(small, op.Add(boxes, growth), boxes), small


def _column(x, which: int | slice):
    """Columns of (n, m), which are kept as a dimension."""
    columns = np.arange(which.start, which.stop) if isinstance(which, slice) else np.array([which])
    return op.Gather(x, _constant(columns), axis=1)


def _constant(value: np.ndarray | np.generic):
    value = np.asarray(value)
    if value.dtype == np.int_:
        value = value.astype(np.int64)
    return op.Constant(value=onnx.numpy_helper.from_array(value))
