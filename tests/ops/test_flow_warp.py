from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch.autograd import gradcheck
from torch.library import opcheck
from torch.testing import assert_close

from lib.ops import flow_warp, flow_warp_reference

BOTH = pytest.mark.parametrize("warp", [flow_warp, flow_warp_reference], ids=["compiled", "reference"])


def random_inputs(n=2, maps=None, channels=3, height=4, width=5, scaled=True, dtype=torch.float64, seed=0):
    """Feature, flow, scale. Positions keep 0.05 from whole cells, where the gradient to the flow has a step."""
    generator = torch.Generator().manual_seed(seed)
    feature = torch.randn(maps or n, channels, height, width, generator=generator, dtype=dtype)
    whole = torch.randint(-2, 3, (n, 2, height, width), generator=generator)
    flow = whole + 0.05 + 0.9 * torch.rand(n, 2, height, width, generator=generator, dtype=dtype)
    scale = torch.randn(n, channels, height, width, generator=generator, dtype=dtype) if scaled else None
    return feature, flow, scale


def warp_by_loops(feature, flow):
    """The rule for one map, from its definition, in float64 NumPy."""
    channels, height, width = feature.shape
    out = np.zeros_like(feature)
    for row in range(height):
        for column in range(width):
            x, y = column + flow[0, row, column], row + flow[1, row, column]
            for tap_y in (math.floor(y), math.floor(y) + 1):
                for tap_x in (math.floor(x), math.floor(x) + 1):
                    if 0 <= tap_x < width and 0 <= tap_y < height:
                        weight = (1 - abs(x - tap_x)) * (1 - abs(y - tap_y))
                        out[:, row, column] += weight * feature[:, tap_y, tap_x]
    return out


@BOTH
@pytest.mark.parametrize("case", ["warp_a", "warp_b", "warp_c"])
def test_equals_the_original(recorded, warp, case, device):
    numbers = recorded(case)
    feature = numbers[f"{case}_data"].to(device).requires_grad_()
    flow = numbers[f"{case}_flow"].to(device).requires_grad_()
    out = warp(feature, flow)
    out.backward(numbers[f"{case}_head"].to(device))
    tolerance = {"atol": 1e-5, "rtol": 1e-5}
    assert_close(out.detach().cpu(), numbers[f"{case}_out"], **tolerance)
    assert_close(feature.grad.cpu(), numbers[f"{case}_grad_data"], **tolerance)
    assert_close(flow.grad.cpu(), numbers[f"{case}_grad_flow"], **tolerance)


@BOTH
@pytest.mark.parametrize("size", [(4, 5), (1, 6), (6, 1), (1, 1)])
def test_equals_the_definition(warp, size):
    feature, flow, scale = random_inputs(height=size[0], width=size[1])
    expected = [warp_by_loops(f.numpy(), w.numpy()) for f, w in zip(feature, flow, strict=True)]
    assert_close(warp(feature, flow), torch.from_numpy(np.stack(expected)))
    assert_close(warp(feature, flow, scale), torch.from_numpy(np.stack(expected)) * scale)


@BOTH
def test_channels_beyond_one_block(warp):
    feature, flow, _ = random_inputs(channels=19)
    expected = [warp_by_loops(f.numpy(), w.numpy()) for f, w in zip(feature, flow, strict=True)]
    assert_close(warp(feature, flow), torch.from_numpy(np.stack(expected)))


@BOTH
def test_border_and_beyond(warp):
    feature = torch.arange(1.0, 13.0).reshape(1, 1, 3, 4)
    still = torch.zeros(1, 2, 3, 4)
    assert_close(warp(feature, still), feature)
    right = still.clone()
    right[:, 0] = 1
    assert_close(warp(feature, right)[..., :3], feature[..., 1:])
    assert_close(warp(feature, right)[..., 3], torch.zeros(1, 1, 3))
    right[:, 0] = 0.25  # the last column reads a quarter of a cell beyond the border
    assert_close(warp(feature, right)[..., 3], 0.75 * feature[..., 3])
    for far in (1e3, -1e3, 1e30, -1e30):
        assert warp(feature, torch.full_like(still, far)).abs().max() == 0


@BOTH
def test_flow_that_is_no_number_is_seen(warp):
    flow = torch.zeros(1, 2, 3, 4)
    flow[0, 0, 1, 1], flow[0, 1, 2, 2] = math.nan, math.inf
    out = warp(torch.ones(1, 2, 3, 4), flow)
    assert out.isnan().nonzero().tolist() == [[0, 0, 1, 1], [0, 0, 2, 2], [0, 1, 1, 1], [0, 1, 2, 2]]


