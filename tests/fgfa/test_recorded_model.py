"""FGFA against the originals' recordings, with the synthetic weights; `tools.parity` compares."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from lib.models import detector as detector_module
from tests.recordings import assert_all_pass, assert_losses_from_a_batch, noticed
from tools.parity.golden_weights import golden_network
from tools.parity.networks import compare_network
from tools.parity.training import compare_training


@pytest.fixture(scope="module")
def network(recording):
    return golden_network("fgfa", int(recording("net_fgfa_public").number("seed")))


def test_every_recorded_array_of_testing(recording, network):
    recorded = recording("net_fgfa_public")
    compare_network(recorded, network)
    assert_all_pass(recorded, 16)


def test_every_recorded_array_of_testing_in_the_optimised_form(recording, network):
    recorded = recording("net_fgfa_public")
    compare_network(recorded, replace(network, optimised=True))
    assert_all_pass(recorded, 16)


def test_a_window_of_another_length_is_noticed(recording, network):
    recorded = recording("net_fgfa_public")
    assert noticed(recorded, "key_frame_interval", lambda changed: compare_network(changed, network))


def test_every_recorded_array_of_training(recording, network):
    recorded = recording("train_fgfa_public")
    compare_training(recorded, network)
    assert_all_pass(recorded, 36)


def test_losses_from_a_batch_are_the_recorded_ones(recording, network, monkeypatch):
    """The same through the front door, with the recorded choice of anchors."""
    with torch.no_grad():
        assert_losses_from_a_batch(network.model, recording("train_fgfa_public"), detector_module, monkeypatch)
