"""layers_*: single layers and rules. The cases and their sizes follow from the names of the arrays."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn

from lib import boxes as box_ops
from lib.data.transforms import resize, to_tensor
from lib.models.aggregation import aggregation_weights, cosine_similarity, length
from lib.models.anchors import make_anchors
from lib.models.flownet_s import crop_to, mean_of_blocks, upsampler
from lib.models.losses import box_loss_sum, smooth_l1, softmax_loss
from lib.models.resnet import ResNet
from lib.models.rpn import anchor_probabilities, unnormalise_deltas
from lib.models.targets import ohem
from lib.ops import flow_warp, nms, proposals, psroi_pool
from tools.parity.assignment import compare_anchor_assignment, compare_proposal_targets
from tools.parity.detections import PIXELS, as_rows, detections_of, not_suppressed
from tools.parity.optimiser import compare_learning_rates, compare_sgd
from tools.parity.original_rules import POSTPROCESS
from tools.parity.rows import EXACT, Recording, Tolerance

LAYERS = Tolerance(absolute=1e-5, element=1e-5)
_FLOAT64 = Tolerance(absolute=1e-9, element=1e-12)
_ANCHORS = {9: ([0.5, 1, 2], [8, 16, 32]), 12: ([0.5, 1, 2, 3], [4, 8, 16])}  # how many -> ratios and scales
_BOX_LOSS_ROIS = 128


def compare_layers(recording: Recording) -> None:
    """Every array of a layers_* set."""
    for pattern, compare in _CASES.items():
        for match in recording.matching(pattern):
            compare(recording, match[1])
    for array, compare in _SINGLE.items():
        if array in recording:
            compare(recording)
    compare_anchor_assignment(recording)
    compare_proposal_targets(recording)
    compare_learning_rates(recording)
    compare_sgd(recording)
    recording.information("seed", "notes")


def _leaf(recording: Recording, array: str) -> Tensor:
    return torch.from_numpy(recording.input(array)).requires_grad_()


def _tensor(recording: Recording, array: str) -> Tensor:
    return torch.from_numpy(recording.input(array))


def _compare_gradients(recording: Recording, prefix: str, out: Tensor, leaves: dict[str, Tensor]) -> None:
    """Backward from the recorded head; leaves: name of the recorded gradient without prefix -> tensor."""
    out.backward(_tensor(recording, f"{prefix}head"))
    for name, leaf in leaves.items():
        recording.compare(f"{prefix}{name}", torch.zeros_like(leaf) if leaf.grad is None else leaf.grad, LAYERS)


def _warp(recording: Recording, prefix: str) -> None:
    data, flow = (_leaf(recording, f"{prefix}{name}") for name in ("data", "flow"))
    out = flow_warp(data, flow)
    recording.compare(f"{prefix}out", out, LAYERS)
    _compare_gradients(recording, prefix, out, {"grad_data": data, "grad_flow": flow})
    # Our operator works in cells and makes no normalised grid; this is what it would be
    height, width = flow.shape[2:]
    x = (torch.arange(width) + flow[:, 0].detach().double()) / ((width - 1) / 2) - 1
    y = (torch.arange(height)[:, None] + flow[:, 1].detach().double()) / ((height - 1) / 2) - 1
    recording.compare(f"{prefix}grid", torch.stack((x, y), dim=1), LAYERS)


def _psroi(recording: Recording, prefix: str) -> None:
    data, rois = (_leaf(recording, f"{prefix}{name}") for name in ("data", "rois"))
    sizes = (recording.number(f"{prefix}{name}") for name in ("output_dim", "pooled_size", "spatial_scale"))
    out = psroi_pool(data, rois, *sizes)
    recording.compare(f"{prefix}out", out, LAYERS)
    _compare_gradients(recording, prefix, out, {"grad_data": data, "grad_rois": rois})


def _mean_pool(recording: Recording, prefix: str) -> None:
    x = _leaf(recording, f"{prefix}x")
    out = mean_of_blocks(x)
    recording.compare(f"{prefix}out", out, LAYERS)
    _compare_gradients(recording, prefix, out, {"grad": x})


def _deconvolution(recording: Recording, prefix: str) -> None:
    x, weight, bias = (_leaf(recording, f"{prefix}{name}") for name in "xwb")
    layer = upsampler(*weight.shape[:2])
    layer.load_state_dict({"weight": weight, "bias": bias})
    out = crop_to(layer(x), torch.empty(1, 1, *recording.input(f"{prefix}like_hw").tolist()))
    recording.compare(f"{prefix}out", out, LAYERS)
    recording.compare(f"{prefix}like_hw", np.array(out.shape[2:]))
    _compare_gradients(recording, prefix, out, {"grad_x": x, "grad_w": layer.weight, "grad_b": layer.bias})


def _proposals(recording: Recording, prefix: str) -> None:
    probabilities, deltas, info = (_tensor(recording, f"{prefix}{n}") for n in ("cls_prob", "bbox_pred", "im_info"))
    pre, post, threshold, min_size = recording.input(f"{prefix}params").tolist()
    anchors = make_anchors(16, *_ANCHORS[probabilities.shape[1] // 2])
    rois, scores = proposals(probabilities, deltas, info, anchors, 16, int(pre), int(post), threshold, min_size)
    for kind in ("", "_numpy"):
        if f"{prefix}rois{kind}" in recording:
            recording.compare(f"{prefix}rois{kind}", rois, Tolerance(absolute=PIXELS))
            recording.compare(f"{prefix}score{kind}", scores[:, None])
    background, foreground = probabilities.chunk(2, dim=1)
    note = "background and foreground add up to 1"
    recording.compare_with(f"{prefix}cls_prob", background + foreground, np.ones(background.shape), LAYERS, note)


def _length(recording: Recording) -> None:
    x = _leaf(recording, "l2norm_x")
    out = x / length(x, 1)
    recording.compare("l2norm_out", out, LAYERS)
    _compare_gradients(recording, "l2norm_", out, {"grad": x})


def _similarity(recording: Recording) -> None:
    x, y = _leaf(recording, "fgfaw_x"), _leaf(recording, "fgfaw_y")
    similarities = cosine_similarity(x, y)
    weights = aggregation_weights(similarities[None])[0]
    recording.compare("fgfaw_cos", similarities, LAYERS)
    recording.compare("fgfaw_softmax", weights, LAYERS)
    _compare_gradients(recording, "fgfaw_", weights, {"grad_x": x, "grad_y": y})


def _max_pool(recording: Recording) -> None:
    """Max pooling, run through a ResNet without stages whose first convolution is the identity.

    A constant that makes the map positive is added before, so that the ReLU has no effect, and subtracted after.
    """
    x = _tensor(recording, "maxpool_x")
    net = ResNet(18, width=x.shape[1], bn_eps=1e-30)  # 1 + this is 1, and torch 2.11 refuses 0
    net.conv1, net.stages = nn.Conv2d(x.shape[1], x.shape[1], 1, bias=False), []
    nn.init.dirac_(net.conv1.weight)
    raised = 1 - x.min()
    recording.compare("maxpool_out", net(x + raised).double() - raised.double(), LAYERS)


def _anchors(recording: Recording, base: str) -> None:
    for match in recording.matching(rf"anchors_{base}_(py|cxx)"):
        count = len(recording[match[0]])
        if count in _ANCHORS:
            recording.compare(match[0], make_anchors(int(base), *_ANCHORS[count]))
        else:
            recording.fail(match[0], f"ratios and scales of {count} anchors are not known")


def _nms(recording: Recording, digits: str) -> None:
    """nms_keep_3: threshold 0.3."""
    dets = _tensor(recording, "nms_dets")
    recording.compare(f"nms_keep_{digits}", nms(dets[:, :4], dets[:, 4], float(f"0.{digits}")))


def _nms_at_threshold(recording: Recording) -> None:
    dets = _tensor(recording, "nms_equal_dets")
    for kind, suppress_equal in (("py", False), ("cpu", True)):
        kept = nms(dets[:, :4], dets[:, 4], 0.5, suppress_equal=suppress_equal)
        recording.compare(f"nms_equal_{kind}_keep", kept)


def _box_coding(recording: Recording) -> None:
    examples = _tensor(recording, "coding_ex")
    recording.compare("coding_targets", box_ops.encode(examples, _tensor(recording, "coding_gt")), _FLOAT64)
    deltas = _tensor(recording, "coding_deltas").split(4, dim=1)
    decoded = [box_ops.decode(examples, columns) for columns in deltas]
    height, width = recording.input("coding_clip_shape").tolist()
    recording.compare("coding_pred", torch.cat(decoded, dim=1), _FLOAT64)
    clipped = [box_ops.clip(boxes, height, width) for boxes in decoded]
    recording.compare("coding_clipped", torch.cat(clipped, dim=1), _FLOAT64)


def _overlaps(recording: Recording) -> None:
    a, b = _tensor(recording, "overlaps_a"), _tensor(recording, "overlaps_b")
    recording.compare("overlaps", box_ops.overlaps(a, b), _FLOAT64)


def _smooth_l1(recording: Recording, sigma: str) -> None:
    x = _leaf(recording, "smoothl1_x")
    out = smooth_l1(x, float(sigma))
    recording.compare(f"smoothl1_out_{sigma}", out, LAYERS)
    out.sum().backward()
    recording.compare(f"smoothl1_grad_{sigma}", x.grad, LAYERS)


def _softmax(recording: Recording) -> None:
    x = _leaf(recording, "softmaxout_x")
    recording.compare("softmaxout_prob", x.softmax(dim=1), LAYERS)
    softmax_loss(x, _tensor(recording, "softmaxout_label").long()).backward()
    recording.compare("softmaxout_grad", x.grad, LAYERS)


def _anchor_softmax(recording: Recording) -> None:
    labels = _tensor(recording, "softmaxmulti_label").long()
    ignored = torch.full_like(labels, -1)
    for array, given in (("softmaxmulti_grad", labels), ("softmaxmulti_all_ignored_grad", ignored)):
        x = _leaf(recording, "softmaxmulti_x")
        softmax_loss(x.flatten(2).transpose(1, 2).flatten(0, 1), given.flatten()).backward()
        recording.compare(array, x.grad, LAYERS)
    recording.compare("softmaxmulti_prob", anchor_probabilities(x), LAYERS)


def _box_loss(recording: Recording) -> None:
    deltas = _leaf(recording, "bboxloss_pred")
    target, weight = (_tensor(recording, f"bboxloss_{name}") for name in ("target", "weight"))
    recording.compare("bboxloss_out", weight * smooth_l1(deltas - target), LAYERS)
    total = box_loss_sum(deltas, target, weight)
    recording.compare_with("bboxloss_out (sum)", total, recording["bboxloss_out"].sum(dtype=np.float64), LAYERS)
    (total / _BOX_LOSS_ROIS).backward()
    recording.compare("bboxloss_grad_pred", deltas.grad, LAYERS)


def _hard_examples(recording: Recording) -> None:
    names = ("cls_score", "labels", "bbox_pred", "bbox_targets", "bbox_weights")
    scores, labels, deltas, targets, weights = (_tensor(recording, f"ohem_{name}") for name in names)
    kept = int(recording.number("ohem_roi_per_img"))
    labels, weights = ohem(scores, labels.long(), deltas, targets, weights, kept)
    recording.compare("ohem_out_labels", labels)
    recording.compare("ohem_out_weights", weights)


def _unnormalised(recording: Recording) -> None:
    x, mean, std = (_tensor(recording, f"rpninv_{name}") for name in ("x", "mean", "std"))
    recording.compare("rpninv_out", unnormalise_deltas(x, mean, std), LAYERS)
    recording.compare("rpninv_grad", torch.zeros_like(x), EXACT, "proposals pass no gradient here")


def _resize(recording: Recording, prefix: str) -> None:
    target, longest, stride = (int(value) for value in recording.input(f"{prefix}args"))
    image, scale = resize(recording.input(f"{prefix}in"), target, longest, stride)
    recording.compare(f"{prefix}out", image)
    recording.compare(f"{prefix}scale", np.array([scale]), _FLOAT64)


def _transform(recording: Recording) -> None:
    means = tuple(recording.input("transform_means_bgr").tolist())
    recording.compare("transform_out", to_tensor(recording["resize_up_out"], means)[None])


def _post_processing(recording: Recording) -> None:
    """Score threshold 1e-3, NMS 0.3 in each class, cap 300.

    Which of equal scores comes first was up to the sorting algorithm of that NumPy. Rows that tie are therefore
    compared as a set; and if their order changed which of them are left, a class with ties is compared with the rule.
    """
    probabilities, boxes = recording.input("post_scores"), recording.input("post_boxes")[:, 4:]
    found = detections_of(torch.from_numpy(boxes), torch.from_numpy(probabilities))
    rows, recorded = as_rows(found.labels, found.boxes, found.scores), recording.input("post_dets")
    least = recorded[:, 5].min() if len(recorded) == POSTPROCESS.max_per_image else POSTPROCESS.score_threshold
    notes = []
    for label in range(1, probabilities.shape[1]):
        own, wanted = (x[x[:, 0] == label] for x in (rows, recorded))
        if (
            own.shape == wanted.shape
            and (own[:, 5] == wanted[:, 5]).all()
            and (ties_sorted(own) == ties_sorted(wanted)).all()
        ):
            continue
        if problem := _not_left(boxes, probabilities[:, label], wanted, least):
            recording.fail("post_dets", f"class {label}: {problem}")
            return
        notes.append(f"class {label} has ties: compared with the rule")
    if (np.diff(recorded[:, 0]) < 0).any():
        recording.fail("post_dets", "not in class order")
        return
    recording.judge("post_dets", 0.0, 0.0, 0.0, "abs", "; ".join(notes) or "rows that tie compared as a set")


def ties_sorted(rows: np.ndarray) -> np.ndarray:
    """Rows (class, box, score) with those of one class and score by their coordinates."""
    return rows[np.lexsort((*rows[:, 4:0:-1].T, -rows[:, 5], rows[:, 0]))]


def _not_left(boxes: np.ndarray, scores: np.ndarray, wanted: np.ndarray, least: float) -> str:
    """Why `wanted` cannot be the result of NMS for one class; "" if it can."""
    if len(np.unique(scores[scores >= least])) == (scores >= least).sum():
        return "other detections than recorded"
    if (np.diff(wanted[:, 5]) > 0).any():
        return "scores that do not descend"
    given = np.column_stack((boxes, scores))
    equal = (wanted[:, None, 1:] == given[None]).all(axis=2)
    if not equal.any(axis=1).all():
        return "a recorded detection is none of the boxes"
    return not_suppressed(boxes, scores, np.unique(equal.argmax(axis=1)), 0.3, least)


_CASES: dict[str, Callable[[Recording, str], None]] = {
    r"(warp_.+_)(?<!grad_)data": _warp,
    r"(psroi_.+_)(?<!grad_)data": _psroi,
    r"(avgpool_.+_)x": _mean_pool,
    r"(deconv_.+_)(?<!grad_)x": _deconvolution,
    r"(proposal_.+_)cls_prob": _proposals,
    r"anchors_(\d+)_(?:py|cxx)": _anchors,
    r"nms_keep_(\d+)": _nms,
    r"smoothl1_out_(\d+)": _smooth_l1,
    r"(resize_.+_)in": _resize,
}
_SINGLE: dict[str, Callable[[Recording], None]] = {
    "l2norm_x": _length,
    "fgfaw_x": _similarity,
    "maxpool_x": _max_pool,
    "nms_equal_dets": _nms_at_threshold,
    "coding_ex": _box_coding,
    "overlaps_a": _overlaps,
    "softmaxout_x": _softmax,
    "softmaxmulti_x": _anchor_softmax,
    "bboxloss_pred": _box_loss,
    "ohem_cls_score": _hard_examples,
    "rpninv_x": _unnormalised,
    "transform_out": _transform,
    "post_scores": _post_processing,
}
