"""flow_warp along flow that is far, infinite or no number: values and gradients against loops over cells in float64."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from lib.ops import flow_warp, flow_warp_reference

FAR = (1e7, -1e7, 1e30, -1e30, 3.4e38, -3.4e38)  # finite in float32
NO_NUMBERS = (math.nan, math.inf, -math.inf)
SIZES = [(1, 1), (1, 2), (2, 1), (2, 2), (3, 4)]  # positions in sides of two cells overflow first


def plain_warp(feature, flow, scale, grad):
    """The rule of flow_warp's docstring, cell by cell: out, and the gradients of sum(out * grad)."""
    channels, height, width = feature.shape
    warped, out = np.zeros_like(scale), np.zeros_like(scale)
    grad_feature, grad_flow, grad_scale = np.zeros_like(feature), np.zeros_like(flow), np.zeros_like(scale)
    for row in range(height):
        for column in range(width):
            here = (slice(None), row, column)
            upstream = grad[here] * scale[here]
            if not np.isfinite(flow[here]).all():
                warped[here] = grad_flow[here] = np.nan
            elif np.abs(flow[here]).max() < 1e6:
                x, y = column + flow[0, row, column], row + flow[1, row, column]
                left, top = math.floor(x), math.floor(y)
                for i, share_y, slope_y in ((top, 1 - (y - top), -1), (top + 1, y - top, 1)):
                    for j, share_x, slope_x in ((left, 1 - (x - left), -1), (left + 1, x - left, 1)):
                        if 0 <= i < height and 0 <= j < width:
                            warped[here] += share_x * share_y * feature[:, i, j]
                            grad_feature[:, i, j] += share_x * share_y * upstream
                            slope = (upstream * feature[:, i, j]).sum()
                            grad_flow[here] += slope * slope_x * share_y, slope * slope_y * share_x
            out[here], grad_scale[here] = warped[here] * scale[here], warped[here] * grad[here]
    return out, grad_feature, grad_flow, grad_scale


def made_up(size, value, both, dtype):
    """Feature, flow with `value` at its first and its last cell, scale, gradient; all float64 numbers of `dtype`."""
    random = np.random.RandomState(0)
    arrays = [random.standard_normal((n, *size)).astype(dtype).astype(np.float64) for n in (3, 2, 3, 3)]
    arrays[1][0, 0, 0] = value
    arrays[1][slice(None) if both else 1, -1, -1] = value
    return arrays


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("both", [False, True], ids=["one of dx and dy", "both"])
@pytest.mark.parametrize("value", [*FAR, *NO_NUMBERS, 0.25])
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("warp", [flow_warp, flow_warp_reference])
def test_values_and_gradients_are_those_of_plain_loops(warp, size, value, both, dtype):
    arrays = made_up(size, value, both, dtype)
    tensors = [torch.from_numpy(array).to(getattr(torch, dtype))[None] for array in arrays]
    inputs = [tensor.requires_grad_() for tensor in tensors[:3]]
    out = warp(*inputs)
    found = (out, *torch.autograd.grad(out, inputs, tensors[3]))
    for one, wanted in zip(found, plain_warp(*arrays), strict=True):
        np.testing.assert_allclose(one[0].detach().double().numpy(), wanted, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("warp", [flow_warp, flow_warp_reference])
def test_outside_counts_nothing_whatever_the_map_holds(warp, memory_format):
    """A cell outside reads as zero, also in a map whose cells are infinite or no numbers."""
    feature = torch.full((1, 5, 3, 4), math.nan).contiguous(memory_format=memory_format)
    feature[:, 1] = math.inf
    flow = torch.full((1, 2, 3, 4), 50.0)
    inputs = [feature.requires_grad_(), flow.requires_grad_()]
    out = warp(*inputs)
    assert not out.any()
    assert not any(grad.any() for grad in torch.autograd.grad(out.sum(), inputs))
