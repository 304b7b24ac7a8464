"""Numbers that no network should give: the compiled operators and their references still say the same."""

from __future__ import annotations

import itertools
import math

import pytest
import torch

from lib.ops import (
    aggregate,
    aggregate_reference,
    flow_warp,
    flow_warp_reference,
    nms,
    nms_padded,
    nms_padded_reference,
    nms_reference,
    proposals,
    proposals_reference,
    psroi_pool,
    psroi_pool_reference,
    psroi_vote,
    psroi_vote_reference,
)

HUGE = 1e30
EXTREMES = (0.0, -0.0, 1e-45, 0.5, -1.0, 1e7, HUGE, -HUGE, 3.4e38, -3.4e38, math.inf, -math.inf, math.nan)
SIZES = [(1, 1), (1, 4), (3, 1), (2, 2), (3, 4)]


def random(*shape, seed=0, dtype=torch.float32):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def with_gradients(function, *tensors):
    """The outputs of `function`, and the gradients of a weighted sum of them."""
    inputs = [tensor.clone().requires_grad_() for tensor in tensors]
    outputs = function(*inputs)
    outputs = outputs if isinstance(outputs, tuple) else (outputs,)
    weighted = [(out * random(*out.shape, seed=9, dtype=out.dtype)).sum() for out in outputs]
    grads = torch.autograd.grad(sum(weighted), inputs, allow_unused=True)
    return outputs, grads


def assert_same(found, wanted):
    for one, other in zip(found, wanted, strict=True):
        assert (one is None) == (other is None)
        if one is not None:
            torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5, equal_nan=True)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("value", EXTREMES)
@pytest.mark.parametrize("scaled", [False, True])
def test_warping_along_any_flow(size, value, scaled):
    """Flow that leaves the map reads zero, flow that is no finite number gives NaN; tests of warping have the rest."""
    feature, flow = random(2, 3, *size), random(2, 2, *size, seed=1)
    flow[0, 0, 0, 0] = value
    flow[1, :, -1, -1] = value
    tensors = (feature, flow, random(2, 3, *size, seed=2)) if scaled else (feature, flow)
    (found,), grads = with_gradients(flow_warp, *tensors)
    (wanted,), other = with_gradients(flow_warp_reference, *tensors)
    assert_same([found, *grads], [wanted, *other])
    place = found[0, :, 0, 0]
    assert math.isfinite(value) or place.isnan().all()
    if 1e7 <= abs(value) < math.inf:
        assert (place == 0).all()
        assert (grads[1][0, :, 0, 0] == 0).all()


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("value", EXTREMES)
@pytest.mark.parametrize("given", [False, True])
def test_averaging_along_any_flow(size, value, given):
    maps, flow = random(3, 5, *size), random(2, 2, 2, *size, seed=1)
    flow[0, 1, 0, 0, 0] = value
    index, counts = torch.tensor([[0, 2], [1, 0]]), torch.tensor([[0.0, 0.0], [math.log(2), -math.inf]])
    reference = random(2, 2, *size, seed=3) if given else None
    run = lambda op: with_gradients(lambda m, f: op(m, index, f, counts, 3, reference), maps, flow)  # noqa: E731
    (found, grads), (wanted, other) = run(aggregate), run(aggregate_reference)
    assert_same([*found, *grads], [*wanted, *other])
    assert found[0][0, :, 0, 0].isnan().all() == (not math.isfinite(value))
    assert found[0][1].isfinite().all()


ROIS = [
    *([0, a, b, c, d] for a, b, c, d in itertools.product((-HUGE, 0.0, HUGE), repeat=4)),
    *([0, value, 3, 20, 30] for value in EXTREMES),
    *([0, 3, 5, 20, value] for value in EXTREMES),
    [0, 30, 30, 10, 10],  # inverted
    [0, 5, 5, 5, 5],
    [0, -50, -50, -40, -40],
]


CORNERS = [  # of one axis: first, last in pixels of 1/16 cell; the cells of four that each of two bins reads
    (0, 63, (0, 1), (2, 3)),
    (40, 10, (2,), (2,)),  # inverted: 0.1 cells from cell 2.5 on
    (20, 20, (1,), (1,)),  # one pixel
    (20, 19, (1,), (1,)),  # no extent
    (-200, -100, (), ()),
    (1e30, 20, (), ()),
    (-1e30, 20, (), ()),  # rounding loses its last corner
    (3, 1e30, (0, 1, 2, 3), ()),
    (-1e30, 1e30, (), (0, 1, 2, 3)),
    (math.nan, 20, (), ()),
    (math.inf, 20, (), ()),
    (-math.inf, math.inf, (), ()),
    (20, math.nan, (1,), (1,)),
    (20, -math.inf, (1,), (1,)),
    (20, math.inf, (0, 1, 2, 3), ()),
]


