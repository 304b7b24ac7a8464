"""The form of a model for inference in reduced precision: which layers are reduced, and how far results move."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from lib.models.inference_form import prepare_for_inference
from tests.models.small_video import small_dff

FLOAT32 = {"rpn_cls_score", "rpn_bbox_pred", "Convolution5"}
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
