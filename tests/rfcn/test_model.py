"""R-FCN as a whole: against the originals' recordings with the synthetic weights, then its own promises."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from lib.config import load_config
from lib.models import detector as detector_module
from lib.models.anchors import all_anchors
from lib.models.build import build_postprocess
from lib.models.losses import rcnn_losses, rpn_losses
from lib.models.mxnet_names import mxnet_names
from lib.models.postprocess import PostProcess
from lib.models.rpn import anchor_probabilities, per_anchor, unnormalise_deltas
from lib.models.targets import AnchorTargets, assign_anchors, assign_proposals, ohem
from lib.structures import Frame, TrainingBatch
from rfcn.model import build_rfcn
from tests.golden_weights import load_golden_weights, network_input
from tests.models.small import random_frames, small_config, small_rfcn

ORIGINAL = [
    "network.FIXED_PARAMS=[conv1, bn_conv1, res2, bn2, gamma, beta]",
    "TRAIN.BATCH_ROIS=-1",
    "TRAIN.ENABLE_OHEM=true",
    "TRAIN.RPN_PRE_NMS_TOP_N=6000",
    "TRAIN.RPN_POST_NMS_TOP_N=300",
    "TRAIN.RPN_MIN_SIZE=0",
    "TEST.RPN_MIN_SIZE=0",
]


def _close(actual: torch.Tensor, recorded: np.ndarray) -> None:
    """The recordings' own tolerance for features and scores."""
    actual = actual.detach().numpy().reshape(recorded.shape)
    np.testing.assert_allclose(actual, recorded, atol=1e-5 + 1e-5 * np.abs(recorded).max(), rtol=0)


@pytest.fixture(scope="module")
def tested(golden):
    """The recording of a test image, and the network with its weights, whose box stds are folded into them already."""
    recording = golden("net_rfcn_public")
    cfg = load_config(None, [*ORIGINAL, "TRAIN.BBOX_STDS=[1.0, 1.0, 1.0, 1.0]"])
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
    _close(conv_feat, recording["conv_feat"])
    for name, value in seen.items():
        _close(value[0, torch.from_numpy(recording[f"stage_{name}_channels"])], recording[f"stage_{name}"])


def test_whole_chain_matches_the_recording_row_by_row(tested):
    recording, model, _ = tested
    detector = model.detector
    im_info = torch.tensor([[160.0, 224.0, float(recording["im_scale"][0])]])
    with torch.no_grad():
        rpn_features, head_features = model.features(network_input(recording["frames"])).chunk(2, dim=1)
        scores, deltas = detector.rpn(rpn_features)
        rois = detector.propose(scores, deltas, im_info, detector.test_proposals)
        class_scores, box_deltas = detector.head(head_features, rois)
    _close(scores, recording["rpn_cls_score"])
    _close(deltas, recording["rpn_bbox_pred_raw"])
    _close(anchor_probabilities(scores), recording["rpn_cls_prob"])
    np.testing.assert_allclose(rois, recording["rois"], atol=1e-2)
    _close(class_scores, recording["cls_score"])
    _close(class_scores.softmax(dim=1), recording["cls_prob"])
    _close(box_deltas, recording["bbox_pred"])


def test_detections_match_the_recording(tested):
    recording, model, cfg = tested
    image = network_input(recording["frames"])[0]
    (found,) = model.detect([Frame(image, float(recording["im_scale"][0]))], build_postprocess(cfg))
    recorded = recording["detections_0"]
    np.testing.assert_array_equal(found.labels, recorded[:, 0])
    np.testing.assert_allclose(found.boxes, recorded[:, 1:5], atol=1e-2)
    np.testing.assert_allclose(found.scores, recorded[:, 5], atol=1e-5)


@pytest.fixture(scope="module")
def trained(golden):
    """The recording of a training step, the network with its weights, and the batch."""
    recording = golden("train_rfcn_public")
    model = load_golden_weights(build_rfcn(load_config(None, ORIGINAL), 31), int(recording["seed"][0]))
    batch = TrainingBatch(
        network_input(recording["frames"])[:, None],
        torch.from_numpy(recording["im_info"]),
        [torch.from_numpy(recording["gt_boxes"][:, :4])],
        [torch.from_numpy(recording["gt_boxes"][:, 4]).long()],
        torch.zeros(1, 0, dtype=torch.bool),
    )
    return recording, model, batch


def _recorded_anchor_targets(recording) -> AnchorTargets:
    """The recorded (1, A*h*w) labels and (1, 4A, h, w) maps in (row, column, anchor) order."""
    height, width = recording["rpn_bbox_target"].shape[2:]
    labels = recording["rpn_label"].reshape(-1, height, width).transpose(1, 2, 0).reshape(-1)
    deltas, weights = (
        torch.from_numpy(recording[name][0].transpose(1, 2, 0).reshape(-1, 4))
        for name in ("rpn_bbox_target", "rpn_bbox_weight")
    )
    return AnchorTargets(torch.from_numpy(labels).long(), deltas, weights)


