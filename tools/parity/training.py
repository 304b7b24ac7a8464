"""train_<method>_*: one training step, from pixels to the gradient of every parameter."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from torch import Tensor, nn

from lib.models.anchors import all_anchors
from lib.models.detector import Detector
from lib.models.losses import rcnn_losses, rpn_losses, smooth_l1
from lib.models.mxnet_names import mxnet_names
from lib.models.rpn import anchor_probabilities, per_anchor, unnormalise_deltas
from lib.models.targets import AnchorTargets, assign_anchors, assign_proposals, ohem
from lib.structures import TrainingBatch
from tools.parity.assignment import in_columns
from tools.parity.channels import FEATURES, compare_every
from tools.parity.detections import PIXELS
from tools.parity.golden_weights import GoldenNetwork, network_input
from tools.parity.gradients import compare_gradients
from tools.parity.rows import EXACT, Recording, RecordingError, Tolerance

_INPUTS = (["data"], ["data", "data_ref"], ["data", "data_aft", "data_bef"])  # of R-FCN, DFF, FGFA
LOSSES = Tolerance(element=1e-5)
_TARGETS = Tolerance(absolute=1e-5)


def compare_training(recording: Recording, network: GoldenNetwork) -> None:
    """Every array of a train_* set."""
    recording.input("seed")
    batch = recorded_batch(recording)
    with network.trained() as model:
        _compare_inputs(recording, batch)
        features = training_features(model, batch)
        _compare_step(recording, model.detector, features, batch).backward()
        compare_gradients(recording, model)
    _compare_fixed(recording, model)


def training_features(model: nn.Module, batch: TrainingBatch) -> Tensor:
    """The map that the losses of `batch` are about."""
    return model.training_features(batch) if hasattr(model, "training_features") else model.features(batch.images)


def recorded_batch(recording: Recording) -> TrainingBatch:
    """The recorded training sample: its current frame, then its references, which eq_flag 1 makes the same frame."""
    names = recording.input("input_order").tolist()
    if sorted(names) not in _INPUTS or len(names) != len(recording.input("frames")):
        raise RecordingError(f"{recording.name}: input_order {names} does not name the frames")
    current = names.index("data")
    references = [i for i in range(len(names)) if i != current]
    same = "eq_flag" in recording and recording.number("eq_flag") == 1
    boxes = recording.input("gt_boxes")
    return TrainingBatch(
        network_input(recording["frames"])[[current, *([current] * len(references) if same else references)]][None],
        torch.from_numpy(recording.input("im_info")),
        [torch.from_numpy(boxes[:, :4])],
        [torch.from_numpy(boxes[:, 4]).long()],
        torch.full((1, len(references)), same),
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


def _compare_inputs(recording: Recording, batch: TrainingBatch) -> None:
    height, width = batch.images.shape[2:]
    recording.compare("im_info", np.array([[height, width, 1.0]]))
    if "eq_flag" in recording:
        recording.compare("eq_flag", np.array([float(recording["eq_flag"][0] == 1)]))


def _compare_fixed(recording: Recording, model: nn.Module) -> None:
    """Which parameters are fixed, and which have a learning rate of their own."""
    names = {torch_name: name for name, torch_name in mxnet_names(model).items()}
    fixed = sorted(names[name] for name, parameter in model.named_parameters() if not parameter.requires_grad)
    recorded = recording.input("fixed_params")
    recording.compare_with("fixed_params", np.array(fixed), np.sort(recorded))
    slowed = [f"{name}={value}" for name, value in sorted(getattr(model, "lr_mult", {}).items())]
    recording.compare("lr_mult", np.array(["", *slowed]))


def _compare_step(recording: Recording, detector: Detector, features: Tensor, batch: TrainingBatch) -> Tensor:
    """Everything from the feature map to the losses; returns their sum."""
    compare_every(recording, "select_conv_feat", features, 16)
    rpn_features, head_features = features.chunk(2, dim=1)
    scores, deltas = detector.rpn(rpn_features)
    recording.compare("int_rpn_cls_score", scores, FEATURES)
    recording.compare("int_rpn_bbox_pred", deltas, FEATURES)
    plain = unnormalise_deltas(deltas, detector.anchor_means, detector.anchor_stds)
    recording.compare("int_rpn_bbox_pred_unnormalised", plain, FEATURES)
    _compare_proposals(recording, detector, scores, deltas, batch)
    _compare_anchor_targets(recording, detector, batch)
    terms = _compare_rpn_losses(recording, detector, scores, deltas)
    terms |= _compare_head_losses(recording, detector, head_features, batch)
    metrics = np.array([terms[name].item() for name in recording.input("metric_names").tolist()])
    recording.compare("metric_values", metrics, LOSSES)
    return sum(term for name, term in terms.items() if name.endswith("_loss"))


def _compare_proposals(
    recording: Recording, detector: Detector, scores: Tensor, deltas: Tensor, batch: TrainingBatch
) -> None:
    """int_proposals; where rounding flipped a choice of the NMS, from the recorded RPN outputs."""
    recorded, rule = torch.from_numpy(recording["int_proposals"]), detector.train_proposals
    rois, note = detector.propose(scores, deltas, batch.im_info, rule), ""
    if rois.shape == recorded.shape and (rois - recorded).abs().max() > PIXELS:
        note = "from the recorded RPN outputs, as the whole chain differs"
        scores, deltas = (torch.from_numpy(recording[f"int_{name}"]) for name in ("rpn_cls_score", "rpn_bbox_pred"))
        rois = detector.propose(scores, deltas, batch.im_info, rule)
    recording.compare("int_proposals", rois, Tolerance(absolute=PIXELS), note)


def _compare_anchor_targets(recording: Recording, detector: Detector, batch: TrainingBatch) -> None:
    """The recorded labels are a fair draw from those that the rule gives; deltas and weights are the rule's."""
    recorded, rule = recorded_anchor_targets(recording), detector.anchor_rule
    height, width = recording["rpn_bbox_target"].shape[2:]
    anchors = all_anchors(detector.anchors, height, width, detector.stride)
    everything = replace(rule, batch_size=2 * len(anchors))
    size = batch.images.shape[2:]
    targets = assign_anchors(batch.boxes[0], anchors, *size, everything, np.random.RandomState(0))

    kept = recorded.labels >= 0
    possible = [int((targets.labels == label).sum()) for label in (1, 0)]
    foreground = min(possible[0], int(rule.foreground_fraction * rule.batch_size))
    wanted = [foreground, min(possible[1], rule.batch_size - foreground)]
    drawn = [int((recorded.labels == label).sum()) for label in (1, 0)]
    wrong = int((recorded.labels != torch.where(kept, targets.labels, recorded.labels)).sum())
    wrong += abs(drawn[0] - wanted[0]) + abs(drawn[1] - wanted[1])
    note = "" if drawn == possible else f"a random draw of {sum(drawn)} from {sum(possible)}"
    recording.judge("rpn_label", wrong, float(wrong), 0.0, "abs", note)
    recording.compare_with("rpn_bbox_target", targets.deltas, recorded.deltas, _TARGETS)
    weights = torch.where((recorded.labels == 1)[:, None], torch.tensor(rule.weights), 0.0)
    recording.compare_with("rpn_bbox_weight", weights, recorded.weights)
    recording.information("rpn_bbox_target", "rpn_bbox_weight")  # compared in our order of anchors


