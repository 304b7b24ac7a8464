"""FGFA against the originals' recordings, with the synthetic weights."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

import fgfa.model as fgfa_module
from fgfa.model import FGFA, build_fgfa
from lib.models import detector as detector_module
from lib.models.build import build_postprocess
from lib.models.mxnet_names import mxnet_names
from lib.ops import flow_warp
from lib.structures import Frame
from tests.golden_weights import load_golden_weights, network_input
from tests.models.small import (
    with_video_keys,
)
from tests.recordings import (
    FOLDED_STDS,
    assert_close,
    assert_detections,
    assert_fixed_parameters,
    assert_metrics,
    check_detector,
    check_training_step,
    everything_trained,
    original_config,
    recorded_anchor_targets,
    recorded_batch,
    training_detector,
)

ORIGINAL = ("network.FIXED_PARAMS=[conv1, res2, bn]", "network.BN_EPS=2e-5")


@pytest.fixture(scope="module")
def tested(golden):
    """The recording of a window of five frames, the network with its weights, and its configuration."""
    recording = golden("net_fgfa_public")
    cfg = with_video_keys(original_config(*ORIGINAL, FOLDED_STDS), int(recording["key_frame_interval"][0]), 1.0, 3072)
    return recording, load_golden_weights(build_fgfa(cfg, 31), int(recording["seed"][0])), cfg


def test_every_parameter_of_the_original_and_no_other(tested, golden_dir):
    _, model, _ = tested
    recorded = json.loads((golden_dir / "param_shapes_fgfa.json").read_text())
    expected = {name: tuple(shape) for kind in ("arg", "aux") for name, shape in recorded[kind]}
    state = model.state_dict()
    assert {name: tuple(state[torch_name].shape) for name, torch_name in mxnet_names(model).items()} == expected


def test_window_matches_the_recording(tested, monkeypatch):
    """Every recorded array of the centre frame's answer, from the cached maps to the detections."""
    recording, model, cfg = tested
    seen = {}

    def warp(maps, flow):
        seen.update(maps=maps, flow=flow, warped=flow_warp(maps, flow))
        return seen["warped"]

    def weights_of(*arguments):
        seen["weights"] = aggregation_weights(*arguments)
        return seen["weights"]

    def predict(features, im_info):
        seen["features"] = features
        return detector_predict(features, im_info)

    aggregation_weights, detector_predict = fgfa_module.aggregation_weights, model.detector.predict
    monkeypatch.setattr(fgfa_module, "flow_warp", warp)
    monkeypatch.setattr(fgfa_module, "aggregation_weights", weights_of)
    monkeypatch.setattr(model.detector, "predict", predict)
    frames = [Frame(image, float(recording["im_scale"][0])) for image in network_input(recording["frames"])]
    answers = model.detect(frames, build_postprocess(cfg, 1e-3), batch_images=5)
    for _ in range(3):
        found = next(answers)
    in_time_order = torch.tensor([1, 2, 0, 3, 4])  # the centre frame was the first
    maps, flow, warped = (seen[name][in_time_order] for name in ("maps", "flow", "warped"))
    assert_close(maps[:1, ::4], recording["conv_embed_frame0"])
    assert_close(maps[:, ::48], recording["conv_embed_all"])
    assert_close(flow, recording["flow"])
    assert_close(warped[:, ::96], recording["warped"])
    assert_close(seen["weights"][0, in_time_order], recording["weights"])
    assert_close(seen["features"], recording["aggregated_feat"])
    check_detector(model.detector, seen["features"], recording)
    assert_detections(found, recording["detections_0"])


@pytest.fixture(scope="module")
def trained(tested, golden):
    """The recording of a training step, the same network as it trains, and the batch."""
    recording, (_, model, _) = golden("train_fgfa_public"), tested
    detector = training_detector(model.detector, original_config(*ORIGINAL))
    return (
        recording,
        FGFA(model.features, model.flow_net, model.embed_net, detector),
        recorded_batch(recording, [0, 1, 2]),
    )


def test_fixed_parameters_are_the_recorded_ones(trained):
    recording, model, _ = trained
    assert_fixed_parameters(model, recording)


def test_training_step_matches_the_recording(trained):
    recording, model, batch = trained
    with everything_trained(model):
        check_training_step(model, model.detector, model.training_features(batch), batch, recording)


def test_losses_from_a_batch_are_the_recorded_ones(trained, monkeypatch):
    recording, model, batch = trained
    monkeypatch.setattr(detector_module, "assign_anchors", lambda *_: recorded_anchor_targets(recording))
    with torch.no_grad():
        terms = model.losses(batch, np.random.RandomState(0))
    assert_metrics(terms, recording)
