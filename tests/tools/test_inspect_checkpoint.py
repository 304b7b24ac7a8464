"""tools/inspect_checkpoint.py: what it says of each kind of file is what was put into it; damaged files are errors."""

import hashlib
import json

import numpy as np
import pytest
import torch
import torchvision

from dff.model import build_dff
from fgfa.model import build_fgfa
from lib.checkpoints.mxnet_params import ParamsFile, write_params
from lib.config import load_config, to_dict
from lib.data.classes import Classes
from lib.engine.checkpoint import CheckpointFolder, Identity, save_tensors
from lib.errors import InputError
from lib.models.flownet_s import FlowNetS
from lib.models.mxnet_names import mxnet_names
from lib.models.resnet import ResNet
from tests.checkpoints.test_plain_pickle import python2_array, python2_dict
from tests.checkpoints.test_resnet_import import detectron_blobs, their_resnet
from tests.models.small import NUM_CLASSES, small_config, small_rfcn, with_video_keys
from tools import inspect_checkpoint as tool

CLASSES = Classes(("apple", "pear"), ("n1", "n2"))


@pytest.fixture
def run(tmp_path, capsys):
    def call(path):
        """What is printed, and the JSON."""
        tool.main([str(path), "--json", str(tmp_path / "out" / "found.json")])
        return capsys.readouterr().out, json.loads((tmp_path / "out" / "found.json").read_text())

    return call


def save_checkpoint(folder, model, **more):
    config = to_dict(load_config(None, ["network.DEPTH=18", "TRAIN.lr=0.5"]))
    content = {"model": model.state_dict(), "optimizer": {}, "epoch": 2, "batch": 7, "iteration": 40, "config": config}
    return CheckpointFolder(folder, "rfcn_vid").save(content | more)


def count_of(model, prefix=""):
    """Arrays and values of the state below `prefix`."""
    values = [value for name, value in model.state_dict().items() if name.startswith(prefix)]
    return len(values), sum(value.numel() for value in values)


