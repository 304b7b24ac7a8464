from __future__ import annotations

import math

import pytest
import torch
from torch.autograd import gradcheck
from torch.library import opcheck
from torch.testing import assert_close

from lib.ops import psroi_pool, psroi_vote, psroi_vote_reference
from tests.ops.test_psroi_pool import ROIS, SCALE, pool_by_loops, random_feature

BOTH_OPS = (psroi_vote, psroi_vote_reference)
BOTH = pytest.mark.parametrize("vote", [psroi_vote, psroi_vote_reference], ids=["compiled", "reference"])


@BOTH
@pytest.mark.parametrize(
    ("output_dim", "bins", "height", "width"), [(2, 3, 8, 9), (1, 7, 8, 9), (3, 1, 1, 9), (2, 2, 8, 1), (1, 9, 20, 30)]
)
def test_equals_the_definition(vote, output_dim, bins, height, width):
    feature = random_feature(output_dim, bins, height, width)
    expected = pool_by_loops(feature.numpy(), ROIS, output_dim, bins, SCALE).mean((2, 3))
    assert_close(vote(feature, ROIS, output_dim, bins, SCALE), torch.from_numpy(expected))


@BOTH
@pytest.mark.parametrize("case", ["psroi_a", "psroi_b"])
def test_equals_the_mean_of_the_original(recorded, vote, case, device):
    numbers = recorded(case)
    sizes = (numbers.number(f"{case}_{name}") for name in ("output_dim", "pooled_size", "spatial_scale"))
    out = vote(numbers[f"{case}_data"].to(device), numbers[f"{case}_rois"].to(device), *sizes)
    assert_close(out.cpu(), numbers[f"{case}_out"].double().mean((2, 3)).float(), atol=1e-5, rtol=1e-5)


def by_bin(feature, output_dim):
    """The channels of (N, D*P*P, H, W), grid cell by grid cell."""
    return feature.unflatten(1, (output_dim, -1)).transpose(1, 2).flatten(1, 2)


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16])
@pytest.mark.parametrize(("output_dim", "bins", "rois"), [(5, 7, 1), (35, 7, 40), (1, 3, 1), (2, 1, 1)])
def test_order_of_the_channels_changes_no_bit(output_dim, bins, rois, dtype, memory_format, device):
    feature, rois = random_feature(output_dim, bins, 20, 30).to(device, dtype), ROIS.repeat(rois, 1).to(device)
    ordered = by_bin(feature, output_dim).contiguous(memory_format=memory_format)
    out = psroi_vote(ordered, rois, output_dim, bins, SCALE, by_bin=True)
    assert out.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
    assert torch.equal(out, psroi_vote(feature.to(out.dtype), rois, output_dim, bins, SCALE))
    assert_close(out, psroi_vote_reference(ordered, rois, output_dim, bins, SCALE, by_bin=True))


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_gradient_by_bin(dtype):
    feature = random_feature(3, 2, height=4, width=5).to(dtype).requires_grad_()
    vote = lambda f, op: op(by_bin(f, 3), ROIS, 3, 2, SCALE, by_bin=True)  # noqa: E731
    if dtype == torch.float64:
        assert gradcheck(lambda f: vote(f, psroi_vote), (feature,))
    ours, expected = (torch.autograd.grad(vote(feature, op).square().sum(), feature)[0] for op in BOTH_OPS)
    assert ours.dtype == dtype
    assert_close(ours, expected)


def test_equals_pooling_and_mean_to_a_millionth(device):
    feature = random_feature(5, 7, 20, 30, dtype=torch.float32).to(device)
    expected = psroi_pool(feature.double(), ROIS.to(device), 5, 7, SCALE).mean((2, 3))
    out = psroi_vote(feature, ROIS.to(device), 5, 7, SCALE)
    assert (out - expected).abs().max() <= 1e-6 * expected.abs().max()


def test_order_of_the_sum_is_that_of_the_docstring():
    feature = random_feature(3, 7, 20, 30, dtype=torch.float32)
    bins = psroi_pool(feature, ROIS, 3, 7, SCALE).flatten(2)  # (R, 3, 49)
    sums = torch.zeros(len(ROIS), 3, 32)
    sums += bins[..., :32]
    sums[..., :17] += bins[..., 32:]
    for half in (16, 8, 4, 2, 1):
        sums = sums[..., :half] + sums[..., half:]
    assert torch.equal(psroi_vote(feature, ROIS, 3, 7, SCALE), sums[..., 0] / 49)


@BOTH
def test_what_is_no_number_reads_nothing(vote):
    assert not vote(torch.ones(1, 4, 8, 9), torch.tensor([[0.0, math.nan, math.nan, math.nan, math.nan]]), 1, 2, SCALE)


def test_value_that_is_no_number_is_seen(device):
    feature = random_feature(dtype=torch.float32)
    feature[1, 4, 3, 3] = math.nan  # output 0, the grid cell in the middle
    out = psroi_vote(feature.to(device), ROIS.to(device), 2, 3, SCALE)
    assert out.isnan().nonzero()[:, 0].tolist() == [1, 7]  # the whole image, and far beyond it
    assert out[:, 1].isfinite().all()


def test_gradient():
    feature = random_feature(height=4, width=5).requires_grad_()
    assert gradcheck(lambda f: psroi_vote(f, ROIS, 2, 3, SCALE), (feature,))


