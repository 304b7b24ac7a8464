"""Cases of proposals."""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import Tensor

from tests.cuda_emulation.cases.draw import Arguments, Draw, Operator

STRIDE = 16


def _tensors(draw: Draw, images: int, anchors: int, height: int, width: int, dtype=torch.float32) -> list[Tensor]:
    """cls_prob, deltas, im_info, anchors; the images are up to 20 pixels smaller than their maps."""
    scores = draw.uniform(images, 2 * anchors, height, width, dtype=dtype)
    deltas = 0.5 * draw.normal(images, 4 * anchors, height, width, dtype=dtype)
    sizes = torch.tensor([float(STRIDE * height), STRIDE * width]) - draw.integers(0, 20, images, 2)
    info = torch.cat((sizes, 1 + draw.integers(0, 4, images, 1) / 4), dim=1).to(dtype)
    corners = draw.uniform(anchors, 2, dtype=dtype) * 20 - 40
    return [scores, deltas, info, torch.cat((corners, corners + 16 + draw.uniform(anchors, 2, dtype=dtype) * 100), 1)]


def _tied(tensors: list[Tensor]) -> list[Tensor]:
    tensors[0] = (tensors[0] * 16).round() / 16
    return tensors


def _edges() -> Iterator[Arguments]:
    """cls_prob, deltas, im_info, anchors, stride, pre_nms_top_n, post_nms_top_n, nms_threshold, min_size"""
    draw = Draw(1)
    for images, anchors, height, width in ((0, 3, 4, 5), (1, 1, 1, 1), (1, 3, 1, 1), (2, 9, 1, 5), (3, 12, 6, 1)):
        yield *_tensors(draw, images, anchors, height, width), STRIDE, 6000, 40, 0.7, 0.0
    yield *_tensors(draw, 2, 9, 5, 7), STRIDE, 6000, 40, 0.7, 1e6  # all too small: all score -1
    yield *_tensors(draw, 2, 9, 5, 7), STRIDE, 100, 300, 0.01, 0.0  # few survive and are repeated
    yield *_tensors(draw, 2, 9, 5, 7), STRIDE, 0, 1, 1.0, 8.0
    for value in (math.nan, math.inf, -math.inf, 1e4):
        tensors = _tensors(draw, 2, 3, 5, 7)
        tensors[1][0, 2, 3, 3] = tensors[1][1, 0, 1, 2] = value
        yield *tensors, STRIDE, 60, 40, 0.7, 0.0
    for column in range(3):
        for value in (0.0, -5.0, 1e30, math.nan, math.inf, -math.inf):
            tensors = _tensors(draw, 2, 3, 5, 7)
            tensors[2][1, column] = value
            yield *tensors, STRIDE, 60, 40, 0.7, 8.0
    tensors = _tensors(draw, 2, 3, 5, 7)
    tensors[0][1, 4, 2, 2] = math.nan
    yield *tensors, STRIDE, 60, 40, 0.7, 0.0
    # 4800 candidates: beyond 4096 torch sorts on a GPU by another method
    yield *_tied(_tensors(draw, 1, 12, 20, 20)), STRIDE, 0, 300, 0.7, 16.0


def _drawn(draw: Draw) -> Arguments:
    height, width = draw.choice(((1, 1), (1, 5), (6, 1), (5, 7), (8, 9)))
    tensors = _tensors(draw, draw.number(1, 3), draw.choice((1, 3, 9, 12)), height, width, draw.dtype())
    if draw.chance(2):
        tensors = _tied(tensors)
    before, after = draw.choice((0, -1, 1, 40, 64, 100, 6000)), draw.choice((1, 8, 64, 300))
    threshold, min_size = draw.choice((0.0, 0.3, 0.7, 0.999, 1.0)), draw.choice((0.0, 8.0, 40.0))
    return *map(draw.layout, tensors), draw.choice((8, STRIDE)), before, after, threshold, min_size


OPERATORS = {"proposals": Operator(_edges, _drawn)}
