from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch.autograd import gradcheck
from torch.library import opcheck
from torch.testing import assert_close

from lib.ops import psroi_pool, psroi_pool_reference

BOTH = pytest.mark.parametrize("pool", [psroi_pool, psroi_pool_reference], ids=["compiled", "reference"])
SCALE = 1 / 16
# Inside; touching the border; across it; outside; a pixel; turned round; halves to round; huge.
ROIS = torch.tensor(
    [
        [0, 10, 20, 90, 70],
        [1, 0, 0, 143, 127],
        [1, -40, -30, 60, 400],
        [0, 500, 500, 600, 600],
        [0, 33, 33, 33, 33],
        [1, 90, 90, 20, 20],
        [0, 7.5, 8.5, 23.5, 24.5],
        [1, -1e9, -1e9, 1e9, 1e9],
    ]
)


def random_feature(output_dim=2, bins=3, height=8, width=9, dtype=torch.float64, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(2, output_dim * bins * bins, height, width, generator=generator, dtype=dtype)


def round_half_away(x):
    return math.copysign(math.floor(abs(x) + 0.5), x)


def pool_by_loops(feature, rois, output_dim, bins, scale):
    """The rule of docs/rules.md, section 2: float32 geometry, float64 mean."""
    height, width = feature.shape[2:]
    out = np.zeros((len(rois), output_dim, bins, bins))
    f32 = np.float32
    for r, (image, *corners) in enumerate(rois.tolist()):
        x1, y1 = (f32(round_half_away(c)) * f32(scale) for c in corners[:2])
        x2, y2 = (f32(round_half_away(c) + 1) * f32(scale) for c in corners[2:])
        step_x, step_y = (max(f32(side), f32(0.1)) / f32(bins) for side in (x2 - x1, y2 - y1))
        for i in range(bins):
            for j in range(bins):
                top, bottom = (
                    int(np.clip(v, 0, height)) for v in (np.floor(i * step_y + y1), np.ceil((i + 1) * step_y + y1))
                )
                left, right = (
                    int(np.clip(v, 0, width)) for v in (np.floor(j * step_x + x1), np.ceil((j + 1) * step_x + x1))
                )
                if top < bottom and left < right:
                    channels = (np.arange(output_dim) * bins + i) * bins + j
                    out[r, :, i, j] = feature[int(image), channels, top:bottom, left:right].mean((1, 2))
    return out


@BOTH
@pytest.mark.parametrize("case", ["psroi_a", "psroi_b"])
def test_equals_the_original(recorded, pool, case, device):
    numbers = recorded(case)
    feature = numbers[f"{case}_data"].to(device).requires_grad_()
    rois = numbers[f"{case}_rois"].to(device).requires_grad_()
    sizes = (numbers.number(f"{case}_{name}") for name in ("output_dim", "pooled_size", "spatial_scale"))
    out = pool(feature, rois, *sizes)
    out.backward(numbers[f"{case}_head"].to(device))
    assert_close(out.detach().cpu(), numbers[f"{case}_out"], atol=1e-5, rtol=1e-5)
    assert_close(feature.grad.cpu(), numbers[f"{case}_grad_data"], atol=1e-5, rtol=1e-5)
    assert rois.grad is None or not rois.grad.any()


@BOTH
@pytest.mark.parametrize(
    ("output_dim", "bins", "height", "width"), [(2, 3, 8, 9), (1, 7, 8, 9), (3, 1, 1, 9), (2, 2, 8, 1)]
)
def test_equals_the_definition(pool, output_dim, bins, height, width):
    feature = random_feature(output_dim, bins, height, width)
    expected = pool_by_loops(feature.numpy(), ROIS, output_dim, bins, SCALE)
    assert_close(pool(feature, ROIS, output_dim, bins, SCALE), torch.from_numpy(expected))


@BOTH
def test_last_row_and_column_are_read(pool):
    feature = torch.zeros(1, 1, 8, 9)
    feature[..., -1, -1] = 72.0
    assert pool(feature, torch.tensor([[0.0, 0, 0, 143, 127]]), 1, 1, SCALE).item() == 1.0


@BOTH
def test_corners_round_half_away_from_zero(pool):
    feature = torch.arange(12.0).reshape(1, 1, 1, 12)
    # 2.5 -> 3 and 4.5 -> 5, then +1: cells 3, 4, 5 at scale 1. Half to even would read 2, 3, 4.
    assert pool(feature, torch.tensor([[0.0, 2.5, 0, 4.5, 0]]), 1, 1, 1.0).item() == 4.0
    # 0.49999997 + 0.5 is 1 in float32, and yet it rounds to 0.
    assert pool(feature, torch.tensor([[0.0, 0.49999997, 0, 0.49999997, 0]]), 1, 1, 1.0).item() == 0.0


@BOTH
def test_what_is_no_number_reads_nothing(pool):
    feature = torch.ones(1, 4, 8, 9)
    assert not pool(feature, torch.tensor([[0.0, math.nan, math.nan, math.nan, math.nan]]), 1, 2, SCALE).any()


def test_gradient():
    feature = random_feature(height=4, width=5).requires_grad_()
    assert gradcheck(lambda f: psroi_pool(f, ROIS, 2, 3, SCALE), (feature,))


def test_backward_equals_autograd_of_the_reference(device):
    feature = random_feature(5, 3, dtype=torch.float32).to(device).requires_grad_()
    results = []
    for pool in (psroi_pool, psroi_pool_reference):
        out = pool(feature, ROIS.to(device), 5, 3, SCALE)
        results.append((out, *torch.autograd.grad(out, feature, torch.cos(out.detach()))))
    assert_close(*results, atol=1e-5, rtol=1e-5)


def test_backward_gives_the_same_bits_with_any_number_of_threads():
    feature = random_feature(5, 3, dtype=torch.float32).requires_grad_()
    threads, results = torch.get_num_threads(), []
    try:
        for count in (1, 2, 3):
            torch.set_num_threads(count)
            out = psroi_pool(feature, ROIS.repeat(40, 1), 5, 3, SCALE)
            results.append(torch.autograd.grad(out, feature, torch.cos(out.detach()))[0])
    finally:
        torch.set_num_threads(threads)
    assert torch.equal(results[0], results[1])
    assert torch.equal(results[0], results[2])


def test_operator_contract():
    feature = random_feature(dtype=torch.float32)
    opcheck(torch.ops.vod.psroi_pool.default, (feature.clone().requires_grad_(), ROIS, 2, 3, SCALE))
    opcheck(torch.ops.vod.psroi_pool_backward.default, (torch.ones(8, 2, 3, 3), ROIS, [2, 18, 8, 9], SCALE))


@BOTH
def test_no_rois(pool, device):
    feature = random_feature().to(device).requires_grad_()
    out = pool(feature, torch.zeros(0, 5, device=device), 2, 3, SCALE)
    out.sum().backward()
    assert out.shape == (0, 2, 3, 3)
    assert not feature.grad.any()


@BOTH
def test_map_without_cells(pool, device):
    feature = torch.zeros(2, 18, 0, 9, device=device, requires_grad=True)
    out = pool(feature, ROIS.to(device), 2, 3, SCALE)
    out.sum().backward()
    assert not out.any()
    assert feature.grad.shape == feature.shape


def test_memory_order_does_not_matter(device):
    feature = random_feature().to(device)
    channels_last = feature.contiguous(memory_format=torch.channels_last).requires_grad_()
    rois = ROIS.to(device).t().contiguous().t()
    assert not channels_last.is_contiguous()
    assert not rois.is_contiguous()
    out = psroi_pool(channels_last, rois, 2, 3, SCALE)
    assert_close(out, psroi_pool(feature, ROIS.to(device), 2, 3, SCALE))
    grad = torch.ones(1, 1, 1, 1, dtype=out.dtype, device=device).expand_as(out)
    expected = torch.autograd.grad(psroi_pool_reference(channels_last, rois, 2, 3, SCALE), channels_last, grad)
    assert_close(torch.autograd.grad(out, channels_last, grad), expected)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_autocast_computes_in_float32(dtype, device):
    feature, rois = random_feature(dtype=torch.float32).to(device, dtype).requires_grad_(), ROIS.to(device)
    with torch.autocast(device.type, dtype=dtype):
        out = psroi_pool(feature, rois, 2, 3, SCALE)
    assert out.dtype == torch.float32
    whole = feature.detach().float().requires_grad_()
    expected = psroi_pool(whole, rois, 2, 3, SCALE)
    assert_close(out, expected)
    (grad,) = torch.autograd.grad(out.sum(), feature)
    assert_close(grad, torch.autograd.grad(expected.sum(), whole)[0].to(dtype))


def test_compiles_as_one_graph():
    feature = random_feature(dtype=torch.float32).requires_grad_()
    compiled = torch.compile(lambda f, r: psroi_pool(f, r, 2, 3, SCALE) * 2, backend="aot_eager", fullgraph=True)
    for rois in (ROIS, ROIS[:5]):  # the second count makes it dynamic
        out, expected = compiled(feature, rois), psroi_pool(feature, rois, 2, 3, SCALE) * 2
        assert_close(out, expected)
        assert_close(torch.autograd.grad(out.sum(), feature), torch.autograd.grad(expected.sum(), feature))


@BOTH
@pytest.mark.parametrize(
    ("feature", "rois", "output_dim", "text"),
    [
        ((1, 17, 8, 9), (4, 5), 2, r"feature \(N, 18, H, W\)"),
        ((18, 8, 9), (4, 5), 2, r"feature \(N, 18, H, W\)"),
        ((1, 18, 8, 9), (4, 4), 2, r"rois \(R, 5\)"),
        ((1, 18, 8, 9), (5,), 2, r"rois \(R, 5\)"),
        ((1, 18, 8, 9), (4, 5), 0, "from 1"),
    ],
)
def test_shapes_that_do_not_fit(pool, feature, rois, output_dim, text):
    with pytest.raises(ValueError, match=text):
        pool(torch.zeros(feature), torch.zeros(rois), output_dim, 3, SCALE)


@BOTH
def test_image_that_does_not_exist(pool):
    for image in (-1.0, 2.0, math.nan):
        with pytest.raises(RuntimeError, match=r"image.*outside 0\.\.1"):
            pool(random_feature(), torch.tensor([[image, 0, 0, 9, 9]]), 2, 3, SCALE)


@BOTH
def test_other_dtypes_are_refused(pool):
    with pytest.raises(TypeError, match="float16"):
        pool(random_feature().half(), ROIS, 2, 3, SCALE)
    with pytest.raises(TypeError, match="floating rois"):
        pool(random_feature(), ROIS.long(), 2, 3, SCALE)


@pytest.mark.gpu
def test_cuda_equals_cpu(cuda):
    results = []
    for device in ("cpu", cuda):
        feature = random_feature(5, 3, dtype=torch.float32).to(device).requires_grad_()
        out = psroi_pool(feature, ROIS.to(device), 5, 3, SCALE)
        grads = torch.autograd.grad(out, feature, torch.cos(out.detach()))
        results.append([tensor.cpu() for tensor in (out, *grads)])
    assert_close(*results, atol=1e-5, rtol=1e-5)
