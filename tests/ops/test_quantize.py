"""Rounding of maps to 8 bits against the rule in PyTorch and in whole numbers."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from lib.ops import quantize, quantize_reference

BOTH = pytest.mark.parametrize("rule", [quantize, quantize_reference], ids=["compiled", "reference"])


def assert_equals_the_reference(x, zero_point=0):
    (q, scale), (expected, expected_scale) = quantize(x, zero_point), quantize_reference(x, zero_point)
    assert q.dtype == torch.uint8
    assert torch.equal(q, expected)
    torch.testing.assert_close(scale, expected_scale, rtol=0, atol=0, equal_nan=True)


@pytest.mark.parametrize("count", [0, 1, 15, 31, 64, 99, 100_003])
@pytest.mark.parametrize("spread", [1e-35, 1e-20, 1.0, 1e20])
@pytest.mark.parametrize("zero_point", [0, 100, 128])
def test_equals_the_reference(count, spread, zero_point):
    torch.manual_seed(count)
    assert_equals_the_reference((torch.randn(count) * spread).bfloat16(), zero_point)


@pytest.mark.parametrize("zero_point", [0, 128])
def test_every_finite_number(zero_point):
    bits = torch.arange(-(2**15), 2**15, dtype=torch.int32).to(torch.int16)
    x = bits.view(torch.bfloat16)
    assert_equals_the_reference(x[x.isfinite()], zero_point)


@BOTH
def test_rounds_to_the_nearest_with_halves_up(rule):
    q, scale = rule(torch.tensor([0.0, 0.25, 0.5, 1.5, 2.25, 254.0, 255.0, -3.0]).bfloat16())
    assert q.tolist() == [0, 0, 1, 2, 2, 254, 255, 0]
    assert scale.item() == 1


@BOTH
def test_values_below_0_have_7_bits(rule):
    q, scale = rule(torch.tensor([0.0, 1.0, -1.0, 127.0, -127.0, 2.5, -2.5]).bfloat16(), 128)
    assert q.tolist() == [128, 129, 127, 255, 1, 131, 126]
    assert scale.item() == 1


@pytest.mark.parametrize("zero_point", [-1, 255])
def test_zero_points_out_of_range_are_refused(zero_point):
    with pytest.raises(ValueError, match=f"quantize wants a zero point from 0 to 254, not {zero_point}"):
        quantize(torch.ones(3).bfloat16(), zero_point)


@BOTH
def test_error_is_at_most_half_a_step(rule):
    x = torch.from_numpy(np.random.RandomState(0).gamma(0.5, 3.0, 4096).astype(np.float32)).bfloat16()
    q, scale = rule(x)
    assert q.max() == 255
    assert (q.double() * scale - x.double()).abs().max() <= 0.5001 * scale


@BOTH
def test_nothing_but_zeros_keeps_a_scale(rule):
    q, scale = rule(torch.zeros(3, 5).bfloat16())
    assert not q.any()
    assert scale.item() == 1


@BOTH
@pytest.mark.parametrize("value", [float("nan"), -float("nan"), float("inf"), -float("inf")])
def test_what_is_no_number_makes_the_scale_nan(rule, value):
    x = torch.ones(1, 3, 40, 40).bfloat16()
    x[0, 2, 39, 39] = value
    assert rule(x)[1].isnan()


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_keeps_the_memory_format(memory_format):
    x = torch.rand(2, 8, 5, 7).bfloat16().contiguous(memory_format=memory_format)
    assert quantize(x)[0].stride() == x.stride()
    assert_equals_the_reference(x)


def test_reads_a_part_of_a_tensor():
    assert_equals_the_reference(torch.rand(2, 8, 5, 7).bfloat16()[:, 2:5, ::2])


@BOTH
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.uint8])
def test_wants_bfloat16(rule, dtype):
    with pytest.raises(TypeError, match="quantize wants its tensors in one dtype, bfloat16"):
        rule(torch.ones(3).to(dtype))


def test_registration():
    torch.library.opcheck(torch.ops.vod.quantize, (torch.rand(2, 3, 4, 5).bfloat16(),))
