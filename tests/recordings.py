"""Comparing a model with what the originals recorded: the steps and tolerances that the three methods share."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from lib.config import Config, load_config
from lib.models.build import build_detector
from lib.models.detector import Detector
from lib.models.losses import rcnn_losses, rpn_losses
from lib.models.mxnet_names import mxnet_names
from lib.models.rpn import anchor_probabilities, per_anchor, unnormalise_deltas
from lib.models.targets import AnchorTargets, ohem
from lib.structures import Detections, TrainingBatch
from tests.golden_weights import network_input

Recording = dict[str, np.ndarray]


def original_config(*overrides: str) -> Config:
    """What the originals' YAML files change in the defaults, as far as a model sees it."""
    return load_config(
        None,
        [
            "network.FIXED_PARAMS=[conv1, bn_conv1, res2, bn2, gamma, beta]",
            "TRAIN.BATCH_ROIS=-1",
            "TRAIN.ENABLE_OHEM=true",
            "TRAIN.RPN_PRE_NMS_TOP_N=6000",
            "TRAIN.RPN_POST_NMS_TOP_N=300",
            "TRAIN.RPN_MIN_SIZE=0",
            "TEST.RPN_MIN_SIZE=0",
            *overrides,
        ],
    )


FOLDED_STDS = "TRAIN.BBOX_STDS=[1.0, 1.0, 1.0, 1.0]"  # the recorded test networks have the stds in their weights


def training_detector(detector: Detector, cfg: Config) -> Detector:
    """A detector for `cfg`, which trains, with the weights of `detector`, which was made for testing."""
    trained = build_detector(cfg, detector.head.num_classes)
    trained.load_state_dict(detector.state_dict())
    return trained


def assert_close(actual: Tensor, recorded: np.ndarray) -> None:
    """The recordings' own tolerance for features and scores."""
    actual = actual.detach().numpy().reshape(recorded.shape)
    np.testing.assert_allclose(actual, recorded, atol=1e-5 + 1e-5 * np.abs(recorded).max(), rtol=0)


def assert_fixed_parameters(model: nn.Module, recording: Recording) -> None:
    names = {torch_name: name for name, torch_name in mxnet_names(model).items()}
    fixed = {names[name] for name, parameter in model.named_parameters() if not parameter.requires_grad}
    assert fixed == set(recording["fixed_params"].tolist())


@torch.no_grad()
def check_detector(detector: Detector, features: Tensor, recording: Recording, prefix: str = "") -> None:
    """From a feature map (B, C, h, w) to class scores and deltas, row by row; what was not recorded is left out."""
    height, width = recording["frames"].shape[1:3]
    im_info = torch.tensor([[height, width, float(recording["im_scale"][0])]]).repeat(len(features), 1)
    rpn_features, head_features = features.chunk(2, dim=1)
    scores, deltas = detector.rpn(rpn_features)
    rois = detector.propose(scores, deltas, im_info, detector.test_proposals)
    class_scores, box_deltas = detector.head(head_features, rois)
    arrays = {
        "rpn_cls_score": scores,
        "rpn_bbox_pred_raw": deltas,
        "rpn_cls_prob": anchor_probabilities(scores),
        "cls_score": class_scores,
        "cls_prob": class_scores.softmax(dim=1),
        "bbox_pred": box_deltas,
    }
    compared = [name for name in arrays if f"{prefix}{name}" in recording]
    assert {"rpn_cls_score", "cls_prob", "bbox_pred"} <= set(compared)
    np.testing.assert_allclose(rois, recording[f"{prefix}rois"], atol=1e-2)
    for name in compared:
        assert_close(arrays[name], recording[f"{prefix}{name}"])


def assert_detections(found: Detections, recorded: np.ndarray) -> None:
    """`found` are the recorded rows (class, x1, y1, x2, y2, score), in their order."""
    np.testing.assert_array_equal(found.labels, recorded[:, 0])
    np.testing.assert_allclose(found.boxes, recorded[:, 1:5], atol=1e-2)
    np.testing.assert_allclose(found.scores, recorded[:, 5], atol=1e-5)


def recorded_batch(recording: Recording, order: list[int], same_frame: bool = False) -> TrainingBatch:
    """The recorded training sample; order: which of its frames is the current one, and which the references."""
    return TrainingBatch(
        network_input(recording["frames"])[order][None],
        torch.from_numpy(recording["im_info"]),
        [torch.from_numpy(recording["gt_boxes"][:, :4])],
        [torch.from_numpy(recording["gt_boxes"][:, 4]).long()],
        torch.full((1, len(order) - 1), same_frame),
    )


