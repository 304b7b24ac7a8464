"""On a GPU the operators run on the stream that is current, after what was put there before."""

from __future__ import annotations

import pytest
import torch
from torch.testing import assert_close

from lib.ops import aggregate, flow_warp, nms, nms_padded, proposals, psroi_pool, psroi_vote
from tests.ops import test_aggregate, test_flow_warp, test_nms, test_nms_padded, test_proposals, test_psroi_pool

CYCLES = 50_000_000  # a GPU is busy with them for some 30 milliseconds


def warp_both_ways(*inputs):
    leaves = [tensor.detach().requires_grad_() for tensor in inputs]
    out = flow_warp(*leaves)
    return out, *torch.autograd.grad(out, leaves, torch.ones_like(out))


def pool_both_ways(feature, rois):
    leaf = feature.detach().requires_grad_()
    out = psroi_pool(leaf, rois, 5, 3, test_psroi_pool.SCALE)
    return out, *torch.autograd.grad(out, leaf, torch.ones_like(out))


def propose(*inputs):
    return proposals(*inputs, test_proposals.ANCHORS, 16, 100, 50, 0.7, 0.0)


def average(maps, index, flow, log_counts, reference):
    return aggregate(maps, index, flow, log_counts, 3, reference)


MAPS, INDEX, FLOW, LOG_COUNTS, _, REFERENCE = test_aggregate.random_inputs(dtype=torch.float32)
CALLS = {
    "aggregate": (average, (MAPS, INDEX, FLOW, LOG_COUNTS, REFERENCE)),
    "flow_warp": (warp_both_ways, test_flow_warp.random_inputs(channels=40, dtype=torch.float32)),
    "psroi_pool": (pool_both_ways, (test_psroi_pool.random_feature(5, 3, dtype=torch.float32), test_psroi_pool.ROIS)),
    "nms": (lambda boxes, scores: [nms(boxes, scores, 0.5)], test_nms.random_boxes(300)),
    "nms_padded": (lambda boxes, scores: nms_padded(boxes, scores, 0.5), test_nms_padded.random_sets(3, 300)[:2]),
    "psroi_vote": (
        lambda feature, rois: [psroi_vote(feature, rois, 5, 3, test_psroi_pool.SCALE)],
        (test_psroi_pool.random_feature(5, 3, dtype=torch.float32), test_psroi_pool.ROIS),
    ),
    "proposals": (propose, test_proposals.random_inputs()),
}


@pytest.mark.gpu
@pytest.mark.parametrize("name", CALLS)
def test_side_stream(cuda, name):
    """The inputs are zero until a side stream has waited and filled them: to run beside it would read the zeros."""
    call, inputs = CALLS[name]
    inputs = [tensor.to(cuda) for tensor in inputs]
    expected = call(*inputs)
    late = [torch.zeros_like(tensor) for tensor in inputs]
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        torch.cuda._sleep(CYCLES)
        for tensor, value in zip(late, inputs, strict=True):
            tensor.copy_(value)
        result = call(*late)
    stream.synchronize()
    for actual, wanted in zip(result, expected, strict=True):
        assert_close(actual, wanted)


@pytest.mark.gpu
@pytest.mark.parametrize("name", sorted(CALLS.keys() - {"nms"}))  # whose result has as many rows as boxes are kept
def test_the_host_does_not_wait(cuda_kernels, name):
    """PyTorch raises where the host would wait."""
    call, inputs = CALLS[name]
    inputs = [tensor.to(cuda_kernels) for tensor in inputs]
    expected = call(*inputs)
    torch.cuda.set_sync_debug_mode("error")
    try:
        result = call(*inputs)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    for actual, wanted in zip(result, expected, strict=True):
        assert_close(actual, wanted)