def test_backward_equals_autograd_of_the_reference(device):
    feature = random_feature(5, 3, dtype=torch.float32).to(device).requires_grad_()
    results = []
    for vote in (psroi_vote, psroi_vote_reference):
        out = vote(feature, ROIS.to(device), 5, 3, SCALE)
        results.append((out, *torch.autograd.grad(out, feature, torch.cos(out.detach()))))
    assert_close(*results, atol=1e-5, rtol=1e-5)


def test_same_bits_with_any_number_of_threads():
    feature, rois = random_feature(5, 3, dtype=torch.float32), ROIS.repeat(100, 1)
    threads, results = torch.get_num_threads(), []
    try:
        for count in (1, 2, 3):
            torch.set_num_threads(count)
            results.append(psroi_vote(feature, rois, 5, 3, SCALE))
    finally:
        torch.set_num_threads(threads)
    assert torch.equal(results[0], results[1])
    assert torch.equal(results[0], results[2])


def test_operator_contract():
    feature = random_feature(dtype=torch.float32)
    opcheck(torch.ops.vod.psroi_vote.default, (feature.requires_grad_(), ROIS, 2, 3, SCALE))
    opcheck(torch.ops.vod.psroi_vote.default, (feature.detach().bfloat16().requires_grad_(), ROIS, 2, 3, SCALE, True))


@BOTH
@pytest.mark.parametrize(("rois", "height"), [(0, 8), (8, 0)])
def test_empty(vote, rois, height, device):
    feature = torch.zeros(2, 18, height, 9, device=device, requires_grad=True)
    out = vote(feature, ROIS[:rois].to(device), 2, 3, SCALE)
    out.sum().backward()
    assert out.shape == (rois, 2)
    assert not out.any()
    assert feature.grad.shape == feature.shape


def test_memory_order_does_not_matter(device):
    feature, rois = random_feature().to(device), ROIS.to(device)
    expected = psroi_vote(feature, rois, 2, 3, SCALE)
    strided_rois = rois.t().contiguous().t()
    formats = (
        feature.contiguous(memory_format=torch.channels_last),
        feature.transpose(2, 3).contiguous().transpose(2, 3),
        torch.cat((feature, feature), 1)[:, 18:],
        feature[:, :1].expand(-1, 18, -1, -1),
    )
    assert not any(tensor.is_contiguous() for tensor in (*formats, strided_rois))
    for other in formats[:3]:
        assert torch.equal(psroi_vote(other, strided_rois, 2, 3, SCALE), expected)
    repeated = psroi_vote(formats[3].contiguous(), rois, 2, 3, SCALE)
    assert torch.equal(psroi_vote(formats[3], rois, 2, 3, SCALE), repeated)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_autocast_computes_in_float32(dtype, device):
    feature = random_feature(dtype=torch.float32).to(device, dtype)
    with torch.autocast(device.type, dtype=dtype):
        out = psroi_vote(feature, ROIS.to(device), 2, 3, SCALE)
    assert out.dtype == torch.float32
    assert_close(out, psroi_vote(feature.float(), ROIS.to(device), 2, 3, SCALE))


def test_compiles_as_one_graph():
    feature = random_feature(dtype=torch.float32).requires_grad_()
    compiled = torch.compile(lambda f, r: psroi_vote(f, r, 2, 3, SCALE) * 2, backend="aot_eager", fullgraph=True)
    for rois in (ROIS, ROIS[:5]):  # the second count makes it dynamic
        out, expected = compiled(feature, rois), psroi_vote(feature, rois, 2, 3, SCALE) * 2
        assert_close(out, expected)
        assert_close(torch.autograd.grad(out.sum(), feature), torch.autograd.grad(expected.sum(), feature))


@BOTH
@pytest.mark.parametrize(
    ("feature", "rois", "output_dim", "text"),
    [
        ((1, 17, 8, 9), (4, 5), 2, r"psroi_vote wants feature \(N, 18, H, W\)"),
        ((1, 18, 8, 9), (4, 4), 2, r"psroi_vote wants rois \(R, 5\)"),
        ((1, 18, 8, 9), (4, 5), 0, "psroi_vote wants output_dim and pooled_size from 1"),
    ],
)
def test_shapes_that_do_not_fit(vote, feature, rois, output_dim, text):
    with pytest.raises(ValueError, match=text):
        vote(torch.zeros(feature), torch.zeros(rois), output_dim, 3, SCALE)


@BOTH
def test_image_that_does_not_exist(vote):
    for image in (-1.0, 2.0, math.nan):
        with pytest.raises(RuntimeError, match=r"image.*outside 0\.\.1"):
            vote(random_feature(), torch.tensor([[image, 0, 0, 9, 9]]), 2, 3, SCALE)


@BOTH
def test_other_dtypes_are_refused(vote):
    with pytest.raises(TypeError, match=r"psroi_vote.*float32 or float64 or bfloat16 or float16, not feature.*int64"):
        vote(random_feature().long(), ROIS, 2, 3, SCALE)
    with pytest.raises(TypeError, match="floating rois"):
        vote(random_feature(), ROIS.long(), 2, 3, SCALE)


@pytest.mark.gpu
def test_cuda_gives_the_bits_of_the_cpu(cuda_kernels):
    feature = random_feature(5, 7, dtype=torch.float32)
    out = psroi_vote(feature.to(cuda_kernels), ROIS.to(cuda_kernels), 5, 7, SCALE)
    assert torch.equal(out.cpu(), psroi_vote(feature, ROIS, 5, 7, SCALE))
