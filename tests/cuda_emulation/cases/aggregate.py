"""Cases of aggregate."""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import Tensor

from tests.cuda_emulation.cases.draw import Arguments, Draw, Operator
from tests.cuda_emulation.cases.flow_warp import SPECIAL

# maps, current frames, averaged frames, features, embedding, height, width
EMPTY = [(2, 0, 3, 4, 4, 3, 4), (2, 1, 3, 4, 4, 0, 4), (2, 1, 3, 4, 4, 3, 0)]
SIZES = [
    (1, 1, 1, 1, 1, 1, 1),
    (2, 1, 3, 5, 7, 1, 3),
    (2, 2, 9, 8, 264, 3, 1),  # more frames than warps; more embedding channels than threads
    (3, 1, 64, 260, 4, 2, 2),  # more frames than lanes; more features than threads
    (2, 1, 2, 6, 10, 3, 4),  # no multiple of 4 channels
]


def _inputs(draw: Draw, sizes: tuple[int, ...], given: bool, dtype: torch.dtype = torch.float32) -> list:
    """maps, index, flow, log_counts, features, reference"""
    count, batch, frames, features, embedding, height, width = sizes
    computed = torch.float64 if dtype == torch.float64 else torch.float32
    maps = draw.normal(count, features + embedding, height, width).to(dtype)
    index = draw.integers(0, count - 1, batch, frames)
    flow = 1.5 * draw.normal(batch, frames, 2, height, width, dtype=computed)
    log_counts = draw.uniform(batch, frames, dtype=computed) * 2
    reference = draw.normal(batch, embedding, height, width, dtype=computed) if given else None
    return [maps, index, flow, log_counts, features, reference]


def _without(inputs: list, frame: int) -> list:
    """The frame does not count, and what there is of it must not be read."""
    inputs[1][:, frame], inputs[3][:, frame] = 10**15, -math.inf
    return inputs


def _edges() -> Iterator[Arguments]:
    draw = Draw(1)
    for sizes in [*EMPTY, *SIZES]:
        for given in (False, True):
            yield tuple(_inputs(draw, sizes, given))
    for frame in (0, 1, 2):
        yield tuple(_without(_inputs(draw, (2, 2, 3, 4, 8, 3, 4), given=frame != 1), frame))
    nothing = _inputs(draw, (2, 1, 2, 4, 8, 2, 3), given=True)
    yield tuple(_without(_without(nothing, 0), 1))
    for value in SPECIAL:
        inputs = _inputs(draw, (2, 1, 3, 4, 8, 4, 5), given=False)
        inputs[2][0, 1, 0, 1, 2] = inputs[2][0, 2, 1, 3, 3] = value
        yield tuple(inputs)
    still = _inputs(draw, (2, 1, 3, 4, 8, 4, 5), given=False)
    still[2].zero_()
    yield tuple(still)
    sliced = _inputs(draw, (2, 2, 3, 4, 8, 4, 5), given=False)
    pool = sliced[0].contiguous(memory_format=torch.channels_last)
    yield (pool, *sliced[1:5], pool[:, 4:])


def _layout(draw: Draw, maps: Tensor) -> Tensor:
    return draw.layout(maps) if draw.chance(2) else maps.contiguous(memory_format=torch.channels_last)


def _drawn(draw: Draw) -> Arguments:
    features, embedding = draw.choice((1, 4, 8, 12, 40)), draw.choice((1, 4, 7, 16, 72))
    size = draw.choice(((1, 1), (1, 4), (3, 1), (3, 4)))
    dtype = draw.choice((torch.float32, torch.float32, torch.float64, torch.bfloat16, torch.float16))
    sizes = (draw.number(1, 4), draw.number(1, 2), draw.choice((1, 2, 9, 19)), features, embedding, *size)
    maps, index, flow, log_counts, features, reference = _inputs(draw, sizes, draw.chance(2), dtype)
    if draw.chance(3):
        log_counts[draw.uniform(*log_counts.shape) < 0.3] = -math.inf
    if draw.chance(4):
        flow = flow.round()
    if reference is not None:
        reference = draw.layout(reference.to(draw.choice((dtype, reference.dtype))))
    return _layout(draw, maps), draw.layout(index), draw.layout(flow), draw.layout(log_counts), features, reference


# The sums over channels are added up in another order than on the CPU.
OPERATORS = {"aggregate": Operator(_edges, _drawn, tolerance=2e-6)}
