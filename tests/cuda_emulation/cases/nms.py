"""Cases of nms and nms_padded."""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import Tensor

from tests.cuda_emulation.cases.draw import Arguments, Draw, Operator

COUNTS = (0, 1, 2, 63, 64, 65, 127, 128, 129)  # the kernels compare 64 with 64
MANY = 4200  # beyond 4096 torch sorts on a GPU by another method, and 66 words are walked


def random_boxes(draw: Draw, count: int, span: float, dtype: torch.dtype = torch.float32) -> Tensor:
    """(count, 4) boxes of 4 to 64 pixels a side whose first corners lie within `span` pixels."""
    corners = draw.uniform(count, 2, dtype=dtype) * span
    return torch.cat((corners, corners + 3 + draw.uniform(count, 2, dtype=dtype) * 60), dim=1)


def _tied(scores: Tensor) -> Tensor:
    return (scores * 20).round() / 20


def _edges() -> Iterator[Arguments]:
    """boxes, scores, groups, threshold, suppress_equal"""
    draw = Draw(1)
    for count in COUNTS:
        yield random_boxes(draw, count, 100), _tied(draw.uniform(count)), draw.integers(-1, 2, count), 0.4, False
    box, apart = torch.tensor([[3.0, 4, 30, 40]]), 100.0 * torch.arange(130)[:, None] + torch.tensor([0.0, 0, 9, 9])
    yield box.repeat(200, 1), draw.uniform(200), None, 0.5, False  # all but the best are suppressed
    yield box.repeat(200, 1), draw.uniform(200), torch.arange(200), 0.5, False  # each in a group of its own
    yield apart, torch.ones(130), None, 0.0, False  # none overlaps
    pair = torch.tensor([[0.0, 0, 9, 9], [0, 0, 9, 4]])  # exactly half
    yield from ((pair, torch.tensor([0.9, 0.8]), None, 0.5, equal) for equal in (False, True))
    for value in (math.nan, math.inf, -math.inf):
        boxes, scores = random_boxes(draw, 90, 60), draw.uniform(90)
        boxes[7, 2] = boxes[70, 0] = value
        scores[5] = value
        yield boxes, scores, None, 0.3, False
    inverted = random_boxes(draw, 90, 60)
    inverted[:, 2:] = inverted[:, :2] - 1
    yield inverted, draw.uniform(90), None, 0.3, True  # no area: zero by zero
    yield random_boxes(draw, MANY, 900), _tied(draw.uniform(MANY)), draw.integers(0, 9, MANY), 0.3, False


def _drawn(draw: Draw) -> Arguments:
    dtype, count = draw.dtype(), draw.choice((*COUNTS, 300, 500))
    boxes, scores = random_boxes(draw, count, draw.choice((30, 120, 600)), dtype), draw.uniform(count, dtype=dtype)
    if draw.chance(2):
        scores = _tied(scores)
    if draw.chance(3):
        boxes = boxes.round()
    groups = draw.integers(-2, 4, count) * 10**10 if draw.chance(2) else None
    threshold = draw.choice((0.0, 0.3, 0.5, 0.7, 1.0, -0.1))
    groups = groups if groups is None else draw.layout(groups)
    return draw.layout(boxes), draw.layout(scores), groups, threshold, draw.chance(2)


def _padded(cases: Iterator[Arguments], least: float = -math.inf) -> Iterator[Arguments]:
    """The same boxes as one set, and a second set of them in reverse."""
    for boxes, scores, groups, threshold, equal in cases:
        both = [x if x is None else torch.stack((x, x.flip(0))) for x in (boxes, scores, groups)]
        yield *both, threshold, equal, least


def _padded_edges() -> Iterator[Arguments]:
    """boxes, scores, groups, threshold, suppress_equal, least_score"""
    yield from _padded(_edges())
    draw = Draw(2)
    for count in COUNTS:  # of each set another part is above the least score
        boxes = torch.stack([random_boxes(draw, count, 100) for _ in range(4)])
        scores = _tied(draw.uniform(4, count)) * torch.tensor([0.4, 0.6, 1.0, 2.0])[:, None]
        yield boxes, scores, draw.integers(0, 1, 4, count), 0.4, False, 0.5
    yield torch.zeros(0, 7, 4), torch.zeros(0, 7), None, 0.4, False, 0.5
    yield random_boxes(draw, 70, 50)[None], torch.full((1, 70), -math.inf), None, 0.4, False, -math.inf


def _padded_drawn(draw: Draw) -> Arguments:
    sets, count, dtype = draw.number(1, 5), draw.choice((*COUNTS, 300)), draw.dtype()
    boxes = random_boxes(draw, sets * count, draw.choice((30, 120, 600)), dtype).view(sets, count, 4)
    scores = draw.uniform(sets, count, dtype=dtype)
    if draw.chance(2):
        scores = _tied(scores)
    groups = draw.integers(-2, 4, sets, count) * 10**10 if draw.chance(2) else None
    groups = groups if groups is None else draw.layout(groups)
    least = draw.choice((-math.inf, 0.0, 0.5, 0.9, 2.0))
    return draw.layout(boxes), draw.layout(scores), groups, draw.choice((0.0, 0.3, 0.7)), draw.chance(2), least


OPERATORS = {"nms": Operator(_edges, _drawn), "nms_padded": Operator(_padded_edges, _padded_drawn)}
