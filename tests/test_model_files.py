"""The weights that the repository ships: small, the bytes that model/README.md says, fit for their configurations."""

import hashlib
import re
from pathlib import Path

import pytest
import torch

from lib.config import load_config
from lib.engine.weights import load_backbone, load_flow
from lib.models.build import build_features, build_flow_net
from lib.pretraining.flow_loader import batch_of
from lib.pretraining.flow_training import FlowTraining, held_out_errors
from lib.synthetic.casting import Settings
from lib.synthetic.flow_pairs import held_out_pairs

MODEL = Path(__file__).resolve().parents[1] / "model"
README = (MODEL / "README.md").read_text(encoding="utf-8")
SHIPPED = ("resnet_18_w16.pth", "flownet_s_w025.pth")
CONFIGS = (
    "rfcn/resnet_v1_18_synthetic_vid",
    "dff/resnet_v1_18_flownet_synthetic_vid",
    "fgfa/resnet_v1_18_flownet_synthetic_vid",
)


def configuration(name):
    return load_config(MODEL.parent / "configs" / f"{name}.yaml")


@pytest.mark.parametrize("name", SHIPPED)
def test_bytes_are_those_of_the_readme(name):
    digest = hashlib.sha256((MODEL / name).read_bytes()).hexdigest()
    row = re.search(rf"^\| `{re.escape(name)}` .*$", README, re.MULTILINE)
    assert row is not None
    assert digest in row[0]


def test_together_they_are_small():
    assert sum((MODEL / name).stat().st_size for name in SHIPPED) < 15e6


@pytest.mark.parametrize("name", CONFIGS)
def test_they_fit_the_small_configurations(name):
    cfg = configuration(name)
    assert Path(cfg.network.pretrained).name == SHIPPED[0]
    resnet = build_features(cfg).resnet
    before = resnet.conv1.weight.clone()
    load_backbone(resnet, MODEL / SHIPPED[0])
    assert not torch.equal(before, resnet.conv1.weight)
    assert all(torch.isfinite(value).all() for value in resnet.state_dict().values())
    if cfg.network.pretrained_flow:
        assert Path(cfg.network.pretrained_flow).name == SHIPPED[1]
        load_flow(build_flow_net(cfg, scale_channels=cfg.network.FEAT_DIM), MODEL / SHIPPED[1])


def test_the_shipped_flow_is_better_than_none():
    """On frames that nobody trained on: nearer to the generator's flow than zero flow is, where something moves."""
    cfg = configuration(CONFIGS[1])
    net = build_flow_net(cfg)
    load_flow(net, MODEL / SHIPPED[1])
    pairs = held_out_pairs(Settings(seed=77), clips=6)
    errors = held_out_errors(FlowTraining(net, cfg.network.PIXEL_MEANS), [batch_of(pairs)], "cpu")
    assert errors["moving"] < 0.7 * errors["moving_zero"]
    assert errors["objects"] < 0.75 * errors["objects_zero"]
