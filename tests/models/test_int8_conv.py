"""Convolutions in 8 bits against sums of whole numbers in float64."""

from __future__ import annotations

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from lib.models.inference_conv import InferenceConv
from lib.models.inference_form import prepare_for_inference
from lib.models.int8_conv import Int8Conv
from lib.models.precision import PrecisionError, set_precision
from lib.ops import quantize_reference
from tests.models.small_video import small_dff, small_fgfa

pytestmark = pytest.mark.skipif(not torch.cpu._is_vnni_supported(), reason="needs a processor with AVX-512 VNNI")
CPU = torch.device("cpu")
SHAPES = {
    "1x1": (1, {}),
    "3x3, stride": (3, {"stride": 2, "padding": 1}),
    "3x3, dilated": (3, {"padding": 2, "dilation": 2}),
    "no bias": (3, {"padding": 1, "bias": False}),
}


def expected(conv, x, activation, added=0, zero_point=0):
    """The rule, in float64: rounded weights and inputs, exact sums."""
    weight = conv.weight.detach().double()
    scales = weight.float().abs().amax(dim=(1, 2, 3)) / 127
    rounded = (conv.weight.detach() / scales[:, None, None, None]).round().double()
    assert rounded.abs().max() == 127
    q, scale = quantize_reference(x, zero_point)
    sums = F.conv2d(q.double() - zero_point, rounded, None, conv.stride, conv.padding, conv.dilation)
    found = sums * scales[:, None, None].double() * scale.double() + added
    return activation(found if conv.bias is None else found + conv.bias.detach().double()[:, None, None])


@torch.no_grad()
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("count", [1, 3])
@pytest.mark.parametrize("kind", ["plain", "relu", "added"])
def test_equals_sums_of_whole_numbers(shape, count, kind):
    torch.manual_seed(0)
    kernel, arguments = SHAPES[shape]
    conv = nn.Conv2d(48, 40, kernel, **arguments)
    x = torch.randn(count, 48, 13, 18).relu().bfloat16().contiguous(memory_format=torch.channels_last)
    added = torch.randn_like(conv(x.float())).bfloat16()
    before = added.clone()
    int8 = Int8Conv(conv)
    if kind == "plain":
        found, exact = int8(x), expected(conv, x, nn.Identity())
    else:
        other = added if kind == "added" else None
        found, exact = int8.relu(x, other), expected(conv, x, F.relu, 0 if other is None else before.double())
    assert found.dtype == torch.bfloat16
    assert exact.std() > 0.1
    torch.testing.assert_close(found.double(), exact, rtol=2**-8, atol=1e-5)  # one rounding to bfloat16


@torch.no_grad()
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("slope", [None, 0.1])
def test_inputs_below_0(shape, slope):
    """The border, too, is padded with what stands for 0."""
    torch.manual_seed(0)
    kernel, arguments = SHAPES[shape]
    conv = nn.Conv2d(48, 40, kernel, **arguments)
    x = F.leaky_relu(torch.randn(2, 48, 13, 18), 0.3).bfloat16()
    exact = expected(conv, x, nn.Identity() if slope is None else nn.LeakyReLU(slope), zero_point=128)
    found = Int8Conv(conv, signed=True)(x, slope)
    assert (exact < 0).any()
    roundings = 1 if slope is None else 2
    torch.testing.assert_close(found.double(), exact, rtol=roundings * 2**-8, atol=1e-5)


@torch.no_grad()
def test_the_largest_sums_are_exact():
    """All inputs 255 and all weights 127, or -127: processors without VNNI cut such sums off."""
    conv = nn.Conv2d(512, 32, 3, padding=1, bias=False)
    conv.weight.fill_(0.5)[1] = -0.5
    found = Int8Conv(conv)(torch.full((1, 512, 5, 5), 2.0).bfloat16())
    assert found[0, 0, 2, 2] == 4608
    assert found[0, 1, 2, 2] == -4608


@torch.no_grad()
def test_a_channel_of_zeros_and_a_map_of_zeros():
    conv = nn.Conv2d(16, 16, 1)
    conv.weight[3] = 0
    int8 = Int8Conv(conv)
    found = int8(torch.rand(1, 16, 4, 4).bfloat16())
    assert found.isfinite().all()
    torch.testing.assert_close(found[0, 3], conv.bias[3].bfloat16().expand(4, 4))
    torch.testing.assert_close(int8(torch.zeros(1, 16, 4, 4).bfloat16())[0, :, 0, 0], conv.bias.bfloat16())


@torch.no_grad()
def test_an_input_with_nan_makes_the_convolution_nan():
    x = torch.rand(1, 16, 4, 4).bfloat16()
    x[0, 0, 0, 0] = torch.nan
    assert Int8Conv(nn.Conv2d(16, 16, 1))(x).isnan().all()


@torch.no_grad()
@pytest.mark.parametrize("build", [small_dff, small_fgfa])
def test_backbone_embedding_and_encoder_are_in_8_bits(build):
    model = build().eval()
    plain = {name for name, module in model.named_modules() if isinstance(module, nn.Conv2d)}
    parts = ("features.", "embed_net.", "flow_net.conv")
    wanted = {name for name in plain if name.startswith(parts)} - {"features.resnet.conv1"}
    assert len(wanted) > 10
    exact = prepare_for_inference(copy.deepcopy(model))
    prepare_for_inference(model, torch.bfloat16, int8=True)
    assert {name for name, module in model.named_modules() if isinstance(module, Int8Conv)} == wanted
    torch.manual_seed(1)
    images = torch.randn(1, 3, 64, 96)
    found, right = model.features(images).float(), exact.features(images)
    assert 0 < (found - right).abs().max() < 0.1 * right.abs().max()


@torch.no_grad()
@pytest.mark.parametrize("build", [small_dff, small_fgfa])
def test_without_bfloat16_instructions_the_rest_is_float32(build, monkeypatch):
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)
    model = build().eval()
    exact = prepare_for_inference(copy.deepcopy(model))
    prepare_for_inference(model, set_precision("int8", CPU), int8=True)
    others = [module.weight.dtype for module in model.modules() if isinstance(module, InferenceConv)]
    assert set(others) == {torch.float32}
    torch.manual_seed(1)
    first, second = torch.randn(2, 1, 3, 64, 96)
    found, right = model.flow_net(first, second)[0], exact.flow_net(first, second)[0]
    assert found.dtype == torch.float32
    assert 0 < (found - right).abs().max() < 0.2 * right.abs().max()
    found = model.detector.predict(model.features(first).float(), torch.tensor([[64.0, 96, 1]]))
    assert all(one.isfinite().all() for one in found)


def test_what_cannot_be_is_refused():
    for arguments, message in (
        (("int8", torch.device("cuda")), "PRECISION int8 needs a CPU with AVX-512 VNNI, not this cuda; give bfloat16"),
        (("int8", CPU, True), "PRECISION int8 is for testing; train in float32 or bfloat16"),
    ):
        with pytest.raises(PrecisionError, match=message):
            set_precision(*arguments)
    with pytest.raises(PrecisionError, match="PRECISION int8 and COMPILE exclude each other; take one of them"):
        prepare_for_inference(small_dff(), torch.bfloat16, "on", int8=True)


def test_a_processor_without_the_instructions_is_refused(monkeypatch):
    monkeypatch.setattr(torch.cpu, "_is_vnni_supported", lambda: False)
    with pytest.raises(PrecisionError, match="needs a CPU with AVX-512 VNNI, not this cpu; give float32"):
        set_precision("int8", CPU)
