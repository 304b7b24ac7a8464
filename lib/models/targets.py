"""Assign training targets to anchors and RoIs, by the rules of docs/rules.md, section 3.

Everything here is for ONE image and runs on the CPU in float64, as the originals' NumPy does, so that an overlap
exactly at a threshold falls on the same side. Boxes: `(x1, y1, x2, y2)`, network-input pixels.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from lib import boxes as box_ops
from lib.models.losses import smooth_l1

Four = tuple[float, float, float, float]


@dataclass(frozen=True)
class AnchorRule:
    """How anchors are labelled. The names in brackets are the configuration's keys."""

    batch_size: int  # labelled anchors per image (TRAIN.RPN_BATCH_SIZE)
    foreground_fraction: float  # largest share of foreground among them (RPN_FG_FRACTION)
    positive_overlap: float  # foreground from this IoU on (RPN_POSITIVE_OVERLAP)
    negative_overlap: float  # background below this IoU (RPN_NEGATIVE_OVERLAP)
    clobber_positives: bool  # background takes precedence over "best for an object" (RPN_CLOBBER_POSITIVES)
    weights: Four  # of the four deltas in the loss (RPN_BBOX_WEIGHTS)
    means: Four  # of the deltas (network.ANCHOR_MEANS)
    stds: Four  # of the deltas (network.ANCHOR_STDS)


@dataclass(frozen=True)
class RoIRule:
    """How RoIs are chosen and labelled."""

    rois_per_image: int  # 0 or less: all proposals and all objects (TRAIN.BATCH_ROIS)
    foreground_fraction: float  # used when RoIs are sampled (FG_FRACTION)
    foreground_overlap: float  # (FG_THRESH)
    background_below: float  # (BG_THRESH_HI)
    background_from: float  # (BG_THRESH_LO)
    weights: Four  # (BBOX_WEIGHTS)
    means: Four  # (BBOX_MEANS)
    stds: Four  # (BBOX_STDS)


@dataclass
class AnchorTargets:
    """labels (N,) int64: 1 foreground, 0 background, -1 ignored; deltas, weights (N, 4) float32, deltas normalised."""

    labels: Tensor
    deltas: Tensor
    weights: Tensor


@dataclass
class RoITargets:
    """rois (R, 4), labels (R,) int64 (0: background), normalised deltas and weights (R, 4) float32.

    Deltas and weights are those of the foreground box (columns 4..7 of the originals) and 0 for background RoIs.
    """

    rois: Tensor
    labels: Tensor
    deltas: Tensor
    weights: Tensor


def assign_anchors(
    boxes: Tensor, anchors: Tensor, height: float, width: float, rule: AnchorRule, rng: np.random.RandomState
) -> AnchorTargets:
    """Targets of `anchors` (N, 4) in an image of `height` x `width` pixels with objects `boxes` (n, 4); n may be 0.

    Anchors that are not wholly inside the image are ignored. Foreground: overlap >= positive_overlap, or (tied for) the
    largest overlap of an object, even if that is 0. At most batch_size anchors keep their label; `rng` draws which.
    """
    anchors, boxes = anchors.double().cpu(), boxes.double().cpu()
    x1, y1, x2, y2 = anchors.unbind(1)
    inside = torch.nonzero((x1 >= 0) & (y1 >= 0) & (x2 < width) & (y2 < height)).flatten()  # (I,)
    inner = anchors[inside]
    deltas = torch.zeros(len(inside), 4, dtype=torch.float64)
    if len(boxes) and len(inside):
        overlaps = box_ops.overlaps(inner, boxes)  # (I, n)
        best, best_box = _row_best(overlaps)
        labels = _label_anchors(overlaps, best, rule)
        deltas = _normalised(box_ops.encode(inner, boxes[best_box]), rule.means, rule.stds)
    else:
        labels = np.zeros(len(inside), np.int64)
    _subsample(labels, rule, rng)

    targets = AnchorTargets(torch.full((len(anchors),), -1), torch.zeros(len(anchors), 4), torch.zeros(len(anchors), 4))
    targets.labels[inside] = torch.from_numpy(labels)
    targets.deltas[inside] = deltas.float()
    targets.weights[targets.labels == 1] = torch.tensor(rule.weights)
    return targets


def _label_anchors(overlaps: Tensor, best: Tensor, rule: AnchorRule) -> np.ndarray:
    """Overlaps (I, n) and their row maxima (I,) -> labels (I,): 1, 0 or -1."""
    labels = torch.full((len(best),), -1)
    background = best < rule.negative_overlap
    labels[background] = 0
    labels[(overlaps == overlaps.amax(dim=0)).any(dim=1)] = 1
    labels[best >= rule.positive_overlap] = 1
    if rule.clobber_positives:
        labels[background] = 0
    return labels.numpy()


