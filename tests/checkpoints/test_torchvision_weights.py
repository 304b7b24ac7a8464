"""torchvision's weights by name: from torch hub's cache, from a server on this machine, and without a network."""

import functools
import hashlib
import http.server
import logging
import threading
from pathlib import Path

import pytest
import torch
from torchvision.models import get_model, get_model_weights

from lib.checkpoints import torchvision_weights
from lib.checkpoints.conversion import WeightsError
from lib.checkpoints.torchvision_weights import (
    fetch_torchvision,
    is_torchvision_name,
    torchvision_file,
    torchvision_url,
)
from lib.config import load_config
from lib.data.classes import Classes
from lib.engine.checkpoint import CheckpointError
from lib.engine.pretrained import checkpoint_file, load_pretrained
from rfcn.model import build_rfcn

PRESET = Path(__file__).resolve().parents[2] / "configs/presets/torchvision_backbone.yaml"
NAME = "torchvision:ResNet18_Weights.IMAGENET1K_V1"
SHAPES = Classes(("disc", "square"), ("disc", "square"))


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    return tmp_path / "torch" / "hub" / "checkpoints"


class _Server(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_arguments):
        pass


@pytest.fixture
def served(tmp_path, monkeypatch, cache):
    """A ResNet-18 on a server, called NAME; returns (its file on the server, its name there, the server)."""
    folder = tmp_path / "served"
    folder.mkdir()
    torch.manual_seed(0)
    file = folder / "weights.pth"
    torch.save(get_model("resnet18", weights=None).state_dict(), file)
    file = file.rename(folder / f"resnet18-{hashlib.sha256(file.read_bytes()).hexdigest()[:8]}.pth")
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(_Server, directory=str(folder)))
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    url = f"http://127.0.0.1:{server.server_address[1]}/{file.name}"
    monkeypatch.setattr(torchvision_weights, "torchvision_url", lambda _name: url)
    yield file
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize("depth", [18, 34, 50, 101, 152])
def test_every_name_of_torchvision_is_known(depth, cache):
    for weights in get_model_weights(f"resnet{depth}"):
        assert is_torchvision_name(f"torchvision:{weights}")
        assert torchvision_url(f"torchvision:{weights}") == weights.url
        assert torchvision_file(f"torchvision:{weights}") == cache / weights.url.rpartition("/")[2]
        assert checkpoint_file(f"torchvision:{weights}", 0) == torchvision_file(f"torchvision:{weights}")
    default = get_model_weights(f"resnet{depth}").DEFAULT
    assert torchvision_url(f"torchvision:ResNet{depth}_Weights.DEFAULT") == default.url


def test_an_unknown_name_is_answered_with_the_known_ones():
    with pytest.raises(
        WeightsError, match=r"'torchvision:ResNet20_Weights.V1' is none.*ResNet101_Weights.IMAGENET1K_V2"
    ):
        torchvision_url("torchvision:ResNet20_Weights.V1")
    assert not is_torchvision_name("model/torchvision.pth")


def test_weights_are_downloaded_once(served, cache, caplog):
    with caplog.at_level(logging.INFO):
        path = fetch_torchvision(NAME)
    assert path == cache / served.name
    assert path.read_bytes() == served.read_bytes()
    assert "downloading http" in caplog.text
    served.unlink()
    assert fetch_torchvision(NAME) == path


def test_without_a_network_the_file_and_its_place_are_named(served, cache):
    served.unlink()
    with pytest.raises(WeightsError) as error:
        fetch_torchvision(NAME)
    assert f"is not at {cache / served.name} and cannot be downloaded" in str(error.value)
    assert f"/{served.name} on a machine with network access and copy it to that place" in str(error.value)
    assert list(cache.iterdir()) == []
    (cache / served.name).write_bytes(b"another file")
    with pytest.raises(WeightsError, match=f"{served.name}: damaged: its SHA-256"):
        fetch_torchvision(NAME)


def test_what_arrives_damaged_is_not_kept(served, cache):
    served.write_bytes(served.read_bytes()[:-1])
    with pytest.raises(WeightsError, match="cannot be downloaded .*hash"):
        fetch_torchvision(NAME)
    assert list(cache.iterdir()) == []


def configuration(*keys):
    return load_config(None, ["network.DEPTH=18", "network.FEAT_DIM=16", *keys], [PRESET])


def test_a_training_begins_from_the_name(served):
    cfg = configuration(f"network.pretrained={NAME}")
    model = build_rfcn(cfg, SHAPES.num_classes)
    load_pretrained(model, cfg, SHAPES)
    theirs = torch.load(served, weights_only=True)
    assert torch.equal(model.features.resnet.conv1.weight, theirs["conv1.weight"])
    assert torch.equal(model.features.resnet.res5b.bn_branch2b.running_var, theirs["layer4.1.bn2.running_var"])


@pytest.mark.parametrize(
    ("keys", "told"),
    [
        (["network.PIXEL_STDS=[1,1,1]"], r"PIXEL_STDS \[57\.375, 57\.12, 58\.395\] \(B, G, R\).*torchvision_backbone"),
        (["network.PIXEL_MEANS=[123.675,116.28,103.53]"], r"PIXEL_MEANS \[103\.53, 116\.28, 123\.675\]"),
        (["network.STYLE=caffe"], r"network\.STYLE pytorch"),
        (["network.DEPTH=34"], r"network\.DEPTH is 18 in the file and 34 here"),
        (["network.WIDTH=32"], r"network\.WIDTH is 64 in the file and 32 here"),
    ],
)
def test_what_does_not_go_with_the_name_is_an_error(served, keys, told):
    cfg = configuration(f"network.pretrained={NAME}", *keys)
    with pytest.raises(CheckpointError, match=told):
        load_pretrained(build_rfcn(cfg, SHAPES.num_classes), cfg, SHAPES)


def test_a_deeper_file_is_refused_though_each_of_its_first_layers_fits(tmp_path):
    torch.save(get_model("resnet34", weights=None).state_dict(), tmp_path / "r34.pth")
    cfg = configuration(f"network.pretrained={tmp_path / 'r34.pth'}")
    with pytest.raises(CheckpointError, match=r"r34\.pth: .*a ResNet-34, deeper than this one"):
        load_pretrained(build_rfcn(cfg, SHAPES.num_classes), cfg, SHAPES)


def test_a_file_of_that_form_on_other_images_is_warned_of(served, caplog):
    for keys, warned in (([], False), (["network.PIXEL_STDS=[1,1,1]"], True)):
        cfg = configuration(f"network.pretrained={served}", *keys)
        caplog.clear()
        load_pretrained(build_rfcn(cfg, SHAPES.num_classes), cfg, SHAPES)
        assert ("PIXEL_STDS" in caplog.text) == warned
