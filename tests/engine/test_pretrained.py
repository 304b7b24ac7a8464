"""What a training begins from: parts of another detector, backbone and flow files, and what is said about each."""

import logging

import pytest
import torch

from dff.model import build_dff
from fgfa.model import build_fgfa
from lib.data.classes import Classes
from lib.engine.checkpoint import CheckpointError, save_tensors
from lib.engine.pretrained import load_parts, load_pretrained
from tests.models.small import NUM_CLASSES, small_config, small_rfcn, with_video_keys

CLASSES = Classes(tuple("abcde"), tuple("abcde"))  # as many as the small models have
CFG = small_config()


def video_model(build, seed, *overrides):
    torch.manual_seed(seed)
    return build(with_video_keys(small_config(*overrides), interval=3), NUM_CLASSES)


@pytest.fixture
def rfcn_file(tmp_path):
    return save_tensors({"model": small_rfcn(seed=1).state_dict()}, tmp_path / "rfcn.pth")


@pytest.mark.parametrize("build", [build_dff, build_fgfa], ids=["dff", "fgfa"])
def test_a_video_method_takes_over_what_an_rfcn_has(build, rfcn_file, caplog):
    model, source = video_model(build, 2), small_rfcn(seed=1)
    untouched = {name: value.clone() for name, value in model.flow_net.state_dict().items()}
    with caplog.at_level(logging.INFO):
        assert load_parts(model, rfcn_file, CFG, CLASSES) == {"features", "detector"}
    for part in ("features", "detector"):
        given = getattr(source, part).state_dict()
        taken = getattr(model, part).state_dict()
        assert all(torch.equal(given[name], taken[name]) for name in given)
    assert all(torch.equal(untouched[name], value) for name, value in model.flow_net.state_dict().items())
    assert "not in the file" in caplog.text
    assert "flow_net" in caplog.text


def test_a_second_phase_takes_over_everything(tmp_path):
    first, second = video_model(build_fgfa, 1), video_model(build_fgfa, 2)
    path = save_tensors({"model": first.state_dict()}, tmp_path / "phase1.pth")
    assert load_parts(second, path, CFG, CLASSES) == {"features", "detector", "flow_net", "embed_net"}
    expected = first.state_dict()
    assert all(torch.equal(expected[name], value) for name, value in second.state_dict().items())


def test_deep_feature_flow_keeps_its_scale_map_where_the_file_has_none(tmp_path):
    path = save_tensors({"model": video_model(build_fgfa, 1).state_dict()}, tmp_path / "fgfa.pth")
    model = video_model(build_dff, 2)
    assert "flow_net" in load_parts(model, path, CFG, CLASSES)
    assert torch.equal(model.flow_net.Convolution5_scale.bias, torch.ones_like(model.flow_net.Convolution5_scale.bias))


def test_another_shape_is_named_and_nothing_is_half_loaded(tmp_path):
    state = small_rfcn().state_dict()
    state["detector.head.rfcn_cls.weight"] = torch.zeros(1)
    path = save_tensors(state, tmp_path / "other.pth")
    with pytest.raises(CheckpointError, match="rfcn_cls.weight.*model"):
        load_parts(video_model(build_dff, 2), path, CFG, CLASSES)


def test_a_file_without_a_detector_is_refused(tmp_path):
    path = save_tensors(small_rfcn().features.resnet.state_dict(), tmp_path / "backbone.pth")
    with pytest.raises(CheckpointError, match=r"none of this model's parts.*features"):
        load_parts(small_rfcn(), path, CFG, CLASSES)


def test_backbone_and_flow_come_from_the_files_that_the_configuration_names(tmp_path):
    other = small_rfcn(seed=7)
    backbone = save_tensors(other.features.resnet.state_dict(), tmp_path / "backbone-0000.pth")
    flow = save_tensors(video_model(build_fgfa, 5).flow_net.state_dict(), tmp_path / "flow.pth")
    model = video_model(build_dff, 2)
    cfg = small_config(f"network.pretrained={tmp_path / 'backbone'}", f"network.pretrained_flow={flow}")
    load_pretrained(model, cfg, CLASSES)
    assert backbone.is_file()
    assert torch.equal(model.features.resnet.conv1.weight, other.features.resnet.conv1.weight)
    assert torch.equal(model.flow_net.conv3.weight, video_model(build_fgfa, 5).flow_net.conv3.weight)


def test_what_a_whole_model_gives_is_not_taken_from_elsewhere(rfcn_file, tmp_path):
    flow = save_tensors(video_model(build_fgfa, 5).flow_net.state_dict(), tmp_path / "flow.pth")
    model = video_model(build_dff, 2)
    cfg = small_config(
        f"network.pretrained_model={rfcn_file}", "network.pretrained=not_needed.pth", f"network.pretrained_flow={flow}"
    )
    load_pretrained(model, cfg, CLASSES)
    source = small_rfcn(seed=1)
    assert torch.equal(model.features.resnet.conv1.weight, source.features.resnet.conv1.weight)
    assert torch.equal(model.detector.head.rfcn_cls.weight, source.detector.head.rfcn_cls.weight)
    assert torch.equal(model.flow_net.conv3.weight, video_model(build_fgfa, 5).flow_net.conv3.weight)


def test_half_precision_starts_load_as_float32(tmp_path):
    state = {name: value.half() for name, value in small_rfcn(seed=1).state_dict().items()}
    model = small_rfcn(seed=2)
    load_parts(model, save_tensors(state, tmp_path / "half.pth"), CFG, CLASSES)
    weight = model.features.feat_conv_3x3.weight
    assert weight.dtype == torch.float32
    assert torch.equal(weight, small_rfcn(seed=1).features.feat_conv_3x3.weight.half().float())


def test_random_parts_are_warned_of(rfcn_file, caplog):
    with caplog.at_level(logging.WARNING):
        load_pretrained(video_model(build_dff, 2), small_config(f"network.pretrained_model={rfcn_file}"), CLASSES)
    assert "pretrained_flow is empty" in caplog.text
    assert "NORM" not in caplog.text