def test_fixed_parameters_are_the_recorded_ones(trained):
    recording, model, _ = trained
    names = {torch_name: name for name, torch_name in mxnet_names(model).items()}
    fixed = {names[name] for name, parameter in model.named_parameters() if not parameter.requires_grad}
    assert fixed == set(recording["fixed_params"].tolist())


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
    recorded = _recorded_anchor_targets(recording)
    assert torch.equal(anchors.labels, recorded.labels)
    torch.testing.assert_close(anchors.deltas, recorded.deltas, atol=1e-5, rtol=0)
    assert torch.equal(anchors.weights, recorded.weights)


def test_training_step_matches_the_recording(trained):
    """Every intermediate array, loss, metric and gradient of one step, all parameters unfixed as when recorded."""
    recording, model, batch = trained
    detector = model.detector
    fixed = [parameter for parameter in model.parameters() if not parameter.requires_grad]
    model.requires_grad_()
    features = model.features(batch.images)
    _close(features[:, ::16], recording["select_conv_feat"])
    rpn_features, head_features = features.chunk(2, dim=1)
    scores, deltas = detector.rpn(rpn_features)
    _close(scores, recording["int_rpn_cls_score"])
    _close(deltas, recording["int_rpn_bbox_pred"])
    unnormalised = unnormalise_deltas(deltas, detector.anchor_means, detector.anchor_stds)
    _close(unnormalised, recording["int_rpn_bbox_pred_unnormalised"])
    rois = detector.propose(scores, deltas, batch.im_info, detector.train_proposals)
    np.testing.assert_allclose(rois, recording["int_proposals"], atol=1e-2)

    anchors = _recorded_anchor_targets(recording)
    anchor_scores, anchor_deltas = (part[0] for part in per_anchor(scores, deltas))
    terms = rpn_losses(anchor_scores, anchor_deltas, anchors.labels, anchors.deltas, anchors.weights, 256)

    labels, targets, weights = (
        torch.from_numpy(recording[f"int_{name}"]) for name in ("label", "bbox_target", "bbox_weight")
    )
    class_scores, box_deltas = detector.head(head_features, torch.from_numpy(recording["int_rois"]))
    _close(class_scores, recording["int_cls_score_reshape"])
    box_deltas = box_deltas[:, 4:]
    targets, weights = targets[:, 4:], weights[:, 4:]
    labels, weights = ohem(class_scores, labels.long(), box_deltas, targets, weights, 128)
    np.testing.assert_array_equal(labels, recording["int_labels_ohem"])
    np.testing.assert_array_equal(weights, recording["int_bbox_weights_ohem"][:, 4:])
    terms |= rcnn_losses(class_scores, box_deltas, labels, targets, weights, 128)

    _check_metrics(terms, recording)
    sum(term for name, term in terms.items() if name.endswith("_loss")).backward()
    _check_gradients(model, recording)
    model.zero_grad()
    for parameter in fixed:
        parameter.requires_grad_(False)


def _check_metrics(terms: dict[str, torch.Tensor], recording) -> None:
    for name, value in zip(recording["metric_names"].tolist(), recording["metric_values"].tolist(), strict=True):
        assert terms[name].item() == pytest.approx(value, rel=1e-5), name
    for kind, divisor in (("rpn", 256), ("rcnn", 128)):
        output = "out_rpn_bbox_loss" if kind == "rpn" else "out_bbox_loss"
        assert terms[f"{kind}_bbox_loss"].item() == pytest.approx(recording[output].sum() / divisor, rel=1e-5)
        assert terms[f"{kind}_cls_loss"].item() == pytest.approx(terms[f"{kind.upper()}LogLoss"].item(), rel=1e-5)


def _check_gradients(model: torch.nn.Module, recording) -> None:
    parameters, names = dict(model.named_parameters()), mxnet_names(model)
    rows = zip(
        recording["grad_names"].tolist(),
        recording["grad_l2"],
        recording["grad_index"],
        recording["grad_value"],
        strict=True,
    )
    for name, norm, index, value in rows:
        gradient = parameters[names[name]].grad.double().numpy()
        assert np.linalg.norm(gradient) == pytest.approx(norm, rel=2e-3), name
        tolerance = 0.05 * norm / np.sqrt(gradient.size)
        np.testing.assert_allclose(gradient.ravel()[index], value, atol=tolerance, rtol=0, err_msg=name)
        whole = recording.get(f"gradfull_{name}")
        if whole is not None:
            np.testing.assert_allclose(gradient, whole, atol=tolerance, rtol=0, err_msg=name)


def test_losses_from_a_batch_are_the_recorded_ones(trained, monkeypatch):
    """The same through the front door, with the recorded choice of anchors."""
    recording, model, batch = trained
    monkeypatch.setattr(detector_module, "assign_anchors", lambda *_: _recorded_anchor_targets(recording))
    with torch.no_grad():
        terms = model.losses(batch, np.random.RandomState(0))
    _check_metrics(terms, recording)


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
        together = list(small.detect(frames, postprocess, batch_images))
        for a, b in zip(alone, together, strict=True):
            assert torch.equal(a.labels, b.labels)
            torch.testing.assert_close(a.scores, b.scores, atol=1e-5, rtol=0)
            torch.testing.assert_close(a.boxes, b.boxes, atol=1e-2, rtol=0)


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
    assert build_postprocess(small_config("TEST.max_per_image=0")).max_per_image is None
