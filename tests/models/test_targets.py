from dataclasses import replace

import numpy as np
import pytest
import torch

from lib import boxes as box_ops
from lib.models.anchors import all_anchors, make_anchors
from lib.models.targets import assign_anchors, assign_proposals, ohem
from tools.parity.original_rules import ANCHOR_RULE, ROI_RULE

EVERYTHING = replace(ANCHOR_RULE, batch_size=10**6)
NO_BOXES = torch.zeros(0, 4)


@pytest.fixture
def layers(golden):
    return golden("layers_public")


@pytest.fixture
def anchors():
    return make_anchors(16, [0.5, 1, 2], [8, 16, 32])


def _as_recorded(targets, height, width):
    """Our (row, column, anchor) order -> the originals' label (1, A*h*w) and (1, 4A, h, w) arrays."""
    labels = targets.labels.numpy().reshape(height, width, -1).transpose(2, 0, 1).reshape(1, -1)
    deltas, weights = (
        value.numpy().reshape(1, height, width, -1).transpose(0, 3, 1, 2) for value in (targets.deltas, targets.weights)
    )
    return labels, deltas, weights


@pytest.mark.parametrize(("case", "batch_size"), [("all", 10**6), ("256", 256)])
def test_anchor_targets_match_the_recording(layers, anchors, case, batch_size):
    height, width = layers["assign_feat_hw"].tolist()
    image_height, image_width, _ = layers["assign_im_info"][0].tolist()
    boxes = torch.from_numpy(layers["assign_gt"][:, :4])
    grid = all_anchors(anchors, height, width, 16)
    rule, rng = replace(ANCHOR_RULE, batch_size=batch_size), np.random.RandomState(7)
    labels, deltas, weights = _as_recorded(
        assign_anchors(boxes, grid, image_height, image_width, rule, rng), height, width
    )
    np.testing.assert_array_equal(labels, layers[f"assign_{case}_label"])
    np.testing.assert_array_equal(weights, layers[f"assign_{case}_bbox_weight"])
    np.testing.assert_allclose(deltas, layers[f"assign_{case}_bbox_target"], atol=1e-5)


def test_anchors_without_objects_are_background_as_recorded(layers, anchors):
    height, width = layers["assign_feat_hw"].tolist()
    image_height, image_width, _ = layers["assign_im_info"][0].tolist()
    grid = all_anchors(anchors, height, width, 16)
    rng = np.random.RandomState(7)
    recorded = layers["assign_nogt_label"]
    targets = assign_anchors(NO_BOXES, grid, image_height, image_width, ANCHOR_RULE, rng)
    labels, deltas, weights = _as_recorded(targets, height, width)
    assert not (labels == 1).any()
    assert (labels == 0).sum() == min(256, (recorded == 0).sum())
    assert not deltas.any()
    assert not weights.any()


def test_best_anchor_of_an_object_is_foreground_even_at_overlap_zero():
    grid = torch.tensor([[0.0, 0, 9, 9], [20, 20, 29, 29], [95, 95, 104, 104]])
    far = torch.tensor([[60.0, 60, 70, 70]])
    targets = assign_anchors(far, grid, 100, 100, EVERYTHING, np.random.RandomState(0))
    assert targets.labels.tolist() == [1, 1, -1]  # all inside ones tie at 0; the last is not inside


def test_anchors_end_before_the_border():
    """Original rule: x2 < width. A last corner between width - 1 and width is still inside, one at width is not."""
    grid = torch.tensor([[0.0, 0, 99.5, 99.5], [0, 0, 100, 50], [0, 0, 50, 100], [-0.5, 0, 50, 50], [0, -0.5, 50, 50]])
    targets = assign_anchors(NO_BOXES, grid, 100, 100, EVERYTHING, np.random.RandomState(0))
    assert targets.labels.tolist() == [0, -1, -1, -1, -1]


def test_clobbering_lets_background_win():
    grid, far = torch.tensor([[0.0, 0, 9, 9]]), torch.tensor([[60.0, 60, 70, 70]])
    rule = replace(ANCHOR_RULE, clobber_positives=True)
    assert assign_anchors(far, grid, 100, 100, rule, np.random.RandomState(0)).labels.tolist() == [0]


