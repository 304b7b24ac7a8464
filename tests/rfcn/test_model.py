"""R-FCN as a whole: its own promises. tests/rfcn/test_recorded_model.py compares it with the originals."""

from __future__ import annotations

import pytest
import torch

from lib.config import load_config
from lib.engine.inference import detect_frames
from lib.models.build import build_postprocess
from rfcn.model import build_rfcn
from tests.models.small import (
    EVERY_BOX,
    POSTPROCESS,
    assert_same_detections,
    detect,
    random_frames,
    small_config,
    small_rfcn,
)


@pytest.fixture(scope="module")
def small():
    return small_rfcn()


def test_one_detections_per_frame_whatever_the_batch(small):
    sizes = [(96, 128)] * 5 + [(80, 112)] * 2 + [(96, 128)]
    frames = random_frames(sizes)
    alone = detect(small, frames)
    assert len(alone) == len(frames)
    assert all(len(found) for found in alone)
    for batch_images in (2, 4):
        assert_same_detections(detect(small, frames, batch_images=batch_images), alone)


def test_detect_reads_no_further_than_its_batch(small):
    taken = []

    def frames():
        for frame in random_frames([(64, 64)] * 6):
            taken.append(frame.frame_id)
            yield frame

    stream = detect_frames(small, frames(), POSTPROCESS, batch_images=2)
    next(stream)
    assert len(taken) == 2
    assert torch.is_grad_enabled()
    assert len(list(stream)) == 5


def test_nothing_in_gives_nothing_out(small):
    assert detect(small, []) == []


def test_raw_boxes_for_sequence_nms(small):
    (found,) = detect(small, random_frames([(96, 128)]), EVERY_BOX)
    assert len(found) == 50 * 5


def test_inside_is_the_map_that_was_detected_in(small):
    frames = random_frames([(96, 128)] * 3)
    answers = list(detect_frames(small, frames, POSTPROCESS, batch_images=2, inside=True))
    with torch.no_grad():
        features = small.features(torch.stack([frame.image for frame in frames]))
    for (frame, _), expected in zip(answers, features, strict=True):
        torch.testing.assert_close(frame.inside.features, expected, atol=1e-5, rtol=1e-5)
        assert frame.inside.references == []
        assert frame.inside.flow is frame.inside.weights is frame.inside.scale is None
    assert all(frame.inside is None for frame, _ in detect_frames(small, random_frames([(64, 64)]), POSTPROCESS))


def test_weights_start_as_the_originals_do():
    torch.manual_seed(0)
    model = build_rfcn(load_config(None, ["network.DEPTH=18"]), 31)
    detector, resnet = model.detector, model.features.resnet
    new = (model.features.feat_conv_3x3, *detector.rpn.children(), *detector.head.children())
    for conv in new:
        assert conv.weight.std().item() == pytest.approx(0.01, rel=0.05)
        assert not conv.bias.any()
    for conv in (resnet.conv1, resnet.res4a.branch2a):
        fan_out = conv.out_channels * conv.kernel_size[0] ** 2
        assert conv.weight.std().item() == pytest.approx((2 / fan_out) ** 0.5, rel=0.05)


def test_parts_follow_the_configuration():
    model = build_rfcn(small_config("network.NORM=trained", "network.BN_EPS=2e-5", "TRAIN.ENABLE_OHEM=false"), 4)
    assert isinstance(model.features.resnet.bn_conv1, torch.nn.BatchNorm2d)
    assert model.features.resnet.res5b.bn_branch2b.eps == 2e-5
    assert model.detector.head.rfcn_cls.out_channels == 4 * 49
    assert model.detector.rpn.rpn_cls_score.out_channels == 2 * 4
    assert model.detector.ohem_rois is None
    assert model.detector.test_proposals.post_nms_top_n == 50
    assert build_postprocess(small_config("TEST.max_per_image=0"), 1e-3).max_per_image is None