@pytest.mark.parametrize("maps", [2, 1])
@pytest.mark.parametrize("scaled", [True, False])
def test_gradients(maps, scaled):
    inputs = [tensor.requires_grad_() for tensor in random_inputs(maps=maps, scaled=scaled) if tensor is not None]
    assert gradcheck(flow_warp, inputs)


@pytest.mark.parametrize("size", [(1, 5), (4, 1), (1, 1)])
def test_gradients_of_one_cell_sides(size):
    feature, flow, _ = random_inputs(height=size[0], width=size[1], scaled=False)
    assert gradcheck(flow_warp, (feature.requires_grad_(), flow.requires_grad_()))


@pytest.mark.parametrize("maps", [3, 1])
def test_backward_equals_autograd_of_the_reference(maps, device):
    results = []
    for warp in (flow_warp, flow_warp_reference):
        inputs = random_inputs(n=3, maps=maps, channels=19, height=7, width=9, dtype=torch.float32)
        inputs = [tensor.to(device).requires_grad_() for tensor in inputs]
        out = warp(*inputs)
        results.append((out, *torch.autograd.grad(out, inputs, torch.cos(out.detach()))))
    assert_close(*results, atol=1e-5, rtol=1e-5)


def test_one_map_along_many_flows():
    feature, flow, scale = random_inputs(n=3, maps=1)
    assert_close(flow_warp(feature, flow, scale), flow_warp(feature.repeat(3, 1, 1, 1), flow, scale))


def test_same_bits_with_any_number_of_threads():
    feature, flow, scale = (tensor.requires_grad_() for tensor in random_inputs(3, 1, 40, 30, 40, dtype=torch.float32))
    threads, results = torch.get_num_threads(), []
    try:
        for count in (1, 2, 3):
            torch.set_num_threads(count)
            results.append(torch.autograd.grad(flow_warp(feature, flow, scale).sum(), (feature, flow, scale)))
    finally:
        torch.set_num_threads(threads)
    for other in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(results[0], other, strict=True))


@pytest.mark.parametrize("scaled", [True, False])
def test_operator_contract(scaled):
    inputs = random_inputs(scaled=scaled, dtype=torch.float32)
    opcheck(torch.ops.vod.flow_warp.default, tuple(t if t is None else t.clone().requires_grad_() for t in inputs))
    opcheck(torch.ops.vod.flow_warp_backward.default, (torch.ones(2, 3, 4, 5), *inputs))
    last = [t if t is None else t.contiguous(memory_format=torch.channels_last) for t in (inputs[0], inputs[2])]
    opcheck(torch.ops.vod.flow_warp.default, (last[0], inputs[1], last[1]))


@BOTH
@pytest.mark.parametrize("shape", [(0, 3, 4, 5), (2, 0, 4, 5), (2, 3, 0, 5), (2, 3, 4, 0)])
def test_empty(warp, shape, device):
    feature = torch.zeros(shape, device=device, requires_grad=True)
    flow = torch.zeros(shape[0], 2, *shape[2:], device=device, requires_grad=True)
    out = warp(feature, flow)
    out.sum().backward()
    assert out.shape == shape
    assert feature.grad.shape == shape
    assert flow.grad.shape == flow.shape


def test_memory_order_does_not_matter(device):
    feature, flow, scale = (tensor.to(device) for tensor in random_inputs())
    expected = flow_warp(feature, flow, scale)
    channels_last = feature.contiguous(memory_format=torch.channels_last)
    strided_flow = flow.permute(2, 3, 0, 1).contiguous().permute(2, 3, 0, 1)
    assert not channels_last.is_contiguous()
    assert not strided_flow.is_contiguous()
    leaves = [tensor.requires_grad_() for tensor in (channels_last, strided_flow, scale)]
    out = flow_warp(*leaves)
    assert_close(out, expected)
    expanded = torch.ones(1, 1, 1, 1, dtype=out.dtype, device=device).expand_as(out)
    reference = torch.autograd.grad(flow_warp_reference(*leaves), leaves, expanded)
    assert_close(torch.autograd.grad(out, leaves, expanded), reference)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_autocast_computes_in_float32(dtype, device):
    feature, flow, scale = (tensor.to(device) for tensor in random_inputs(dtype=torch.float32))
    half = feature.to(dtype).requires_grad_()
    with torch.autocast(device.type, dtype=dtype):
        out = flow_warp(half, flow, scale)
    assert out.dtype == torch.float32
    whole = feature.to(dtype).float().requires_grad_()
    expected = flow_warp(whole, flow, scale)
    assert_close(out, expected)
    (grad,) = torch.autograd.grad(out.sum(), half)
    assert_close(grad, torch.autograd.grad(expected.sum(), whole)[0].to(dtype))


