"""RoIs drawn with BATCH_ROIS above 0: the originals' draws, thresholds and filling up."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from lib.models.targets import RoIRule, assign_proposals
from tests.models.small import random_batch, small_rfcn

RULE = RoIRule(
    rois_per_image=-1,
    foreground_fraction=0.25,
    foreground_overlap=0.5,
    background_below=0.5,
    background_from=0.0,
    weights=(1.0,) * 4,
    means=(0.0,) * 4,
    stds=(0.1, 0.1, 0.2, 0.2),
)


def drawn_rois(proposals, boxes, labels, rule, rng):
    """Rows and labels that the originals draw, in NumPy alone: docs/rules.md, section 3, step by step."""
    rois = np.vstack((proposals, boxes)).astype(np.float64)
    corner = np.maximum(rois[:, None, :2], boxes[None, :, :2])
    far = np.minimum(rois[:, None, 2:], boxes[None, :, 2:])
    shared = np.clip(far - corner + 1, 0, None).prod(axis=2)
    area = [(b[:, 2:] - b[:, :2] + 1).prod(axis=1) for b in (rois, boxes.astype(np.float64))]
    iou = shared / (area[0][:, None] + area[1][None] - shared)
    total = rule.rois_per_image
    kinds = [iou.max(axis=1) >= rule.foreground_overlap]
    kinds.append((iou.max(axis=1) >= rule.background_from) & (iou.max(axis=1) < rule.background_below))
    rows = []
    for kind, most in zip(kinds, (int(np.round(rule.foreground_fraction * total)), None), strict=True):
        (candidates,) = kind.nonzero()
        most = total - len(rows) if most is None else most
        if len(candidates) > most:
            candidates = rng.permutation(candidates)[:most]  # what choice without replacement does
        rows.extend(candidates)
        if kind is kinds[0]:
            n_foreground = len(rows)
    while len(rows) < total:
        rows.extend(rng.permutation(len(rois))[: total - len(rows)])
    best = iou.argmax(axis=1)
    drawn = [labels[best[row]] if place < n_foreground else 0 for place, row in enumerate(rows)]
    return rois[rows], np.array(drawn), n_foreground


@pytest.mark.parametrize("count", [1, 7, 16, 40, 64, 150, 500])
@pytest.mark.parametrize("background_from", [0.0, 0.1, 0.45])
@pytest.mark.parametrize("near", [False, True], ids=["spread", "near"])
def test_sampled_rois_are_those_that_the_rule_draws(count, background_from, near):
    """40 proposals and 3 objects: from far more than are asked for down to ten times too few, each of both kinds."""
    rng = np.random.RandomState(count)
    corner = np.round(rng.uniform(0, 15 if near else 90, (40, 2)))
    proposals = np.hstack((corner, corner + 30)).astype(np.float32)
    boxes = np.array([[5, 5, 35, 35], [60, 60, 95, 90], [8, 4, 40, 36]], np.float32)
    labels = np.array([3, 1, 2])
    rule = replace(RULE, rois_per_image=count, background_from=background_from)
    rois, drawn, n_foreground = drawn_rois(proposals, boxes, labels, rule, np.random.RandomState(5))
    targets = assign_proposals(
        *map(torch.from_numpy, (proposals, boxes, labels)), rule=rule, rng=np.random.RandomState(5)
    )
    np.testing.assert_array_equal(targets.rois, rois)
    np.testing.assert_array_equal(targets.labels, drawn)
    assert len(targets.rois) == count
    assert (targets.weights.numpy() == (np.arange(count) < n_foreground)[:, None]).all()
    assert not targets.deltas[n_foreground:].any()


def test_nothing_to_draw_from_gives_no_roi():
    none = torch.zeros(0, dtype=torch.int64)
    targets = assign_proposals(
        torch.zeros(0, 4), torch.zeros(0, 4), none, replace(RULE, rois_per_image=8), np.random.RandomState(0)
    )
    assert targets.rois.shape == (0, 4)


@pytest.mark.parametrize("count", [24, 400], ids=["fewer", "more"])
def test_without_ohem_the_box_loss_is_over_batch_rois(count):
    """Of 60 proposals and 3 objects, more RoIs than there are take repeats, and the divisor stays BATCH_ROIS."""
    model, batch = small_rfcn("TRAIN.ENABLE_OHEM=false", f"TRAIN.BATCH_ROIS={count}"), random_batch([3])
    drawn = {}
    part = model.detector.head.register_forward_pre_hook(lambda _, inputs: drawn.update(rois=inputs[1]))
    terms = model.losses(batch, np.random.RandomState(0))
    part.remove()
    assert len(drawn["rois"]) == count
    torch.testing.assert_close(terms["rcnn_bbox_loss"], terms["RCNNL1Loss"])  # the sum over the number of labels
    assert terms["rcnn_bbox_loss"] > 0
