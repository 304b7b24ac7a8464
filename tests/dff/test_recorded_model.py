"""Deep Feature Flow against the originals' recordings, with the synthetic weights; `tools.parity` compares."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from lib.models import detector as detector_module
from tests.recordings import assert_all_pass, assert_losses_from_a_batch, noticed
from tools.parity.golden_weights import golden_network
from tools.parity.networks import compare_network
from tools.parity.training import compare_training, recorded_batch


@pytest.fixture(scope="module")
def network(recording):
    return golden_network("dff", int(recording("net_dff_public").number("seed")))


def test_every_recorded_array_of_testing(recording, network):
    recorded = recording("net_dff_public")
    compare_network(recorded, network)
    assert_all_pass(recorded, 40)


def test_every_recorded_array_of_testing_in_the_optimised_form(recording, network):
    recorded = recording("net_dff_public")
    compare_network(recorded, replace(network, optimised=True))
    assert_all_pass(recorded, 40)


@pytest.mark.parametrize("array", ["cur_scale_map", "flownet_ReLU6", "batch_detections_1"])
def test_one_changed_number_of_testing_is_noticed(recording, network, array):
    assert noticed(recording("net_dff_public"), array, lambda recorded: compare_network(recorded, network))


@pytest.mark.parametrize("name", ["train_dff_public", "train_dff_public_eq1"])
def test_every_recorded_array_of_training(recording, network, name):
    recorded = recording(name)
    compare_training(recorded, network)
    assert_all_pass(recorded, 38)


def test_a_frame_that_is_its_own_reference_leaves_the_flow_network_alone(recording, network):
    """The gradients of the flow network are recorded as exactly 0: here it has none at all."""
    batch = recorded_batch(recording("train_dff_public_eq1"))
    with network.trained() as model:
        model.training_features(batch).sum().backward()
        assert all(parameter.grad is None for parameter in model.flow_net.parameters())
        assert model.features.resnet.conv1.weight.grad.any()


def test_losses_from_a_batch_are_the_recorded_ones(recording, network, monkeypatch):
    """The same through the front door, with the recorded choice of anchors."""
    with torch.no_grad():
        assert_losses_from_a_batch(network.model, recording("train_dff_public"), detector_module, monkeypatch)
