"""The form of a model for inference in reduced precision: which layers are reduced, and how far results move."""

from __future__ import annotations

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from lib.models.inference_conv import InferenceConv
from lib.models.inference_form import CompiledPart, prepare_for_inference
from tests.models.small_video import small_dff

FLOAT32 = {"rpn_joined", "Convolution5"}
IM_INFO = torch.tensor([[64.0, 96.0, 1.0]])


@pytest.fixture
def model():
    return small_dff().eval()


def convolutions(model):
    return {
        name: module for name, module in model.named_modules() if isinstance(module, (nn.Conv2d, nn.ConvTranspose2d))
    }


@pytest.mark.parametrize("reduced", [None, torch.bfloat16, torch.float16])
def test_proposals_and_positions_stay_float32(model, reduced):
    prepare_for_inference(model, reduced)
    found = convolutions(model)
    assert {name.split(".")[-2] for name in found} >= FLOAT32
    for name, conv in found.items():
        layer = name.removesuffix(".conv").split(".")[-1]
        assert conv.weight.dtype == (reduced if reduced and layer not in FLOAT32 else torch.float32), name


@torch.no_grad()
def test_results_are_float32_and_near_those_of_float32(model):
    exact, reduced = prepare_for_inference(copy.deepcopy(model)), prepare_for_inference(model, torch.bfloat16)
    torch.manual_seed(1)
    features = torch.randn(1, 32, 4, 6).contiguous(memory_format=torch.channels_last)
    images, others = torch.randn(2, 1, 3, 64, 96)
    rois = torch.tensor([[0.0, 3.0, 5.0, 60.0, 50.0], [0.0, 20.0, 8.0, 90.0, 40.0]])
    for ours, expected in (
        (reduced.detector.head(features[:, 16:], rois), exact.detector.head(features[:, 16:], rois)),
        (reduced.flow_net(images, others), exact.flow_net(images, others)),
    ):
        for own, other in zip(ours, expected, strict=True):
            assert own.dtype == torch.float32
            assert 0 < (own - other).abs().max() < 0.03 * other.abs().max()
    boxes, scores = reduced.detector.predict(features.to(torch.bfloat16), IM_INFO)
    assert boxes.dtype == scores.dtype == torch.float32


def assert_joining_changes_nothing(part, name, *inputs):
    """The one convolution, called `name`, gives what the two of `part` give, with other biases than zero."""
    for conv in part.children():
        conv.weight.normal_(std=0.1)
        conv.bias.normal_()
    joined = copy.deepcopy(part)
    joined.join_convolutions()
    for own, other in zip(joined(*inputs), part(*inputs), strict=True):
        assert own.shape == other.shape
        assert other.abs().max() > 0.1
        torch.testing.assert_close(own, other, rtol=1e-5, atol=1e-6)
    assert {key for key, _ in joined.named_parameters()} == {f"{name}.weight", f"{name}.bias"}


@torch.no_grad()
@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_joined_convolutions_compute_what_the_two_did(model, memory_format):
    torch.manual_seed(1)
    features = torch.randn(2, 16, 4, 6).contiguous(memory_format=memory_format)
    rois = torch.tensor([[0.0, 3, 5, 60, 50], [1, 20, 8, 90, 40], [1, -99, -99, -70, -70], [0, 0, 0, 95, 63]])
    assert_joining_changes_nothing(model.detector.head, "rfcn_joined", features, rois)
    assert_joining_changes_nothing(model.detector.rpn, "rpn_joined", features)


@torch.no_grad()
@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("with_shortcut", [False, True])
@pytest.mark.parametrize("pack", [True, False])
def test_sum_and_relu_in_one_pass(memory_format, with_shortcut, pack):
    torch.manual_seed(0)
    conv = nn.Conv2d(24, 40, 3, stride=2, padding=2, dilation=2)
    x = torch.randn(2, 24, 19, 31).contiguous(memory_format=memory_format)
    shortcut = torch.randn(2, 40, 10, 16).contiguous(memory_format=memory_format) if with_shortcut else None
    exact = conv.double()(x.double()) + (shortcut.double() if with_shortcut else 0)
    ours = InferenceConv(conv.float(), None, pack).relu(x, shortcut)
    assert ours.dtype == torch.float32
    torch.testing.assert_close(ours, F.relu(exact).float(), rtol=1e-5, atol=1e-5)
    assert (ours == 0).any()
    assert (ours > 0).any()


