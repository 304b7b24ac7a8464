"""R-FCN against the originals' recordings, with the synthetic weights; `tools.parity` compares."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from lib.models import detector as detector_module
from lib.models.inference_form import prepare_for_inference
from tests.recordings import assert_all_pass, assert_losses_from_a_batch, changed, noticed
from tools.parity import golden_weights
from tools.parity import networks as networks_module
from tools.parity.golden_weights import golden_network
from tools.parity.networks import compare_network
from tools.parity.rows import Recording
from tools.parity.training import compare_training

NET_ARRAYS = (
    *("stage_conv1_relu", "stage_pool1", "stage_res3b3_relu_channels", "conv_feat", "rpn_cls_score", "rpn_cls_prob"),
    *("rpn_bbox_pred_raw", "rois", "cls_score", "cls_prob", "bbox_pred", "pred_boxes_0", "detections_0"),
    *("feat_step", "im_scale"),
)


@pytest.fixture(scope="module")
def network(recording):
    return golden_network("rfcn", int(recording("net_rfcn_public").number("seed")))


def test_every_recorded_array_of_testing(recording, network):
    recorded = recording("net_rfcn_public")
    compare_network(recorded, network)
    assert_all_pass(recorded, 17)


def test_every_recorded_array_of_testing_in_the_optimised_form(recording, network):
    recorded = recording("net_rfcn_public")
    compare_network(recorded, replace(network, optimised=True))
    assert_all_pass(recorded, 17)


def test_an_error_of_the_optimised_form_alone_is_noticed(recording, network, monkeypatch):
    def wrongly(model):
        prepare_for_inference(model)
        model.features.feat_conv_3x3.conv.bias += 1e-3
        return model

    monkeypatch.setattr(golden_weights, "prepare_for_inference", wrongly)
    results = {}
    for optimised in (False, True):
        recorded = recording("net_rfcn_public")
        compare_network(recorded, replace(network, optimised=optimised))
        results[optimised] = {row.array for row in recorded.finish() if not row.passed}
    assert results[False] == set()
    assert "conv_feat" in results[True]


@pytest.mark.gpu
@pytest.mark.parametrize("optimised", [False, True])
def test_every_recorded_array_of_testing_on_a_gpu(cuda, recording, network, optimised):
    recorded = recording("net_rfcn_public")
    compare_network(recorded, replace(network, device=cuda, optimised=optimised))
    assert_all_pass(recorded, 17)


@pytest.mark.parametrize("array", NET_ARRAYS)
def test_one_changed_number_of_testing_is_noticed(recording, network, array):
    foreground = 4 if array == "bbox_pred" else 0  # its first four columns are the background's, which nothing uses
    assert noticed(recording("net_rfcn_public"), array, lambda other: compare_network(other, network), foreground)


def test_an_array_that_nobody_knows_is_noticed(recording, network):
    arrays = recording("net_rfcn_public").arrays() | {"stage_res9z_relu": np.zeros((8, 10, 14))}
    recorded = Recording("more", arrays)
    compare_network(recorded, network)
    assert [row.array for row in recorded.finish() if not row.passed] == ["stage_res9z_relu"]


def test_the_head_is_compared_on_recorded_rois_where_the_proposals_differ(recording, network, monkeypatch):
    """As if rounding had flipped a choice: no chain is ever close enough, and every row has to pass in two parts."""
    monkeypatch.setattr(networks_module, "PIXELS", -1.0)
    recorded = recording("net_rfcn_public")
    compare_network(recorded, network)
    assert_all_pass(recorded, 17)
    notes = {row.array: row.note for row in recorded.finish()}
    assert "from the recorded RPN outputs" in notes["rois"]
    assert notes["cls_score"] == "with the recorded RoIs"
    assert noticed(recording("net_rfcn_public"), "rois", lambda other: compare_network(other, network))


def test_every_recorded_array_of_training(recording, network):
    recorded = recording("train_rfcn_public")
    compare_training(recorded, network)
    assert_all_pass(recorded, 35)


@pytest.mark.parametrize(
    "arrays",
    [
        ("rpn_label", "out_rpn_cls_prob", "out_rpn_bbox_loss", "out_cls_prob", "out_bbox_loss", "out_rcnn_label"),
        ("int_proposals", "int_rois", "int_label", "int_bbox_target", "int_bbox_weight", "int_labels_ohem"),
        ("metric_values", "grad_l2", "grad_sum", "grad_value", "grad_index", "gradfull_rfcn_cls_bias"),
        ("rpn_bbox_target", "rpn_bbox_weight", "select_conv_feat", "int_cls_score_reshape", "im_info", "gt_boxes"),
        ("fixed_params", "lr_mult", "grad_names"),
    ],
    ids=lambda arrays: arrays[0],
)
def test_every_changed_number_of_training_is_noticed(recording, network, arrays):
    """Several at once, as a step takes seconds: each has its own failing row."""
    recorded = recording("train_rfcn_public")
    content = recorded.arrays() | {array: changed(recorded[array]) for array in arrays}
    recorded = Recording("changed", content)
    compare_training(recorded, network)
    failed = {row.array for row in recorded.finish() if not row.passed}
    # Inputs and what rows are picked by show in what was computed from them
    seen_in = {"gt_boxes": "int_rois", "grad_index": "grad_value"}
    assert {seen_in.get(array, array) for array in arrays} <= failed


def test_losses_from_a_batch_are_the_recorded_ones(recording, network, monkeypatch):
    """The same through the front door, with the recorded choice of anchors."""
    with torch.no_grad():
        assert_losses_from_a_batch(network.model, recording("train_rfcn_public"), detector_module, monkeypatch)