def _subsample(labels: np.ndarray, rule: AnchorRule, rng: np.random.RandomState) -> None:
    """Set surplus labels to -1 in place. The random calls are those of the originals, in their order."""
    foreground = np.flatnonzero(labels == 1)
    surplus = len(foreground) - int(rule.foreground_fraction * rule.batch_size)
    if surplus > 0:
        labels[rng.choice(foreground, size=surplus, replace=False)] = -1
    background = np.flatnonzero(labels == 0)
    surplus = len(background) - (rule.batch_size - int((labels == 1).sum()))
    if surplus > 0:
        labels[rng.choice(background, size=surplus, replace=False)] = -1


def assign_proposals(
    proposals: Tensor, boxes: Tensor, labels: Tensor, rule: RoIRule, rng: np.random.RandomState
) -> RoITargets:
    """RoIs to train on: `proposals` (P, 4) with the objects `boxes` (n, 4), `labels` (n,) appended; n may be 0.

    Foreground RoIs come first. With rois_per_image 0 or less all are kept, in order of their index, without random
    draws; otherwise exactly that many are drawn by `rng` as in Fast R-CNN, of which at most foreground_fraction are
    foreground. If there are too few, any RoIs are added as background, as in the originals.
    """
    boxes = boxes.float().cpu()
    rois = torch.cat((proposals.detach().float().cpu(), boxes))  # (P + n, 4)
    best, best_box = torch.zeros(len(rois), dtype=torch.float64), torch.zeros(len(rois), dtype=torch.int64)
    if len(boxes):
        best, best_box = _row_best(box_ops.overlaps(rois.double(), boxes.double()))
    foreground = np.flatnonzero(best.numpy() >= rule.foreground_overlap)
    below, start = rule.background_below, rule.background_from
    background = np.flatnonzero((best.numpy() < below) & (best.numpy() >= start))
    if rule.rois_per_image > 0:
        most = int(np.round(rule.foreground_fraction * rule.rois_per_image))
        foreground = _draw(foreground, most, rng)
        background = _draw(background, rule.rois_per_image - len(foreground), rng)
        background = _filled_up(background, len(rois), rule.rois_per_image - len(foreground), rng)

    keep = torch.from_numpy(np.concatenate((foreground, background)))
    rois, n_foreground = rois[keep], len(foreground)
    targets = RoITargets(
        rois, torch.zeros(len(rois), dtype=torch.int64), torch.zeros(len(rois), 4), torch.zeros(len(rois), 4)
    )
    if n_foreground:
        matched = best_box[keep[:n_foreground]]
        targets.labels[:n_foreground] = labels.cpu()[matched]
        deltas = box_ops.encode(rois[:n_foreground].double(), boxes[matched].double())
        targets.deltas[:n_foreground] = _normalised(deltas, rule.means, rule.stds).float()
        targets.weights[:n_foreground] = torch.tensor(rule.weights)
    return targets


def ohem(
    scores: Tensor, labels: Tensor, deltas: Tensor, target_deltas: Tensor, weights: Tensor, rois_kept: int
) -> tuple[Tensor, Tensor]:
    """Online hard example mining: keep the `rois_kept` RoIs with the largest loss.

    scores (R, K) before softmax, labels (R,), deltas, target_deltas, weights (R, D), on any device -> new labels and
    weights, with -1 and 0 for the RoIs not kept. Of equal losses the lower index is kept. No gradient.
    """
    with torch.no_grad():
        probability = scores.softmax(dim=1).gather(1, labels[:, None])[:, 0]
        loss = -torch.log(probability + 1e-14)
        loss = loss + (weights * smooth_l1(deltas - target_deltas)).sum(dim=1)
        dropped = loss.argsort(descending=True, stable=True)[rois_kept:]
        return labels.index_fill(0, dropped, -1), weights.index_fill(0, dropped, 0.0)


def _row_best(overlaps: Tensor) -> tuple[Tensor, Tensor]:
    """Largest overlap of each row and its column, the lowest of equal ones: (n, m) -> (n,), (n,)."""
    column = torch.from_numpy(overlaps.numpy().argmax(axis=1))  # torch does not define which of equal maxima it takes
    return overlaps.gather(1, column[:, None])[:, 0], column


def _normalised(deltas: Tensor, means: Four, stds: Four) -> Tensor:
    return (deltas - deltas.new_tensor(means)) / deltas.new_tensor(stds)


def _draw(candidates: np.ndarray, most: int, rng: np.random.RandomState) -> np.ndarray:
    """At most `most` of `candidates`."""
    return candidates if len(candidates) <= most else rng.choice(candidates, size=most, replace=False)


def _filled_up(chosen: np.ndarray, available: int, count: int, rng: np.random.RandomState) -> np.ndarray:
    """`chosen` followed by random numbers below `available` until there are `count`, with as few repeats as possible.

    The random calls are those of the originals, which ignore what is chosen already and its overlap.
    """
    while available and len(chosen) < count:
        chosen = np.append(chosen, rng.choice(available, size=min(available, count - len(chosen)), replace=False))
    return chosen