def _compare_rpn_losses(recording: Recording, detector: Detector, scores: Tensor, deltas: Tensor) -> dict[str, Tensor]:
    """Both outputs and both losses of the RPN on the recorded choice of anchors."""
    target, weight = (torch.from_numpy(recording[f"rpn_bbox_{name}"]) for name in ("target", "weight"))
    probabilities = anchor_probabilities(scores).reshape(recording["out_rpn_cls_prob"].shape)
    recording.compare("out_rpn_cls_prob", probabilities, FEATURES)
    recording.compare("out_rpn_bbox_loss", weight * smooth_l1(deltas - target), FEATURES)
    anchors, batch_size = recorded_anchor_targets(recording), detector.anchor_rule.batch_size
    anchor_scores, anchor_deltas = (part[0] for part in per_anchor(scores, deltas))
    terms = rpn_losses(anchor_scores, anchor_deltas, anchors.labels, anchors.deltas, anchors.weights, batch_size)
    recorded = recording["out_rpn_cls_prob"].reshape(2, -1)
    labels = recording["rpn_label"].reshape(-1)
    _compare_losses(recording, terms, "rpn", "out_rpn_bbox_loss", recorded, labels, batch_size)
    return terms


def _compare_head_losses(
    recording: Recording, detector: Detector, features: Tensor, batch: TrainingBatch
) -> dict[str, Tensor]:
    """Targets, outputs and losses of the head on the recorded RoIs, labels and choice of hard examples."""
    _compare_roi_targets(recording, detector, batch)
    rois, labels, targets, weights = (
        torch.from_numpy(recording[f"int_{name}"]) for name in ("rois", "label", "bbox_target", "bbox_weight")
    )
    scores, deltas = detector.head(features, rois)
    recording.compare("int_cls_score_reshape", scores, FEATURES)
    recording.compare("out_cls_prob", scores.softmax(dim=1)[None], FEATURES)
    own_labels, own_weights = ohem(scores, labels.long(), deltas, targets[:, 4:], weights[:, 4:], detector.ohem_rois)
    _compare_hard_examples(recording, own_labels, own_weights, scores, detector.ohem_rois)

    labels, weights = (
        torch.from_numpy(recording["int_labels_ohem"]),
        torch.from_numpy(recording["int_bbox_weights_ohem"]),
    )
    recording.compare("out_rcnn_label", labels[None])
    box_losses = weights[:, 4:] * smooth_l1(deltas - targets[:, 4:])
    recording.compare("out_bbox_loss", in_columns(box_losses, 8)[None], FEATURES)
    terms = rcnn_losses(scores, deltas, labels.long(), targets[:, 4:], weights[:, 4:], detector.ohem_rois)
    recorded = recording["out_cls_prob"][0].T
    _compare_losses(recording, terms, "rcnn", "out_bbox_loss", recorded, labels.numpy(), detector.ohem_rois)
    return terms


