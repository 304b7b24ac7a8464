"""net_<method>_*: the networks as they are tested, from pixels to detections."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dff.model import DFF, KeyFrame
from fgfa.model import FGFA
from lib import boxes as box_ops
from lib.engine.inference import detect_frames
from lib.models.aggregation import aggregation_weights, cosine_similarity
from lib.models.anchors import all_anchors
from lib.models.detector import Detector
from lib.models.flownet_s import FlowNetS
from lib.models.inference_conv import InferenceConv
from lib.models.rpn import anchor_probabilities, unnormalise_deltas
from lib.models.video_model import VideoModel
from lib.ops import aggregate, flow_warp, proposals
from lib.structures import Detections, Frame
from rfcn.model import RFCN
from tools.parity.channels import FEATURES, compare_every, compare_listed
from tools.parity.detections import PIXELS, as_rows, compare_rows, detections_of
from tools.parity.golden_weights import GoldenNetwork, network_input
from tools.parity.original_rules import POSTPROCESS
from tools.parity.rows import Recording, Tolerance

_BOXES = Tolerance(absolute=PIXELS)
_LEAKY_INPUTS = {  # FlowNet-S: the layer whose input is the recorded activation
    "ReLU1": "conv2",
    "ReLU2": "conv3",
    "ReLU3": "conv3_1",
    "ReLU4": "conv4",
    "ReLU5": "conv4_1",
    "ReLU6": "conv5",
    "ReLU7": "conv5_1",
    "ReLU8": "conv6",
    "ReLU9": "conv6_1",
    "ReLU10": "Convolution1",
    "resize_concat5": "Convolution5",
}


@torch.no_grad()
def compare_network(recording: Recording, network: GoldenNetwork) -> None:
    """Every array of a net_* set, computed on the device and in the form that `network` says."""
    images = network_input(recording.input("frames")).to(network.device)  # (n, 3, H, W)
    recording.input("seed")
    {"rfcn": _compare_rfcn, "dff": _compare_dff, "fgfa": _compare_fgfa}[network.method](recording, network, images)
    if recording.matching("feat_step"):
        _compare_feat_step(recording)


def _compare_feat_step(recording: Recording) -> None:
    """The wide maps hold every n-th of their 1024 channels, as `feat_step` says."""
    wide = recording.matching(r"(.*conv_feat|aggregated_feat)")
    kept = len(range(0, 1024, max(1, int(recording["feat_step"][0]))))
    counts = {recording[match[0]].shape[1] for match in wide}
    note = "" if counts <= {kept} else f"the maps hold {sorted(counts)} of 1024 channels"
    recording.judge("feat_step", np.inf if note else 0.0, 0.0, 0.0, "abs", note)


def _frames(recording: Recording, images: Tensor) -> list[Frame]:
    scale = recording.number("im_scale")
    return [Frame(image, scale, number + 1, number == 0, number) for number, image in enumerate(images.cpu())]


def _detections(model: VideoModel, frames: list[Frame], batch_images: int = 1) -> list[Detections]:
    return [found for _, found in detect_frames(model, frames, POSTPROCESS, batch_images)]


def _compare_rfcn(recording: Recording, network: GoldenNetwork, images: Tensor) -> None:
    model: RFCN = network.tested()
    features = _compare_stages(recording, model, images)
    compare_every(recording, "conv_feat", features, int(recording["feat_step"][0]))
    found = _detections(model, _frames(recording, images))
    _compare_detector(recording, _Image(model.detector, features, ""), found)


def _compare_stages(recording: Recording, model: RFCN, images: Tensor) -> Tensor:
    """stage_NAME; returns the features (n, 1024, h, w)."""
    resnet, seen = model.features.resnet, {}
    seen["conv1_relu"] = F.relu(resnet.bn_conv1(resnet.conv1(images)))
    hooks = [resnet.res2a.register_forward_pre_hook(lambda _m, inputs: seen.update(pool1=inputs[0].clone()))]
    hooks += [
        getattr(resnet, name).register_forward_hook(lambda _m, _i, out, n=name: seen.update({f"{n}_relu": out.clone()}))
        for name in sum(resnet.stages, [])
    ]
    features = model.features(images)
    for hook in hooks:
        hook.remove()
    for match in recording.matching(r"stage_(.+)_channels"):
        if match[1] in seen:
            compare_listed(recording, f"stage_{match[1]}", seen[match[1]])
    return features


def _compare_dff(recording: Recording, network: GoldenNetwork, images: Tensor) -> None:
    model: DFF = network.tested(interval=len(images))
    step = int(recording["feat_step"][0])
    halves = model.flow_net.halve(images)  # (n, 3, H/2, W/2)
    frames = _frames(recording, images)
    key = KeyFrame(frames[0], 0, model.flow_net.other_part(halves[:1]), model.features(images[:1]))
    compare_every(recording, "key_conv_feat", key.features, step)
    flow, scale = _compare_flow_net(recording, model.flow_net, images[-1:], images[:1])
    recording.compare("cur_flow", flow, FEATURES)
    compare_every(recording, "cur_scale_map", scale, 16)
    _compare_grid(recording, flow)
    compare_every(recording, "cur_warped", flow_warp(key.features, flow), 8)
    current = model.propagate(frames[-1:], [[(key, 1.0)]])
    compare_every(recording, "cur_conv_feat", current, step)

    found = _detections(model, frames, batch_images=len(images))
    _compare_detector(recording, _Image(model.detector, key.features, "key_"), found[:1])
    _compare_detector(recording, _Image(model.detector, current, "cur_"), found[-1:])
    moved = model.propagate(frames[1:], [[(key, 1.0)]] * len(frames[1:]))
    together = torch.cat((key.features, moved))
    _compare_detector(recording, _Image(model.detector, together, "batch_"), found)


def _compare_flow_net(recording: Recording, net: FlowNetS, image: Tensor, other: Tensor) -> tuple[Tensor, Tensor]:
    """flownet_NAME for one pair; returns its flow and scale map."""
    seen: dict[str, Tensor] = {}
    hooks = [
        getattr(net, layer).register_forward_pre_hook(lambda _m, i, n=name: seen.update({n: i[0].clone()}))
        for name, layer in _LEAKY_INPUTS.items()
    ]
    hooks += [
        layer.register_forward_hook(lambda _m, _i, out, n=name: seen.update({n: out.clone()}))
        for name, layer in net.named_children()
        if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d | InferenceConv) and name not in seen
    ]
    flow, scale = net(image, other)
    for hook in hooks:
        hook.remove()
    seen["flow_conv1"] = net.first_layer(net.current_part(net.halve(image)), net.other_part(net.halve(other)))
    seen["resize_data"] = torch.cat((net.halve(image), net.halve(other)), dim=1)
    for match in recording.matching(r"flownet_(.+)_channels"):
        if match[1] in seen:
            compare_listed(recording, f"flownet_{match[1]}", seen[match[1]])
    return flow, scale


def _compare_grid(recording: Recording, flow: Tensor) -> None:
    """The recorded grid is in [-1, 1] from the first cell to the last; ours, in cells, is made into such a one."""
    height, width = flow.shape[2:]
    row, column = np.mgrid[:height, :width]
    x, y = flow[0].double().cpu().numpy()
    grid = np.stack(((column + x) / ((width - 1) / 2) - 1, (row + y) / ((height - 1) / 2) - 1))[None]
    recording.compare("cur_grid", grid, FEATURES)


def _compare_fgfa(recording: Recording, network: GoldenNetwork, images: Tensor) -> None:
    reach = int(recording.number("key_frame_interval"))
    if len(images) != 2 * reach + 1:
        recording.fail("key_frame_interval", f"{len(images)} frames are no window of 2 * {reach} + 1")
        return
    model: FGFA = network.tested(interval=reach)
    features, halves = model.features(images), model.flow_net.halve(images)
    maps = torch.cat((features, model.embed_net(features)), dim=1)  # (n, 3072, h, w)
    compare_every(recording, "conv_embed_frame0", maps[:1], 4)
    compare_every(recording, "conv_embed_all", maps, 48)

    current = model.flow_net.current_part(halves[reach : reach + 1])
    flow, _ = model.flow_net.between(current, model.flow_net.other_part(halves))
    recording.compare("flow", flow, FEATURES)
    warped = flow_warp(maps, flow)
    compare_every(recording, "warped", warped, 96)
    embeddings = warped[:, features.shape[1] :]
    similarities = cosine_similarity(embeddings, embeddings[reach])
    recording.compare("weights", aggregation_weights(similarities[None])[0], FEATURES)
    # The model wants the current frame first
    order = [reach, *(i for i in range(len(images)) if i != reach)]
    centre = maps[reach : reach + 1]
    aggregated, _ = model.average(centre, maps[order][None], flow[order][None], model.test_rule)
    step = int(recording["feat_step"][0])
    compare_every(recording, "aggregated_feat", aggregated, step)
    once, index = torch.zeros(1, len(images), device=maps.device), torch.tensor([order], device=maps.device)
    fused, _ = aggregate(maps, index, flow[order][None], once, features.shape[1])
    recording.compare_with("aggregated_feat", fused[:, ::step], recording["aggregated_feat"], FEATURES, "in one pass")

    found = _detections(model, _frames(recording, images), batch_images=len(images))[reach : reach + 1]
    _compare_detector(recording, _Image(model.detector, aggregated, ""), found)


@dataclass
class _Image:
    """A detector, the features (B, C, h, w) that it sees, and the prefix of what was recorded of it."""

    detector: Detector
    features: Tensor
    prefix: str

    @property
    def halves(self) -> tuple[Tensor, Tensor]:
        """The inputs of the RPN and of the head."""
        return self.features.chunk(2, dim=1)


def _compare_detector(recording: Recording, image: _Image, found: list[Detections]) -> None:
    """From features to detections; what the set lacks under this prefix is left out."""
    detector, prefix = image.detector, image.prefix
    rpn_features, head_features = image.halves
    scores, deltas = detector.rpn(rpn_features)
    rois, note = _compare_rois(recording, image, scores, deltas)
    class_scores, box_deltas = detector.head(head_features, rois)
    parts = {
        "rpn_cls_score": scores,
        "rpn_bbox_pred_raw": deltas,
        "rpn_cls_prob": anchor_probabilities(scores),
        "cls_score": class_scores,
        "cls_prob": class_scores.softmax(dim=1)[None],
    }
    for name, actual in parts.items():
        if f"{prefix}{name}" in recording:
            given = note if name in ("cls_score", "cls_prob") else ""
            recording.compare(f"{prefix}{name}", actual, FEATURES, given)
    if f"{prefix}bbox_pred" in recording:
        foreground = recording.input(f"{prefix}bbox_pred")[..., 4:]
        given = "; ".join(filter(None, (note, "the foreground's")))
        recording.compare_with(f"{prefix}bbox_pred", box_deltas[None], foreground, FEATURES, given)
    boxes = box_ops.decode(rois[:, 1:], box_deltas * detector.box_stds + detector.box_means)
    height, width = recording["frames"].shape[1:3]
    boxes = box_ops.clip(boxes, height, width) / recording.number("im_scale")
    for number, (own, detections) in enumerate(zip(boxes.chunk(len(image.features)), found, strict=True)):
        recording.compare(f"{prefix}pred_boxes_{number}", own, _BOXES, note)
        _compare_detections(recording, prefix, number, detections)


def _compare_rois(recording: Recording, image: _Image, scores: Tensor, deltas: Tensor) -> tuple[Tensor, str]:
    """The proposals; returns the RoIs for the head, and a note on them where they had to be the recorded ones.

    A rounding difference may flip a decision of the NMS, and every later row is then another one. In that case the
    proposals are computed again from the recorded RPN outputs, and the head gets the recorded RoIs.
    """
    array = f"{image.prefix}rois"
    recorded = torch.from_numpy(recording[array]).to(scores.device)
    height, width = recording["frames"].shape[1:3]
    info = torch.tensor([[height, width, recording.number("im_scale")]]).repeat(len(scores), 1)
    rois = image.detector.propose(scores, deltas, info, image.detector.test_proposals)
    if rois.shape != recorded.shape or (rois - recorded).abs().max() <= PIXELS:
        recording.compare(array, rois, _BOXES)
        return (rois if rois.shape == recorded.shape else recorded), ""
    if f"{image.prefix}rpn_bbox_pred_raw" in recording:
        probabilities, raw = (
            torch.from_numpy(recording[f"{image.prefix}{name}"]).to(scores.device)
            for name in ("rpn_cls_prob", "rpn_bbox_pred_raw")
        )
        again = propose_from(image.detector, probabilities, raw, info)
        recording.compare(array, again, _BOXES, "from the recorded RPN outputs, as the whole chain differs")
    else:
        _compare_with_candidates(recording, array, recorded, image.detector, deltas)
    return recorded, "with the recorded RoIs"


def propose_from(detector: Detector, probabilities: Tensor, raw: Tensor, info: Tensor) -> Tensor:
    """The detector's proposals from class probabilities and raw deltas."""
    rule = detector.test_proposals
    rois, _ = proposals(
        probabilities,
        unnormalise_deltas(raw, detector.anchor_means, detector.anchor_stds),
        info,
        detector.anchors,
        detector.stride,
        rule.pre_nms_top_n,
        rule.post_nms_top_n,
        rule.nms_threshold,
        rule.min_size,
    )
    return rois