def test_compiles_as_one_graph():
    inputs = [tensor.requires_grad_() for tensor in random_inputs(dtype=torch.float32)]
    compiled = torch.compile(lambda *tensors: flow_warp(*tensors) * 2, backend="aot_eager", fullgraph=True)
    out = compiled(*inputs)
    assert_close(out, flow_warp(*inputs) * 2)
    expected = torch.autograd.grad(flow_warp(*inputs).sum() * 2, inputs)
    assert_close(torch.autograd.grad(out.sum(), inputs), expected)


@BOTH
@pytest.mark.parametrize(
    ("feature", "flow", "scale", "error", "text"),
    [
        ((2, 3, 4, 5), (2, 3, 4, 5), None, ValueError, r"flow \(N, 2, H, W\)"),
        ((2, 3, 4, 5), (2, 2, 4, 6), None, ValueError, r"same H and W"),
        ((3, 4, 5), (1, 2, 4, 5), None, ValueError, r"feature \(N or 1"),
        ((3, 3, 4, 5), (2, 2, 4, 5), None, ValueError, "2 flows, not 3"),
        ((1, 3, 4, 5), (2, 2, 4, 5), (1, 3, 4, 5), ValueError, r"scale map of shape \(2, 3, 4, 5\)"),
    ],
)
def test_shapes_that_do_not_fit(warp, feature, flow, scale, error, text):
    with pytest.raises(error, match=text):
        warp(torch.zeros(feature), torch.zeros(flow), None if scale is None else torch.zeros(scale))


@BOTH
def test_other_dtypes_are_refused(warp):
    with pytest.raises(TypeError, match=r"feature torch\.float16"):
        warp(torch.zeros(1, 3, 4, 5).half(), torch.zeros(1, 2, 4, 5).half())
    with pytest.raises(TypeError, match="one dtype"):
        warp(torch.zeros(1, 3, 4, 5), torch.zeros(1, 2, 4, 5).double())


def test_operator_checks_for_itself():
    with pytest.raises(RuntimeError, match="do not fit"):
        torch.ops.vod.flow_warp(torch.zeros(1, 3, 4, 5), torch.zeros(1, 2, 4, 6), None)


@pytest.mark.parametrize("maps", [1, 3])
@pytest.mark.parametrize("scaled", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_channels_last_gives_the_same_bits_and_stays(maps, scaled, dtype):
    """37 channels: a rest after every width of vector. Some positions lie outside the map, one is NaN."""
    feature, flow, scale = random_inputs(3, maps, channels=37, height=9, width=11, scaled=scaled, dtype=dtype)
    flow[1, 0, 2, 3] = torch.nan
    expected = flow_warp(feature, flow, scale)
    last = [None if x is None else x.contiguous(memory_format=torch.channels_last) for x in (feature, scale)]
    warped = flow_warp(last[0], flow, last[1])
    assert_close(warped, expected, atol=0, rtol=0, equal_nan=True)
    assert warped.is_contiguous(memory_format=torch.channels_last)
    assert not warped.is_contiguous()
    assert expected.is_contiguous()


def test_mixed_memory_formats_give_the_usual_order():
    feature, flow, scale = random_inputs(channels=5)
    warped = flow_warp(feature.contiguous(memory_format=torch.channels_last), flow, scale)
    assert torch.equal(warped, flow_warp(feature, flow, scale))
    assert warped.is_contiguous()


def test_gradients_with_channels_last():
    feature, flow, scale = random_inputs()
    head = torch.randn(feature.shape, dtype=feature.dtype)
    grads = []
    for order in (torch.contiguous_format, torch.channels_last):
        leaves = [x.detach().contiguous(memory_format=order).requires_grad_() for x in (feature, flow, scale)]
        grads.append(torch.autograd.grad(flow_warp(*leaves), leaves, head))
    assert_close(*grads, atol=0, rtol=0)


@pytest.mark.gpu
def test_cuda_equals_cpu_with_channels_last(cuda):
    feature, flow, scale = random_inputs(2, 2, 70, 9, 11, dtype=torch.float32)
    last = [x.to(cuda).contiguous(memory_format=torch.channels_last) for x in (feature, scale)]
    warped = flow_warp(last[0], flow.to(cuda), last[1])
    assert_close(warped.cpu(), flow_warp(feature, flow, scale), atol=1e-5, rtol=1e-5)


@pytest.mark.gpu
def test_cuda_equals_cpu(cuda):
    for maps in (2, 1):
        inputs = random_inputs(2, maps, 70, 9, 11, dtype=torch.float32)
        results = []
        for device in ("cpu", cuda):
            leaves = [tensor.to(device).requires_grad_() for tensor in inputs]
            out = flow_warp(*leaves)
            grads = torch.autograd.grad(out, leaves, torch.cos(out.detach()))
            results.append([tensor.cpu() for tensor in (out, *grads)])
        assert_close(*results, atol=1e-5, rtol=1e-5)