def _compare_roi_targets(recording: Recording, detector: Detector, batch: TrainingBatch) -> None:
    """int_rois, int_label and the targets that go with them, from the recorded proposals."""
    given = torch.from_numpy(recording["int_proposals"][:, 1:])
    rng = np.random.RandomState(0)  # nothing is drawn
    targets = assign_proposals(given, batch.boxes[0], batch.labels[0], detector.roi_rule, rng)
    recording.compare("int_rois", in_columns(targets.rois, 5), Tolerance(absolute=PIXELS))
    recording.compare("int_label", targets.labels)
    recording.compare("int_bbox_target", in_columns(targets.deltas, 8), _TARGETS)
    recording.compare("int_bbox_weight", in_columns(targets.weights, 8))


def _compare_hard_examples(recording: Recording, labels: Tensor, weights: Tensor, scores: Tensor, kept: int) -> None:
    """The RoIs that OHEM keeps: the recorded ones, but for such as lie at the edge by less than losses may differ."""
    recorded = torch.from_numpy(recording["int_labels_ohem"])
    differs, note = torch.nonzero(recorded.long() != labels)[:, 0], ""
    if len(differs):
        loss = _roi_losses(recording, scores)
        edge = loss.sort(descending=True).values[kept - 1]
        if ((loss[differs] - edge).abs() <= 1e-5 * edge).all() and int((recorded >= 0).sum()) == kept:
            note = f"{len(differs)} RoIs whose losses tie at the edge are chosen otherwise"
            labels[differs] = recorded[differs].long()
            weights[differs] = torch.from_numpy(recording["int_bbox_weights_ohem"])[differs, 4:]
    recording.compare("int_labels_ohem", labels, EXACT, note)
    recording.compare("int_bbox_weights_ohem", in_columns(weights, 8), EXACT, note)


def _roi_losses(recording: Recording, scores: Tensor) -> Tensor:
    """Each RoI's class loss (R,); the box part of RoIs that were dropped is not recorded, and background has none."""
    labels = torch.from_numpy(recording["int_label"]).long()
    return -torch.log(scores.detach().softmax(dim=1).gather(1, labels[:, None])[:, 0] + 1e-14)


def _compare_losses(
    recording: Recording,
    terms: dict[str, Tensor],
    kind: str,
    box_output: str,
    probabilities: np.ndarray,
    labels: np.ndarray,
    batch_size: int,
) -> None:
    """The two losses with those that follow from the recorded outputs: probabilities (K, n), labels (n,)."""
    counted = labels >= 0
    probability = probabilities[labels[counted].astype(int), np.flatnonzero(counted)].astype(np.float64)
    expected = {
        f"{kind}_cls_loss": -np.log(probability + 1e-14).mean() if len(probability) else 0.0,
        f"{kind}_bbox_loss": recording[box_output].sum(dtype=np.float64) / batch_size,
    }
    for name, value in expected.items():
        recording.compare_with(name, terms[name], value, LOSSES, "from the recorded outputs")
