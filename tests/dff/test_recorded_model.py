"""Deep Feature Flow against the originals' recordings, with the synthetic weights."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

import dff.model as dff_module
from dff.model import DFF, build_dff
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


@pytest.fixture(scope="module")
def tested(golden):
    """The recording of three frames, the network with its weights, and its configuration."""
    recording = golden("net_dff_public")
    cfg = with_video_keys(original_config(FOLDED_STDS), 10, 1.0)
    return recording, load_golden_weights(build_dff(cfg, 31), int(recording["seed"][0])), cfg


def test_every_parameter_of_the_original_and_no_other(tested, golden_dir):
    _, model, _ = tested
    recorded = json.loads((golden_dir / "param_shapes_dff.json").read_text())
    expected = {name: tuple(shape) for kind in ("arg", "aux") for name, shape in recorded[kind]}
    state = model.state_dict()
    assert {name: tuple(state[torch_name].shape) for name, torch_name in mxnet_names(model).items()} == expected


def test_flow_network_matches_the_recording(tested):
    recording, model, _ = tested
    net, seen = model.flow_net, {}
    layers = {
        "resize_concat5": net.Convolution5,  # its input
        "ReLU1": net.conv2,
        "ReLU2": net.conv3,
        "ReLU4": net.conv4,
        "ReLU6": net.conv5,
        "ReLU8": net.conv6,
        "ReLU10": net.Convolution1,
    }
    hooks = [
        layer.register_forward_pre_hook(lambda _m, inputs, name=name: seen.update({name: inputs[0].clone()}))
        for name, layer in layers.items()
    ]
    hooks += [
        getattr(net, name).register_forward_hook(lambda _m, _i, out, name=name: seen.update({name: out.clone()}))
        for name in ("Convolution1", "Convolution2", "Convolution3", "Convolution4", "Convolution5")
    ]
    images = network_input(recording["frames"])
    with torch.no_grad():
        halves = net.halve(images)
        flow, scale = net(images[-1:], images[:1])
    for hook in hooks:
        hook.remove()
    seen["resize_data"] = torch.cat((halves[-1:], halves[:1]), dim=1)
    assert {f"flownet_{name}" for name in seen} == {
        name for name in recording if name.startswith("flownet_") and not name.endswith("_channels")
    }
    for name, value in seen.items():
        channels = torch.from_numpy(recording[f"flownet_{name}_channels"])
        assert_close(value[0, channels], recording[f"flownet_{name}"])
    assert_close(flow, recording["cur_flow"])
    assert_close(scale[:, ::16], recording["cur_scale_map"])


def test_flow_points_where_the_recorded_grid_does(tested):
    """The grid is in [-1, 1] from the first cell to the last: out of the recorded flow, by the spec's formula."""
    recording, _, _ = tested
    height, width = recording["cur_flow"].shape[2:]
    row, column = np.mgrid[:height, :width]
    x, y = recording["cur_flow"][0]
    grid = np.stack(((column + x) / ((width - 1) / 2) - 1, (row + y) / ((height - 1) / 2) - 1))
    np.testing.assert_allclose(grid, recording["cur_grid"][0], atol=1e-5)
    feature, flow = (torch.from_numpy(recording[name]) for name in ("key_conv_feat", "cur_flow"))
    assert_close(flow_warp(feature, flow)[:, ::8], recording["cur_warped"])


def test_key_frame_and_follower_match_the_recording(tested):
    recording, model, _ = tested
    images = network_input(recording["frames"])
    with torch.no_grad():
        key = dff_module.KeyFrame(model.flow_net.halve(images[:1]), model.features(images[:1]))
        current = model.propagate(key, model.flow_net.halve(images[-1:]))
    assert_close(key.features, recording["key_conv_feat"])
    assert_close(current, recording["cur_conv_feat"])
    check_detector(model.detector, key.features, recording, "key_")
    check_detector(model.detector, current, recording, "cur_")


def test_key_frame_with_all_followers_matches_the_recording(tested):
    recording, model, _ = tested
    images = network_input(recording["frames"])
    with torch.no_grad():
        halves = model.flow_net.halve(images)
        key = dff_module.KeyFrame(halves[:1], model.features(images[:1]))
        features = torch.cat((key.features, model.propagate(key, halves[1:])))
    check_detector(model.detector, features, recording, "batch_")


def test_detections_match_the_recording(tested):
    """One key frame and its followers in one go."""
    recording, model, cfg = tested
    frames = [Frame(image, float(recording["im_scale"][0])) for image in network_input(recording["frames"])]
    found = list(model.detect(frames, build_postprocess(cfg, 1e-3), batch_images=3))
    for i, detections in enumerate(found):
        assert_detections(detections, recording[f"batch_detections_{i}"])
    assert_detections(found[0], recording["key_detections_0"])
    assert_detections(found[2], recording["cur_detections_0"])


@pytest.fixture(scope="module")
def trained(tested):
    """The same network as it trains."""
    _, model, cfg = tested
    cfg = with_video_keys(original_config(), 10, 1.0)
    return DFF(model.features, model.flow_net, training_detector(model.detector, cfg))


def test_fixed_and_slowed_parameters_are_the_recorded_ones(trained, golden):
    recording = golden("train_dff_public")
    assert_fixed_parameters(trained, recording)
    recorded = dict(entry.split("=") for entry in recording["lr_mult"].tolist() if entry)
    assert trained.lr_mult == {name: float(value) for name, value in recorded.items()}


def test_training_step_matches_the_recording(trained, golden):
    recording = golden("train_dff_public")
    batch = recorded_batch(recording, [1, 0])
    with everything_trained(trained):
        check_training_step(trained, trained.detector, trained.training_features(batch), batch, recording)


def test_training_step_on_one_frame_twice_matches_the_recording(trained, golden):
    """The gradients of the flow network are recorded as exactly 0: here it has none at all."""
    recording = golden("train_dff_public_eq1")
    batch = recorded_batch(recording, [1, 1], same_frame=True)
    with everything_trained(trained):
        check_training_step(trained, trained.detector, trained.training_features(batch), batch, recording)
        assert all(parameter.grad is None for parameter in trained.flow_net.parameters())


def test_losses_from_a_batch_are_the_recorded_ones(trained, golden, monkeypatch):
    recording = golden("train_dff_public")
    monkeypatch.setattr(detector_module, "assign_anchors", lambda *_: recorded_anchor_targets(recording))
    with torch.no_grad():
        terms = trained.losses(recorded_batch(recording, [1, 0]), np.random.RandomState(0))
    assert_metrics(terms, recording)