def _compare_with_candidates(
    recording: Recording, array: str, recorded: Tensor, detector: Detector, deltas: Tensor
) -> None:
    """Where the recorded deltas are not at hand: every recorded RoI is one of the boxes to choose from."""
    height, width = recording["frames"].shape[1:3]
    anchors = all_anchors(detector.anchors, *deltas.shape[2:], detector.stride)
    plain = unnormalise_deltas(deltas, detector.anchor_means, detector.anchor_stds)
    error, boxes = 0.0, recorded.chunk(len(deltas))
    for number, own in enumerate(plain):
        candidates = box_ops.decode(anchors, own.permute(1, 2, 0).reshape(-1, 4))
        candidates = box_ops.clip(candidates, height, width)
        distance = (boxes[number][:, None, 1:] - candidates[None]).abs().amax(dim=2).amin(dim=1).max()
        error = max(error, distance.item(), float((boxes[number][:, 0] != number).any()))
    largest = recorded.abs().max().item()
    note = "the whole chain differs: each is one of the boxes to choose from; the choice was not compared"
    recording.judge(array, error, error / largest, PIXELS, "abs", note)


def _compare_detections(recording: Recording, prefix: str, number: int, found: Detections) -> None:
    """Detections of `model.detect`; if rounding changed a choice, those from the recorded boxes and probabilities."""
    array = f"{prefix}detections_{number}"
    before = len(recording.rows)
    if compare_rows(recording, array, as_rows(found.labels, found.boxes, found.scores)):
        return
    boxes = torch.from_numpy(recording[f"{prefix}pred_boxes_{number}"])
    images = recording[f"{prefix}rois"].shape[0] // len(boxes)
    probabilities = torch.from_numpy(recording[f"{prefix}cls_prob"][0]).chunk(images)[number]
    again = detections_of(boxes, probabilities)
    del recording.rows[before:]
    rows = as_rows(again.labels, again.boxes, again.scores)
    compare_rows(recording, array, rows, "from the recorded boxes and probabilities, as the whole chain differs")
