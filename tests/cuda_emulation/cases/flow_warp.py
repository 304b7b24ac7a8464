"""Cases of flow_warp and its backward pass."""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch

from tests.cuda_emulation.cases.draw import Arguments, Draw, Operator, laid_out

# images, feature maps (one for all images or one each), channels, height, width
EMPTY = [(0, 0, 3, 4, 5), (0, 1, 3, 4, 5), (2, 2, 0, 4, 5), (2, 1, 3, 0, 5), (2, 2, 3, 4, 0)]
SMALL = [(1, 1, 1, 1, 1), (2, 2, 3, 1, 6), (2, 1, 3, 6, 1), (1, 1, 2, 2, 2)]
CHANNELS = [(1, 1, channels, 5, 7) for channels in (8, 9, 32, 33, 65)]  # one thread takes blocks of 8, and of 32
SPECIAL = (math.nan, math.inf, -math.inf, 1e30, -1e38, 3e38, 2.0**31, -(2.0**40))


def _inputs(draw: Draw, shape: tuple[int, ...], scaled: bool, dtype: torch.dtype = torch.float32) -> list:
    """feature, flow, scale"""
    images, maps, channels, height, width = shape
    feature = draw.normal(maps, channels, height, width, dtype=dtype)
    flow = 3 * draw.normal(images, 2, height, width, dtype=dtype)
    return [feature, flow, draw.normal(images, channels, height, width, dtype=dtype) if scaled else None]


def _edges() -> Iterator[list]:
    draw = Draw(1)
    for shape in [*EMPTY, *SMALL, *CHANNELS]:
        yield _inputs(draw, shape, scaled=True)
    for value in SPECIAL:
        inputs = _inputs(draw, (2, 1, 3, 4, 5), scaled=False)
        inputs[1][0, 0, 1, 2] = inputs[1][1, 1, 3, 3] = value
        yield inputs
        small = _inputs(draw, (1, 1, 3, 2, 2), scaled=True)  # of two cells a side: positions overflow first
        small[1][0, 0, 0, 1] = small[1][0, 1, 1, 0] = value
        yield small
    still, whole = (_inputs(draw, (2, 2, 9, 4, 5), scaled=False) for _ in range(2))
    still[1].zero_()
    whole[1].round_()
    yield from (still, whole)
    for scaled in (False, True):
        feature, flow, scale = _inputs(draw, (2, 2, 9, 4, 5), scaled)
        yield [laid_out(feature, "channels last"), flow, scale if scale is None else laid_out(scale, "channels last")]


def _drawn(draw: Draw) -> list:
    images = draw.number(1, 4)
    channels = draw.choice((1, 7, 8, 9, 31, 33, 40, 64))
    size = draw.choice(((1, 1), (1, 6), (6, 1), (2, 2), (5, 7), (13, 16)))
    inputs = _inputs(draw, (images, draw.choice((1, images)), channels, *size), draw.chance(2), draw.dtype())
    if draw.chance(4):
        inputs[1].round_()
    if draw.chance(6):
        inputs[1].view(-1)[draw.number(0, inputs[1].numel() - 1)] = draw.choice(SPECIAL)
    return [tensor if tensor is None else draw.layout(tensor) for tensor in inputs]


def _with_grad(draw: Draw, inputs: list) -> Arguments:
    feature, flow, _ = inputs
    grad = draw.normal(flow.shape[0], *feature.shape[1:], dtype=feature.dtype)
    return (draw.layout(grad), *inputs)


OPERATORS = {
    "flow_warp": Operator(lambda: map(tuple, _edges()), lambda draw: tuple(_drawn(draw)), contiguous=True),
    "flow_warp_backward": Operator(
        lambda: (_with_grad(Draw(2), inputs) for inputs in _edges()),
        lambda draw: _with_grad(draw, _drawn(draw)),
        tolerance=5e-6,
    ),
}