@torch.no_grad()
@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize("dtype", [None, torch.bfloat16])
@pytest.mark.parametrize("pack", [True, False])
def test_leaky_relu_in_one_pass(transposed, dtype, pack):
    if transposed and dtype and not torch.ops.mkldnn._is_mkldnn_bf16_supported():
        pytest.skip("without oneDNN's, torch's transposed convolution sums in bfloat16")
    torch.manual_seed(0)
    conv = (nn.ConvTranspose2d if transposed else nn.Conv2d)(24, 40, 4, stride=2, padding=1)
    x = torch.randn(2, 24, 19, 31).contiguous(memory_format=torch.channels_last)
    own = InferenceConv(copy.deepcopy(conv), dtype, pack)
    kept = torch.float32 if dtype is None else dtype
    rounded = copy.deepcopy(conv).to(kept).double()
    exact = F.leaky_relu(rounded(x.to(kept).double()), 0.1)
    ours = own(x, 0.1)
    assert ours.dtype == kept
    tolerance = 1e-5 if dtype is None else 2**-7  # bfloat16 rounds twice where it takes two passes
    torch.testing.assert_close(ours.double(), exact, rtol=tolerance, atol=tolerance / 10)
    assert (ours < 0).any()
    assert (ours > 0).any()


@torch.no_grad()
@pytest.mark.parametrize("size", [(20, 20), (1, 7), (1, 1)])
@pytest.mark.parametrize(("memory_format", "roundings"), [(torch.contiguous_format, 2), (torch.channels_last, 1)])
def test_sum_in_bfloat16(memory_format, roundings, size):
    """In one pass the sum is of the unrounded convolution."""
    torch.manual_seed(0)
    conv = nn.Conv2d(64, 64, 3, padding=1).to(torch.bfloat16)
    x, shortcut = (map.contiguous(memory_format=memory_format) for map in torch.randn(2, 1, 64, *size).to(conv.weight))
    exact = F.relu(copy.deepcopy(conv).double()(x.double()) + shortcut.double())
    ours = InferenceConv(conv, torch.bfloat16).relu(x, shortcut.clone())
    assert ours.dtype == torch.bfloat16
    largest = 2 * max(exact.abs().max(), shortcut.abs().max())
    assert (ours - exact).abs().max() <= roundings * 2**-9 * largest


@torch.no_grad()
@pytest.mark.parametrize("transposed", [False, True])
def test_weights_are_kept_once_for_any_number_of_images(transposed):
    torch.manual_seed(0)
    plain = (nn.ConvTranspose2d if transposed else nn.Conv2d)(32, 48, 4, stride=2, padding=1)
    packed = InferenceConv(copy.deepcopy(plain), None)
    for count in (10, 1, 3):
        x = torch.randn(count, 32, 9, 14)
        torch.testing.assert_close(packed(x), plain(x), rtol=1e-5, atol=1e-5)
    assert len(packed._packed) == 1


def test_compiled_results_are_copied_out_of_a_graphs_memory(monkeypatch):
    """A CUDA graph writes all its results to the same memory; the function here does the same."""
    memory = torch.zeros(3)
    monkeypatch.setattr(torch, "compile", lambda function, mode: function)
    for graphs, expected in ((True, [1.0, 2.0]), (False, [2.0, 2.0])):
        memory.zero_()
        part = CompiledPart(lambda x: (memory.add_(x), None), graphs)
        found = [part(torch.ones(3)) for _ in range(2)]
        assert [one[0][0].item() for one in found] == expected
        assert [one[1] for one in found] == [None, None]
    part = CompiledPart(lambda x: memory.copy_(x), graphs=True)
    assert part(torch.ones(3)).data_ptr() != memory.data_ptr()


def test_weights_are_constants_for_the_compiled_parts_alone(monkeypatch):
    """torch's setting holds for all of the process."""
    seen = []
    monkeypatch.setattr(torch, "compile", lambda function, mode: function)
    part = CompiledPart(lambda x: seen.append(torch._inductor.config.freezing), graphs=False)
    for size in (2, 2, 3):
        part(torch.zeros(size))
        assert not torch._inductor.config.freezing
    assert seen == [True, False, True]  # the second call compiles nothing