def test_a_training_checkpoint(tmp_path, run):
    model = small_rfcn()
    identity = Identity("rfcn", {"network": {"DEPTH": 34}}, CLASSES, "mine", "0.9", "0123456789ab")
    path = save_checkpoint(tmp_path, model, **identity.to_content())
    printed, found = run(path)
    assert found["sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()
    assert found["bytes"] == path.stat().st_size
    assert (found["form"], found["method"], found["run"]) == ("checkpoint", "rfcn", "mine")
    assert (found["version"], found["commit"], found["classes"]) == ("0.9", "0123456789ab", ["apple", "pear"])
    assert (found["epoch"], found["batch"], found["iteration"]) == (2, 7, 40)
    assert found["configuration"] == {"network.DEPTH": 34}
    assert found["network"]["kind"] == "rfcn"
    assert found["network"]["classes_with_background"] == NUM_CLASSES
    assert found["also_holds"] == ["optimizer"]
    assert found["not_finite"] == []
    backbone, head = found["parts"]["backbone (ResNet)"], found["parts"]["R-FCN head"]
    assert (backbone["arrays"], backbone["parameters"]) == count_of(model, "features.resnet.")
    assert (head["arrays"], head["parameters"]) == count_of(model, "detector.head.")
    assert (found["total"]["arrays"], found["total"]["parameters"]) == count_of(model)
    assert found["total"]["bytes"] == sum(value.nbytes for value in model.state_dict().values())
    for said in ("method: rfcn, run: mine", "2: apple, pear", "2 epochs complete, 7 batches of the next, 40 updates"):
        assert said in printed
    assert "network.DEPTH: 34" in printed


def test_a_checkpoint_that_does_not_say_what_it_is(tmp_path, run):
    printed, found = run(save_checkpoint(tmp_path, small_rfcn(), batch=0))
    assert "method" not in found
    assert found["configuration"] == {"network.DEPTH": 18, "TRAIN.lr": 0.5}
    assert "progress: 2 epochs complete, 40 updates" in printed


@pytest.mark.parametrize("kind", ["dff", "fgfa"])
def test_weights_alone(tmp_path, run, kind):
    build = {"dff": build_dff, "fgfa": build_fgfa}[kind]
    model = build(with_video_keys(small_config(), interval=3), NUM_CLASSES)
    printed, found = run(save_tensors({"model": model.state_dict()}, tmp_path / "a.pth"))
    assert found["network"]["kind"] == kind
    flow = found["parts"]["flow network (FlowNet-S)"]
    assert (flow["arrays"], flow["parameters"]) == count_of(model, "flow_net.")
    assert ("embedding" in found["parts"]) == (kind == "fgfa")
    assert "other" not in found["parts"]
    assert "configuration" not in found
    assert f"network: {kind}, ResNet-" in printed


def test_a_backbone_in_half_precision_and_a_flow_network(tmp_path, run):
    resnet = ResNet(34, 8)
    half = {name: value.half() for name, value in resnet.state_dict().items()}
    _, found = run(save_tensors(half, tmp_path / "r.pth"))
    assert found["network"] == {"kind": "resnet", "depth": 34, "width": 8}
    assert list(found["parts"]) == ["backbone (ResNet)"]
    assert found["total"]["types"] == ["float16"]
    assert found["total"]["bytes"] == 2 * count_of(resnet)[1]
    _, found = run(save_tensors(FlowNetS(0.25).state_dict(), tmp_path / "f.pth"))
    assert found["network"] == {"kind": "flownet", "flow_width": 0.25}
    assert list(found["parts"]) == ["flow network (FlowNet-S)"]


def test_the_originals_file(tmp_path, run):
    model = small_rfcn()
    arrays = {f"arg:{name}": model.state_dict()[own].numpy() for name, own in mxnet_names(model).items()}
    arrays["arg:rfcn_bbox_weight_test"] = arrays["arg:rfcn_bbox_weight"]
    path = write_params(tmp_path / "a-0000.params", ParamsFile(list(arrays), list(arrays.values())), "v1")
    printed, found = run(path)
    assert (found["form"], found["layout"]) == ("MXNet parameters", "v1")
    assert found["test_entries"] == ["arg:rfcn_bbox_weight_test"]
    assert (found["network"]["kind"], found["network"]["classes_with_background"]) == ("rfcn", NUM_CLASSES)
    assert found["total"]["arrays"] == len(arrays)
    assert "_test entries: arg:rfcn_bbox_weight_test" in printed
    del arrays["arg:rfcn_bbox_weight_test"]
    printed, found = run(write_params(path, ParamsFile(list(arrays), list(arrays.values()))))
    assert found["test_entries"] == []
    assert "none: its box weights are used as they are" in printed


def test_other_projects_files(tmp_path, run):
    torch.save(torchvision.models.resnet18().state_dict(), tmp_path / "r18.pth")
    printed, found = run(tmp_path / "r18.pth")
    assert found["network"]["kind"] is None
    assert "torchvision and mmdetection give a ResNet the same names" in printed
    blobs = {name: python2_array(a.numpy()) for name, a in detectron_blobs(their_resnet(50, False)).items()}
    (tmp_path / "R-50.pkl").write_bytes(b"\x80\2" + python2_dict({"blobs": python2_dict(blobs)}) + b".")
    assert run(tmp_path / "R-50.pkl")[1]["network"]["kind"] == "detectron"


def test_numbers_that_are_not_finite_are_named(tmp_path, run):
    state = ResNet(18, 4).state_dict()
    state["conv1.weight"][0, 0, 0, 0] = float("nan")
    printed, found = run(save_tensors(state, tmp_path / "a.pth"))
    assert found["not_finite"] == ["conv1.weight"]
    assert "NOT FINITE: 1 arrays: conv1.weight" in printed


def damaged(tmp_path, how):
    path = save_checkpoint(tmp_path, ResNet(18, 4), **Identity("rfcn", {}, CLASSES).to_content())
    content = path.read_bytes()
    if how == "a changed byte":
        at = content.rindex(b"PK\1\2") // 2  # in the middle of the tensors
        content = content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :]
    elif how == "cut":
        content = content[: len(content) // 2]
    elif how == "text":
        content = b"no checkpoint"
    elif how == "empty":
        content = b""
    path.write_bytes(content)
    if how == "no names":
        write_params(path, ParamsFile([], [np.ones(3, np.float32)]))
    elif how == "a list":
        save_tensors([1, 2], path)
    elif how == "its description":
        save_checkpoint(tmp_path, ResNet(18, 4), method="rfcn", classes={"names": ["a"]})
    elif how == "missing":
        path.unlink()
    elif how == "a folder":
        path.unlink()
        path.mkdir()
    return path


@pytest.mark.parametrize(
    "how",
    [
        *("a changed byte", "cut", "text", "empty", "no names", "a list", "its description", "missing", "a folder"),
    ],
)
def test_damaged_files_are_errors_that_name_them(tmp_path, how):
    path = damaged(tmp_path, how)
    with pytest.raises(InputError, match=r"rfcn_vid-latest\.pth: ") as error:
        tool.main([str(path), "--json", str(tmp_path / "found.json")])
    assert len(str(error.value).splitlines()) == 1
    assert not (tmp_path / "found.json").exists()
