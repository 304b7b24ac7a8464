"""Cases of psroi_pool, its backward pass, and psroi_vote."""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import Tensor

from tests.cuda_emulation.cases.draw import Arguments, Draw, Operator

ROIS = torch.tensor(
    [
        [0, 10, 20, 90, 70],  # inside
        [1, 0, 0, 143, 127],  # the whole image
        [1, -40, -30, 60, 400],  # across the border
        [0, 500, 500, 600, 600],  # outside
        [0, -300, -300, -200, -200],
        [0, 33, 33, 33, 33],  # one pixel
        [1, 90, 90, 20, 20],  # turned round
        [0, 7.5, 8.5, 23.5, 24.5],  # halves to round
        [1, -1e9, -1e9, 1e9, 1e9],
        [1, math.nan, 3, math.inf, -math.inf],
        [0, math.nan, math.nan, math.nan, math.nan],
        [0, 20, -math.inf, math.inf, math.inf],
        [0, 20, 40, math.nan, 39],
        [1, 1e30, -1e30, -1e30, 1e30],
    ]
)


def _edges() -> Iterator[Arguments]:
    """feature, rois, output_dim, pooled_size, spatial_scale"""
    draw = Draw(1)
    for output_dim, bins, height, width in ((2, 3, 8, 9), (1, 7, 8, 9), (3, 1, 1, 1), (2, 2, 1, 9), (2, 2, 8, 1)):
        yield draw.normal(2, output_dim * bins**2, height, width), ROIS, output_dim, bins, 1 / 16
    yield draw.normal(2, 18, 8, 9), ROIS.double(), 2, 3, 1 / 16
    yield draw.normal(2, 18, 0, 9), ROIS, 2, 3, 1 / 16
    yield draw.normal(2, 18, 8, 0), ROIS, 2, 3, 1 / 16
    yield draw.normal(2, 18, 8, 9), ROIS[:0], 2, 3, 1 / 16
    yield draw.normal(0, 18, 8, 9), ROIS[:0], 2, 3, 1 / 16
    yield draw.normal(1, 4, 8, 9), ROIS[:1].repeat(300, 1), 1, 2, 1 / 16  # more than one block adds to one cell


def _rois(draw: Draw, count: int, images: int, height: int, width: int) -> Tensor:
    corners = (draw.uniform(count, 4) * 1.4 - 0.2) * torch.tensor([width * 16.0, height * 16.0] * 2)
    if draw.chance(3):
        corners = corners.round() + draw.choice((0.0, 0.5))
    if draw.chance(2):
        corners[:, 2:] = torch.maximum(corners[:, :2], corners[:, 2:])
    return torch.cat((draw.integers(0, images - 1, count, 1).float(), corners), dim=1)


def _drawn(draw: Draw) -> Arguments:
    images, output_dim, bins = draw.number(1, 3), draw.number(1, 6), draw.choice((1, 2, 3, 7))
    height, width = draw.choice(((1, 1), (1, 9), (8, 1), (8, 9), (13, 17)))
    feature = draw.normal(images, output_dim * bins**2, height, width, dtype=draw.dtype())
    rois = _rois(draw, draw.choice((1, 3, 40)), images, height, width)
    if draw.chance(7):
        rois = rois.double()
    return draw.layout(feature), draw.layout(rois), output_dim, bins, draw.choice((1 / 16, 1 / 8, 1.0, 0.1))


def _vote_edges() -> Iterator[Arguments]:
    """feature, rois, output_dim, pooled_size, spatial_scale, by_bin"""
    for arguments in _edges():
        yield (*arguments, False)
        yield (*arguments, True)


def _vote_drawn(draw: Draw) -> Arguments:
    feature, *others = _drawn(draw)
    if draw.chance(3):
        feature = feature.to(draw.choice((torch.bfloat16, torch.float16)))
    return feature, *others, draw.chance(2)


def _backward(draw: Draw, arguments: Arguments) -> Arguments:
    """grad, rois, feature_shape, spatial_scale"""
    feature, rois, output_dim, bins, scale = arguments
    grad = draw.normal(len(rois), output_dim, bins, bins, dtype=feature.dtype)
    return draw.layout(grad), rois, list(feature.shape), scale


OPERATORS = {
    "psroi_pool": Operator(_edges, _drawn),
    "psroi_vote": Operator(_vote_edges, _vote_drawn),
    "psroi_pool_backward": Operator(
        lambda: (_backward(Draw(2), arguments) for arguments in _edges()),
        lambda draw: _backward(draw, _drawn(draw)),
        tolerance=5e-6,
    ),
}