def test_no_anchor_inside_the_image(anchors):
    targets = assign_anchors(torch.tensor([[1.0, 1, 5, 5]]), anchors, 8, 8, ANCHOR_RULE, np.random.RandomState(0))
    assert targets.labels.tolist() == [-1] * 9


def test_foreground_is_at_most_its_share():
    rng = np.random.RandomState(0)
    corner = torch.from_numpy(rng.uniform(0, 5, (300, 2))).float()
    grid = torch.cat((corner, corner + 50), dim=1)
    rule = replace(ANCHOR_RULE, batch_size=64)
    targets = assign_anchors(torch.tensor([[2.0, 2, 52, 52]]), grid, 100, 100, rule, rng)
    assert (targets.labels == 1).sum() == 32
    assert torch.equal(targets.weights.amax(dim=1), (targets.labels == 1).float())


def test_proposal_targets_match_the_recording(layers):
    gt = torch.from_numpy(layers["ptarget_gt"])
    targets = assign_proposals(
        torch.from_numpy(layers["ptarget_rois"][:, 1:]),
        gt[:, :4],
        gt[:, 4].long(),
        ROI_RULE,
        np.random.RandomState(0),
    )
    np.testing.assert_array_equal(targets.rois, layers["ptarget_out_rois"][:, 1:])
    np.testing.assert_array_equal(targets.labels, layers["ptarget_out_label"])
    np.testing.assert_allclose(targets.deltas, layers["ptarget_out_bbox_target"][:, 4:], atol=1e-5)
    np.testing.assert_array_equal(targets.weights, layers["ptarget_out_bbox_weight"][:, 4:])
    assert not layers["ptarget_out_bbox_target"][:, :4].any()  # nothing is lost by keeping the last four columns


def test_proposals_without_objects_are_background():
    rois = torch.tensor([[0.0, 0, 9, 9], [5, 5, 20, 20]])
    targets = assign_proposals(rois, NO_BOXES, torch.zeros(0, dtype=torch.int64), ROI_RULE, np.random.RandomState(0))
    assert torch.equal(targets.rois, rois)
    assert targets.labels.tolist() == [0, 0]
    assert not targets.weights.any()


def test_sampled_rois_keep_to_their_numbers_and_thresholds():
    rng = np.random.RandomState(3)
    corner = torch.from_numpy(rng.uniform(0, 60, (400, 2))).float()
    rois = torch.cat((corner, corner + 30), dim=1)
    box = torch.tensor([[20.0, 20, 50, 50]])
    rule = replace(ROI_RULE, rois_per_image=64, background_from=0.1)
    targets = assign_proposals(rois, box, torch.tensor([5]), rule, rng)
    overlaps = box_ops.overlaps(targets.rois, box)[:, 0]
    foreground = targets.labels == 5
    assert len(targets.rois) == 64
    assert foreground.sum() == 16
    assert (overlaps[foreground] >= 0.5).all()
    assert ((overlaps[~foreground] < 0.5) & (overlaps[~foreground] >= 0.1)).all()
    decoded = box_ops.decode(targets.rois[foreground], targets.deltas[foreground] * torch.tensor(rule.stds))
    torch.testing.assert_close(decoded, box.expand(16, 4), atol=1e-3, rtol=0)


def test_ohem_matches_the_recording(layers):
    names = ("cls_score", "labels", "bbox_pred", "bbox_targets", "bbox_weights")
    scores, labels, deltas, targets, weights = (torch.from_numpy(layers[f"ohem_{name}"]) for name in names)
    kept = int(layers["ohem_roi_per_img"][0])
    out_labels, out_weights = ohem(scores, labels.long(), deltas, targets, weights, kept)
    np.testing.assert_array_equal(out_labels, layers["ohem_out_labels"])
    np.testing.assert_array_equal(out_weights, layers["ohem_out_weights"])


def test_ohem_keeps_the_first_of_equals_and_all_of_few():
    scores, labels = torch.zeros(6, 3), torch.tensor([0, 1, 2, 0, 1, 2])
    zeros, ones = torch.zeros(6, 4), torch.ones(6, 4)
    out_labels, out_weights = ohem(scores, labels, zeros, zeros, ones, 4)
    assert out_labels.tolist() == [0, 1, 2, 0, -1, -1]
    assert out_weights[:, 0].tolist() == [1, 1, 1, 1, 0, 0]
    assert torch.equal(ohem(scores, labels, zeros, zeros, ones, 10)[0], labels)
