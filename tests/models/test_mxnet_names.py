import json

import pytest
from torch import nn

from lib.config import load_config
from lib.models.mxnet_names import fixed_parameters, mxnet_name, mxnet_names
from rfcn.model import build_rfcn

RFCN_LIST = ["conv1", "bn_conv1", "res2", "bn2", "gamma", "beta"]


@pytest.fixture(scope="module")
def model():
    return build_rfcn(load_config(), 31)


def test_every_parameter_of_the_original_and_no_other(model, golden_dir):
    recorded = json.loads((golden_dir / "param_shapes_rfcn.json").read_text())
    expected = {name: tuple(shape) for kind in ("arg", "aux") for name, shape in recorded[kind]}
    state = model.state_dict()
    assert {name: tuple(state[torch_name].shape) for name, torch_name in mxnet_names(model).items()} == expected


def test_names_round_trip(model):
    names = mxnet_names(model)
    assert all(mxnet_name(torch_name) == name for name, torch_name in names.items())
    assert set(names.values()) == set(model.state_dict())


def test_fixed_parameters_are_the_originals(model, golden):
    expected = set(golden("train_rfcn_public")["fixed_params"].tolist())
    fixed = fixed_parameters(model, RFCN_LIST)
    assert {mxnet_name(name) for name in fixed} == expected
    assert len(fixed) == 33


def test_gamma_and_beta_as_prefixes_match_nothing(model):
    assert fixed_parameters(model, ["gamma", "beta"]) == []
    assert fixed_parameters(model, []) == []


@pytest.mark.parametrize(
    ("torch_name", "expected"),
    [
        ("features.resnet.conv1.weight", "conv1_weight"),
        ("features.resnet.res4b22.bn_branch2c.running_var", "bn4b22_branch2c_moving_var"),
        ("resnet.res3a.branch1.weight", "res3a_branch1_weight"),
        ("flownet.upsample_flow6to5.bias", "upsample_flow6to5_bias"),
        ("flownet.Convolution5_scale.weight", "Convolution5_scale_weight"),
        ("resnet.bn_conv1.num_batches_tracked", None),
        ("scale", None),
    ],
)
def test_single_names(torch_name, expected):
    assert mxnet_name(torch_name) == expected


def test_two_layers_of_one_name_are_refused():
    twins = nn.ModuleDict({"a": nn.ModuleDict({"conv1": nn.Conv2d(1, 1, 1)})})
    twins["b"] = nn.ModuleDict({"conv1": nn.Conv2d(1, 1, 1)})
    with pytest.raises(ValueError, match="conv1_weight"):
        mxnet_names(twins)