@pytest.mark.parametrize(("first", "last", "one", "other"), CORNERS)
@pytest.mark.parametrize("pool", [psroi_pool, psroi_pool_reference])
def test_a_box_reads_the_cells_that_the_docstring_says(pool, first, last, one, other):
    """Cells worked out by hand; a bin gives each cell that it reads the same share of its gradient."""
    feature = torch.zeros(1, 4, 1, 4, requires_grad=True)  # bins (0, 0), (0, 1), (1, 0), (1, 1)
    out = pool(feature, torch.tensor([[0.0, first, 0, last, 15]]), 1, 2, 1 / 16)
    (grad,) = torch.autograd.grad(out.sum(), feature)
    for channel, cells in ((0, one), (1, other)):
        wanted = torch.zeros(4)
        wanted[list(cells)] = 1 / max(1, len(cells))
        torch.testing.assert_close(grad[0, channel, 0], wanted)


@pytest.mark.parametrize("size", SIZES)
def test_pooling_from_any_box(size):
    rois = torch.tensor(ROIS, dtype=torch.float32)
    feature = random(1, 2 * 9, *size)
    for op, reference in ((psroi_pool, psroi_pool_reference), (psroi_vote, psroi_vote_reference)):
        arguments = (rois, 2, 3, 1 / 16)
        found, grads = with_gradients(lambda f: op(f, *arguments), feature)  # noqa: B023
        wanted, other = with_gradients(lambda f: reference(f, *arguments), feature)  # noqa: B023
        assert_same([*found, *grads], [*wanted, *other])
        assert found[0].isfinite().all(), "a box that reads nothing gives 0"


def boxes_of_extremes(dtype):
    values = [[a, b, c, d] for a, b in itertools.product(EXTREMES, repeat=2) for c, d in ((10.0, 10.0), (b, a))]
    return torch.tensor(values, dtype=dtype)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("equal", [False, True])
@pytest.mark.parametrize("threshold", [0.0, 0.5, 1.0, math.nan])
def test_suppressing_any_boxes(dtype, equal, threshold):
    """An overlap that is no number suppresses nothing."""
    boxes = boxes_of_extremes(dtype)
    scores = random(len(boxes), dtype=dtype)
    found = nms(boxes, scores, threshold, None, equal)
    assert torch.equal(found, nms_reference(boxes, scores, threshold, None, equal))
    padded = nms_padded(boxes[None], scores[None], threshold, None, equal)
    for one, other in zip(padded, nms_padded_reference(boxes[None], scores[None], threshold, None, equal), strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize("value", EXTREMES)
def test_suppressing_by_any_score(value):
    """NaN is above every number, as in torch.sort; nms_padded leaves it out."""
    boxes = random(12, 4).cumsum(1)
    scores = random(12, seed=1)
    scores[::5] = value
    assert torch.equal(nms(boxes, scores, 0.3), nms_reference(boxes, scores, 0.3))
    found, wanted = (op(boxes[None], scores[None], 0.3) for op in (nms_padded, nms_padded_reference))
    assert torch.equal(found[0], wanted[0])
    assert torch.equal(found[1], wanted[1])
    assert not math.isnan(value) or not torch.isin(found[0], torch.arange(0, 12, 5)).any()


INFOS = [
    (0.0, 0.0, 0.0),
    (0.0, 64.0, 1.0),
    (1.0, 1.0, 1.0),
    (-5.0, -5.0, 1.0),
    (48.0, 64.0, 0.0),
    (48.0, 64.0, HUGE),
    *((value, 64.0, 1.0) for value in EXTREMES),
    *((48.0, value, 1.0) for value in EXTREMES),
    *((48.0, 64.0, value) for value in EXTREMES),
]


def propose(operator, cls_prob, deltas, info):
    anchors = torch.tensor([[-8.0, -8.0, 23.0, 23.0], [-24.0, 0.0, 39.0, 15.0]])
    return operator(cls_prob, deltas, torch.tensor([info]), anchors, 16, 20, 8, 0.7, 2.0)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("info", INFOS)
def test_proposals_in_images_of_any_size(size, info):
    cls_prob, deltas = torch.rand(1, 4, *size, generator=torch.Generator().manual_seed(0)), random(1, 8, *size, seed=1)
    found = propose(proposals, cls_prob, deltas, info)
    assert_same(found, propose(proposals_reference, cls_prob, deltas, info))
    if not min(info[:2]) >= 16:  # no whole cell: NaN too
        assert (found[1] == -1).all()


@pytest.mark.parametrize("value", EXTREMES)
@pytest.mark.parametrize("place", ["delta", "score"])
def test_proposals_from_any_deltas_and_scores(value, place):
    cls_prob, deltas = torch.rand(1, 4, 3, 4, generator=torch.Generator().manual_seed(0)), random(1, 8, 3, 4, seed=1)
    (deltas if place == "delta" else cls_prob)[0, ::3, 1] = value
    found = propose(proposals, cls_prob, deltas, (48.0, 64.0, 1.0))
    assert_same(found, propose(proposals_reference, cls_prob, deltas, (48.0, 64.0, 1.0)))