def recorded_anchor_targets(recording: Recording) -> AnchorTargets:
    """The recorded (1, A*h*w) labels and (1, 4A, h, w) maps in (row, column, anchor) order."""
    height, width = recording["rpn_bbox_target"].shape[2:]
    labels = recording["rpn_label"].reshape(-1, height, width).transpose(1, 2, 0).reshape(-1)
    deltas, weights = (
        torch.from_numpy(recording[name][0].transpose(1, 2, 0).reshape(-1, 4))
        for name in ("rpn_bbox_target", "rpn_bbox_weight")
    )
    return AnchorTargets(torch.from_numpy(labels).long(), deltas, weights)


def check_training_step(
    model: nn.Module, detector: Detector, features: Tensor, batch: TrainingBatch, recording: Recording
) -> None:
    """Every intermediate array, loss, metric and gradient of the step whose feature map is `features`."""
    assert_close(features[:, ::16], recording["select_conv_feat"])
    rpn_features, head_features = features.chunk(2, dim=1)
    scores, deltas = detector.rpn(rpn_features)
    assert_close(scores, recording["int_rpn_cls_score"])
    assert_close(deltas, recording["int_rpn_bbox_pred"])
    unnormalised = unnormalise_deltas(deltas, detector.anchor_means, detector.anchor_stds)
    assert_close(unnormalised, recording["int_rpn_bbox_pred_unnormalised"])
    rois = detector.propose(scores, deltas, batch.im_info, detector.train_proposals)
    np.testing.assert_allclose(rois, recording["int_proposals"], atol=1e-2)

    anchors = recorded_anchor_targets(recording)
    anchor_scores, anchor_deltas = (part[0] for part in per_anchor(scores, deltas))
    terms = rpn_losses(anchor_scores, anchor_deltas, anchors.labels, anchors.deltas, anchors.weights, 256)
    terms |= _check_head_losses(detector, head_features, recording)
    assert_metrics(terms, recording)
    sum(term for name, term in terms.items() if name.endswith("_loss")).backward()
    _assert_gradients(model, recording)


def _check_head_losses(detector: Detector, features: Tensor, recording: Recording) -> dict[str, Tensor]:
    labels, targets, weights = (
        torch.from_numpy(recording[f"int_{name}"]) for name in ("label", "bbox_target", "bbox_weight")
    )
    class_scores, box_deltas = detector.head(features, torch.from_numpy(recording["int_rois"]))
    assert_close(class_scores, recording["int_cls_score_reshape"])
    box_deltas, targets, weights = box_deltas[:, 4:], targets[:, 4:], weights[:, 4:]
    labels, weights = ohem(class_scores, labels.long(), box_deltas, targets, weights, 128)
    np.testing.assert_array_equal(labels, recording["int_labels_ohem"])
    np.testing.assert_array_equal(weights, recording["int_bbox_weights_ohem"][:, 4:])
    return rcnn_losses(class_scores, box_deltas, labels, targets, weights, 128)


def assert_metrics(terms: dict[str, Tensor], recording: Recording) -> None:
    for name, value in zip(recording["metric_names"].tolist(), recording["metric_values"].tolist(), strict=True):
        assert terms[name].item() == pytest.approx(value, rel=1e-5), name
    for kind, divisor in (("rpn", 256), ("rcnn", 128)):
        output = "out_rpn_bbox_loss" if kind == "rpn" else "out_bbox_loss"
        assert terms[f"{kind}_bbox_loss"].item() == pytest.approx(recording[output].sum() / divisor, rel=1e-5)
        assert terms[f"{kind}_cls_loss"].item() == pytest.approx(terms[f"{kind.upper()}LogLoss"].item(), rel=1e-5)


def _assert_gradients(model: nn.Module, recording: Recording) -> None:
    """A parameter without a gradient counts as one whose gradient is 0."""
    parameters, names = dict(model.named_parameters()), mxnet_names(model)
    rows = zip(
        recording["grad_names"].tolist(),
        recording["grad_l2"],
        recording["grad_index"],
        recording["grad_value"],
        strict=True,
    )
    for name, norm, index, value in rows:
        parameter = parameters.pop(names[name])
        gradient = (torch.zeros_like(parameter) if parameter.grad is None else parameter.grad).double().numpy()
        assert np.linalg.norm(gradient) == pytest.approx(norm, rel=2e-3), name
        tolerance = 0.05 * norm / np.sqrt(gradient.size)
        np.testing.assert_allclose(gradient.ravel()[index], value, atol=tolerance, rtol=0, err_msg=name)
        whole = recording.get(f"gradfull_{name}")
        if whole is not None:
            np.testing.assert_allclose(gradient, whole, atol=tolerance, rtol=0, err_msg=name)
    assert not parameters


@contextmanager
def everything_trained(model: nn.Module) -> Iterator[None]:
    """Gradients for the fixed parameters too, as when recorded; none are left behind."""
    fixed = [parameter for parameter in model.parameters() if not parameter.requires_grad]
    model.requires_grad_()
    try:
        yield
    finally:
        model.zero_grad()
        for parameter in fixed:
            parameter.requires_grad_(False)
