"""R-FCN as a whole: against the originals' recordings with the synthetic weights, then its own promises."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from lib.config import load_config
from lib.models import detector as detector_module
from lib.models.anchors import all_anchors
from lib.models.build import build_postprocess
from lib.models.postprocess import PostProcess
from lib.models.targets import assign_anchors, assign_proposals
from lib.structures import Frame
from rfcn.model import RFCN, build_rfcn
from tests.golden_weights import load_golden_weights, network_input
from tests.models.small import assert_same_detections, random_frames, small_config, small_rfcn
from tests.recordings import (
    FOLDED_STDS,
    assert_close,
    assert_detections,
    assert_fixed_parameters,
    assert_metrics,
    check_detector,
    check_training_step,
    everything_trained,
    original_config,
    recorded_anchor_targets,
    recorded_batch,
    training_detector,
)


@pytest.fixture(scope="module")
def tested(golden):
    """The recording of a test image, and the network with its weights, whose box stds are folded into them already."""
    recording = golden("net_rfcn_public")
    cfg = original_config(FOLDED_STDS)
    return recording, load_golden_weights(build_rfcn(cfg, 31), int(recording["seed"][0])), cfg


def test_stages_match_the_recording(tested):
    recording, model, _ = tested
    resnet, seen = model.features.resnet, {}
    units = {"res2c": resnet.res2c, "res3b3": resnet.res3b3, "res4b22": resnet.res4b22, "res5c": resnet.res5c}
    hooks = [
        unit.register_forward_hook(lambda _m, _i, out, name=name: seen.update({f"{name}_relu": out.clone()}))
        for name, unit in units.items()
    ]
    hooks.append(resnet.res2a.register_forward_pre_hook(lambda _m, i: seen.update(pool1=i[0].clone())))
    with torch.no_grad():
        conv_feat = model.features(network_input(recording["frames"]))
    for hook in hooks:
        hook.remove()
    assert_close(conv_feat, recording["conv_feat"])
    for name, value in seen.items():
        assert_close(value[0, torch.from_numpy(recording[f"stage_{name}_channels"])], recording[f"stage_{name}"])


def test_whole_chain_matches_the_recording_row_by_row(tested):
    recording, model, _ = tested
    with torch.no_grad():
        features = model.features(network_input(recording["frames"]))
    check_detector(model.detector, features, recording)


def test_detections_match_the_recording(tested):
    recording, model, cfg = tested
    image = network_input(recording["frames"])[0]
    (found,) = model.detect([Frame(image, float(recording["im_scale"][0]))], build_postprocess(cfg, 1e-3))
    assert_detections(found, recording["detections_0"])


@pytest.fixture(scope="module")
def trained(golden, tested):
    """The recording of a training step, the same network as it trains, and the batch."""
    recording, (_, model, _) = golden("train_rfcn_public"), tested
    model = RFCN(model.features, training_detector(model.detector, original_config()))
    return recording, model, recorded_batch(recording, [0])


def test_fixed_parameters_are_the_recorded_ones(trained):
    recording, model, _ = trained
    assert_fixed_parameters(model, recording)


def test_training_targets_match_the_recording(trained):
    recording, model, batch = trained
    rng = np.random.RandomState(0)
    detector = model.detector
    proposals = torch.from_numpy(recording["int_proposals"][:, 1:])
    targets = assign_proposals(proposals, batch.boxes[0], batch.labels[0], detector.roi_rule, rng)
    np.testing.assert_array_equal(targets.rois, recording["int_rois"][:, 1:])
    np.testing.assert_array_equal(targets.labels, recording["int_label"])
    np.testing.assert_allclose(targets.deltas, recording["int_bbox_target"][:, 4:], atol=1e-5)
    np.testing.assert_array_equal(targets.weights, recording["int_bbox_weight"][:, 4:])

    height, width, _ = recording["im_info"][0].tolist()
    grid = all_anchors(detector.anchors, *recording["rpn_bbox_target"].shape[2:], 16)
    anchors = assign_anchors(batch.boxes[0], grid, height, width, detector.anchor_rule, rng)
    recorded = recorded_anchor_targets(recording)
    assert torch.equal(anchors.labels, recorded.labels)
    torch.testing.assert_close(anchors.deltas, recorded.deltas, atol=1e-5, rtol=0)
    assert torch.equal(anchors.weights, recorded.weights)


def test_training_step_matches_the_recording(trained):
    """Every intermediate array, loss, metric and gradient of one step, all parameters unfixed as when recorded."""
    recording, model, batch = trained
    with everything_trained(model):
        check_training_step(model, model.detector, model.features(batch.images), batch, recording)


def test_losses_from_a_batch_are_the_recorded_ones(trained, monkeypatch):
    """The same through the front door, with the recorded choice of anchors."""
    recording, model, batch = trained
    monkeypatch.setattr(detector_module, "assign_anchors", lambda *_: recorded_anchor_targets(recording))
    with torch.no_grad():
        terms = model.losses(batch, np.random.RandomState(0))
    assert_metrics(terms, recording)


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
