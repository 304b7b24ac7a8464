"""R-FCN as a whole: its own promises. tests/rfcn/test_recorded_model.py compares it with the originals."""

from __future__ import annotations

import pytest
import torch

from lib.config import load_config
from lib.models.build import build_postprocess
from lib.models.postprocess import PostProcess
from rfcn.model import build_rfcn
from tests.models.small import assert_same_detections, random_frames, small_config, small_rfcn


@pytest.fixture(scope="module")
def small():
    return small_rfcn()


def test_one_detections_per_frame_whatever_the_batch(small):
    sizes = [(96, 128)] * 5 + [(80, 112)] * 2 + [(96, 128)]
    frames, postprocess = random_frames(sizes), PostProcess(0.05)
    alone = list(small.detect(frames, postprocess))
    assert len(alone) == len(frames)
    assert all(len(found) for found in alone)
    for batch_images in (2, 4):
        assert_same_detections(small.detect(frames, postprocess, batch_images), alone)


def test_detect_reads_no_further_than_its_batch(small):
    taken = []

    def frames():
        for frame in random_frames([(64, 64)] * 6):
            taken.append(frame.frame_id)
            yield frame

    stream = small.detect(frames(), PostProcess(), batch_images=2)
    next(stream)
    assert len(taken) == 2
    assert torch.is_grad_enabled()
    assert len(list(stream)) == 5


def test_nothing_in_gives_nothing_out(small):
    assert list(small.detect([], PostProcess())) == []


def test_raw_boxes_for_sequence_nms(small):
    (found,) = small.detect(random_frames([(96, 128)]), PostProcess(0.0, None, None))
    assert len(found) == 50 * 5


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
