"""The command, over files of all kinds: there and back bit for bit, and every parameter accounted for."""

import re
from dataclasses import replace

import numpy as np
import pytest
import torch
import torchvision

from dff.model import build_dff
from fgfa.model import build_fgfa
from lib.checkpoints.mxnet_params import ParamsFile, read_params, write_params
from lib.config import to_dict
from lib.data.classes import Classes
from lib.engine.checkpoint import IDENTITY, CheckpointFolder, Identity, read_identity, save_tensors
from lib.engine.weights import load_backbone, load_flow, load_weights
from lib.errors import InputError
from lib.models.flownet_s import FlowNetS
from lib.models.mxnet_names import mxnet_names
from lib.models.resnet import ResNet
from tests.checkpoints.test_flownet_import import their_net
from tests.checkpoints.test_mxnet_state import by_the_originals_rule
from tests.checkpoints.test_plain_pickle import python2_array, python2_dict
from tests.checkpoints.test_resnet_import import detectron_blobs, their_resnet
from tests.models.small import NUM_CLASSES, small_config, small_rfcn, with_video_keys
from tools.convert_weights import main


def network(kind):
    torch.manual_seed(3)
    if kind == "rfcn":
        return small_rfcn()
    if kind == "resnet":
        return ResNet(50, 4)
    if kind == "flownet":
        return FlowNetS(0.05)
    build = {"dff": build_dff, "fgfa": build_fgfa}[kind]
    return build(with_video_keys(small_config(), interval=3), NUM_CLASSES)


def as_the_originals_save(model):
    """Its .params file, written without the converter."""
    arrays = {}
    for name, torch_name in mxnet_names(model).items():
        array = model.state_dict()[torch_name].numpy()
        arrays[("aux:" if "_moving_" in name else "arg:") + name] = array
        if name.startswith("rfcn_bbox"):
            arrays[f"arg:{name}_test"] = by_the_originals_rule(array)
    return ParamsFile(list(arrays), list(arrays.values()))


@pytest.fixture
def run(capsys):
    def call(*arguments):
        """Exit status, what is printed, and the error."""
        try:
            main([str(argument) for argument in arguments])
        except InputError as error:
            return 2, capsys.readouterr().out, str(error)
        return 0, capsys.readouterr().out, ""

    return call


@pytest.mark.parametrize("layout", ["legacy", "v2"])
@pytest.mark.parametrize("kind", ["rfcn", "dff", "fgfa", "resnet", "flownet"])
def test_all_five_kinds_there_and_back(tmp_path, run, kind, layout):
    model = network(kind)
    first = write_params(tmp_path / "first-0000.params", as_the_originals_save(model), layout)
    status, out, _ = run(first, tmp_path / "net.pth")
    assert status == 0
    count = len(mxnet_names(model))
    dropped = 2 if kind in ("rfcn", "dff", "fgfa") else 0
    assert out.splitlines()[-1].endswith(
        f"({kind}) -> {tmp_path / 'net.pth'}: {count} mapped, {dropped} dropped, 0 added"
    )
    assert len(re.findall("^mapped", out, re.M)) == count
    assert len(re.findall("^dropped", out, re.M)) == dropped
    loaded = network(kind)
    with torch.no_grad():
        for parameter in loaded.parameters():
            parameter.zero_()
    {"resnet": load_backbone, "flownet": load_flow}.get(kind, load_weights)(loaded, tmp_path / "net.pth")
    assert all(torch.equal(value, loaded.state_dict()[name]) for name, value in model.state_dict().items())
    assert run(tmp_path / "net.pth", tmp_path / "back.params", "--quiet")[0] == 0
    assert (tmp_path / "back.params").read_bytes() == first.read_bytes()


def test_a_trained_checkpoint_becomes_what_the_originals_would_have_saved(tmp_path, run):
    model = network("rfcn")
    rest = {"optimizer": {}, "epoch": 1, "batch": 0, "iteration": 5, "config": {}}
    path = CheckpointFolder(tmp_path, "rfcn_vid").save({"model": model.state_dict(), **rest})
    status, out, _ = run(path, tmp_path / "a.params", "--layout", "v1")
    assert status == 0
    assert re.search(r"^dropped +optimizer", out, re.M)
    assert re.search(r"^added +arg:rfcn_bbox_weight_test", out, re.M)
    found, expected = read_params(tmp_path / "a.params"), as_the_originals_save(model).named()
    assert found.layout == "v1"
    assert found.named().keys() == expected.keys()
    assert all(array.tobytes() == found.named()[name].tobytes() for name, array in expected.items())


def test_what_the_originals_cannot_do_is_noted(tmp_path, run):
    cfg = small_config("network.STYLE=pytorch", "network.PIXEL_STDS=[2, 1, 1]")
    path = save_tensors({"model": network("rfcn").state_dict(), "config": to_dict(cfg)}, tmp_path / "a.pth")
    status, out, _ = run(path, tmp_path / "a.params")
    assert status == 0
    assert re.search(r"^note .*network\.STYLE pytorch: the originals' networks have caffe", out, re.M)
    assert re.search(r"^note .*network\.PIXEL_STDS \[2\.0, 1\.0, 1\.0\]", out, re.M)


def test_box_weights_without_test_entries(tmp_path, run):
    model = network("rfcn")
    own = save_tensors(model.state_dict(), tmp_path / "own.pth")
    bare = tmp_path / "bare.params"
    assert run(own, bare, "--no-test-entries")[0] == 0
    assert not any("_test" in name for name in read_params(bare).names)
    stds = ("--bbox-stds", 0.2, 0.2, 0.4, 0.4)
    weight = model.detector.head.rfcn_bbox.weight.detach()
    for options, expected in (((), weight), (stds, weight / 2), (("--normalised",), None)):
        status, out, _ = run(bare, tmp_path / "out.pth", *options)
        assert status == 0
        assert re.search("^note .*has no _test entry", out, re.M)
        found = torch.load(tmp_path / "out.pth", weights_only=True)["model"]["detector.head.rfcn_bbox.weight"]
        if expected is None:
            expected = torch.from_numpy(by_the_originals_rule(weight.numpy()))
        torch.testing.assert_close(found, expected, rtol=1e-6, atol=0)


def test_torchvisions_resnet(tmp_path, run):
    torch.save(torchvision.models.resnet50().state_dict(), tmp_path / "r50.pth")
    status, _, err = run(tmp_path / "r50.pth", tmp_path / "a.pth")
    assert status == 2
    assert "--kind torchvision, or --kind mmdetection" in err
    status, _, err = run(tmp_path / "r50.pth", tmp_path / "a.pth", "--kind", "torchvision")
    assert status == 2
    assert "--accept-stride-change" in err
    assert not (tmp_path / "a.pth").exists()
    status, out, _ = run(tmp_path / "r50.pth", tmp_path / "a.pth", "--kind", "torchvision", "--accept-stride-change")
    assert status == 0
    assert re.search(r"^dropped +fc\.weight", out, re.M)
    load_backbone(ResNet(50), tmp_path / "a.pth")
    stds = ("--pixel-stds", 57.375, 57.12, 58.395, "--pixel-means", 103.53, 116.28, 123.675)
    status, out, _ = run(tmp_path / "r50.pth", tmp_path / "b.pth", "--kind", "torchvision", "--style", "pytorch", *stds)
    assert status == 0
    assert not re.search("^note", out, re.M)  # nothing had to be changed
    theirs = torch.load(tmp_path / "r50.pth", weights_only=True)
    ours = torch.load(tmp_path / "b.pth", weights_only=True)["model"]
    assert torch.equal(ours["conv1.weight"], theirs["conv1.weight"])
    assert torch.equal(ours["res4a.branch2b.weight"], theirs["layer3.0.conv2.weight"])


def test_detectrons_pickle(tmp_path, run):
    net = their_resnet(50, stride_on_3x3=False)
    blobs = {name: python2_array(array.numpy()) for name, array in detectron_blobs(net).items()}
    (tmp_path / "R-50.pkl").write_bytes(b"\x80\2" + python2_dict({"blobs": python2_dict(blobs)}) + b".")
    status, out, _ = run(tmp_path / "R-50.pkl", tmp_path / "r50-0000.params")
    assert status == 0
    assert re.search(r"^dropped +fc1000_w", out, re.M)
    resnet = ResNet(50)
    load_backbone(resnet, tmp_path / "r50-0000.params")
    conv = net.layer2[0].conv2.weight
    assert torch.equal(resnet.res3a.branch2b.weight, conv)
    (tmp_path / "evil.pkl").write_bytes(b"cos\nsystem\nU\4true\x85R.")
    status, _, err = run(tmp_path / "evil.pkl", tmp_path / "a.pth")
    assert status == 2
    assert "nothing in it was run" in err


@pytest.mark.parametrize("norm", [False, True])
def test_pytorchs_flownet(tmp_path, run, norm):
    content = {"state_dict": their_net(norm, False).state_dict(), "arch": "flownets", "div_flow": 20}
    torch.save(content, tmp_path / "flownets.pth.tar")
    status, out, _ = run(tmp_path / "flownets.pth.tar", tmp_path / "flow.pth")
    assert status == 0
    assert "(flownet-pytorch)" in out
    assert re.search(r"^note .*Convolution5 \(predict_flow2\)", out, re.M)
    flow_net = FlowNetS(1 / 16)
    load_flow(flow_net, tmp_path / "flow.pth")
    bgr = ("--source-order", "bgr")
    assert run(tmp_path / "flownets.pth.tar", tmp_path / "bgr.pth", *bgr)[0] == 0
    other = torch.load(tmp_path / "bgr.pth", weights_only=True)["model"]["flow_conv1.weight"]
    expected = flow_net.flow_conv1.weight.unflatten(1, (2, 3)).flip(2).flatten(1, 2)
    torch.testing.assert_close(other, expected)


def test_unknown_names_are_listed_and_dropped_only_when_asked(tmp_path, run):
    file = as_the_originals_save(network("rfcn"))
    file.names += ["arg:extra", "aux:other"]
    file.arrays += [np.ones(1, np.float32)] * 2
    path = write_params(tmp_path / "a.params", file)
    status, _, err = run(path, tmp_path / "a.pth")
    assert status == 2
    assert "2 in the file, but not in the model: arg:extra, aux:other" in err
    status, out, _ = run(path, tmp_path / "a.pth", "--drop", "arg:extra", "aux:other")
    assert status == 0
    assert re.search(r"^dropped +arg:extra +as asked", out, re.M)
    status, _, err = run(path, tmp_path / "b.pth", "--drop", "arg:nothing")
    assert (status, "--drop arg:nothing" in err) == (2, True)


def test_missing_and_misshapen_parameters_are_listed(tmp_path, run):
    file = as_the_originals_save(network("resnet"))
    at = file.names.index("arg:res3a_branch2b_weight")
    del file.names[at], file.arrays[at]
    at = file.names.index("arg:bn2a_branch2a_gamma")
    file.arrays[at] = np.ones(9, np.float32)
    status, _, err = run(write_params(tmp_path / "a.params", file), tmp_path / "a.pth")
    assert status == 2
    assert "1 missing in the file: res3a.branch2b.weight" in err
    assert "1 of another shape: res2a.bn_branch2a.weight (file (9,), model (4,))" in err
    assert not (tmp_path / "a.pth").exists()


def test_what_cannot_be_converted_is_said_in_a_line(tmp_path, run):
    (tmp_path / "cut.params").write_bytes(write_params(tmp_path / "a.params", ParamsFile([], [])).read_bytes()[:-1])
    torch.save([1, 2], tmp_path / "list.pth")
    torch.save({"strange.weight": torch.ones(1)}, tmp_path / "strange.pth")
    for name, said in (
        ("none.pth", "there is no such file"),
        ("cut.params", "byte 24: the number of names"),
        ("a.params", "a list of 0 arrays without names"),
        ("list.pth", "holds no weights by name, but a list"),
        ("strange.pth", "none of the networks rfcn, dff, fgfa, resnet, flownet has names like strange_weight"),
    ):
        status, out, err = run(tmp_path / name, tmp_path / "out.pth")
        assert (status, out) == (2, "")
        assert err.startswith(f"{tmp_path / name}: ")
        assert said in err
        assert len(err.splitlines()) == 1
    (tmp_path / "folder.pth").mkdir()
    status, _, err = run(tmp_path / "none.pth", tmp_path / "folder.pth")  # before the source is read
    assert (status, "folder.pth: is a folder" in err) == (2, True)
    with pytest.raises(SystemExit) as end:
        run(tmp_path / "a.params", tmp_path / "out.onnx")
    assert end.value.code == 2


def trained_checkpoint(folder, model, method):
    """As training writes it, with a momentum for every weight."""
    classes = Classes(tuple(f"class {n}" for n in range(1, NUM_CLASSES)), tuple(f"n{n}" for n in range(1, NUM_CLASSES)))
    identity = Identity(method, to_dict(small_config()), classes, "my_run", commit="abc")
    state = {"optimizer": {name: value.clone() for name, value in model.state_dict().items()}}
    progress = {"epoch": 2, "batch": 0, "iteration": 9, "metrics": {}}
    return save_tensors({"model": model.state_dict(), **state, **progress, **identity.to_content()}, folder / "a.pth")


@pytest.mark.parametrize("kind", ["rfcn", "dff", "fgfa"])
def test_half_the_bytes_of_a_trained_checkpoint(tmp_path, run, kind, caplog):
    """Weights, identity and nothing else; the tool says how far float16 is from float32, and that is true."""
    model = network(kind)
    path = trained_checkpoint(tmp_path, model, kind)
    status, out, error = run(path, tmp_path / "half.pth", "--half", "--quiet")
    assert (status, error) == (0, "")
    content = torch.load(tmp_path / "half.pth", weights_only=True)
    assert set(content) == {"model", *IDENTITY}
    before, after = read_identity(path), read_identity(tmp_path / "half.pth")
    assert replace(after, stored="") == before
    assert after.stored == "float16"

    loaded = network(kind)
    with caplog.at_level("INFO"):
        load_weights(loaded, tmp_path / "half.pth")
    assert f"{tmp_path / 'half.pth'}: stored in float16, loaded as float32" in caplog.text
    changes, relative = [], []
    for name, value in model.state_dict().items():
        found = loaded.state_dict()[name]
        assert found.dtype == value.dtype, name
        if value.dim() < 2:
            assert torch.equal(found, value), name
        else:
            assert torch.equal(found, torch.from_numpy(value.numpy().astype(np.float16).astype(np.float32))), name
            changes.append(float((found - value).abs().max()))
            relative.append(changes[-1] / max(float(value.abs().max()), 1e-9))  # DFF's scale weights are 0
    said = re.search(r"changes by at most (\S+), and by at most (\S+) of the largest", out)
    assert float(said[1]) == pytest.approx(max(changes), rel=0.1)
    assert float(said[2]) == pytest.approx(max(relative), rel=0.1)
    assert 0 < max(relative) <= 2**-11

    assert run(path, tmp_path / "again" / "half.pth", "--half")[0] == 0
    assert (tmp_path / "again" / "half.pth").read_bytes() == (tmp_path / "half.pth").read_bytes()
    whole = tmp_path / "whole.pth"
    assert run(path, whole)[0] == 0
    assert read_identity(whole) == before
    assert (tmp_path / "half.pth").stat().st_size < 0.75 * whole.stat().st_size


def test_values_of_the_configuration_that_are_set(tmp_path, run, capsys):
    path = trained_checkpoint(tmp_path, network("rfcn"), "rfcn")
    target = tmp_path / "b.pth"
    assert run(path, target, "--set", "PRECISION=bfloat16", "TEST.max_per_image=7", "--quiet")[0] == 0
    before, after = read_identity(path), read_identity(target)
    assert (before.config["PRECISION"], after.config["PRECISION"]) == ("float32", "bfloat16")
    assert after.config["TEST"]["max_per_image"] == 7
    after.config["PRECISION"], after.config["TEST"]["max_per_image"] = "float32", before.config["TEST"]["max_per_image"]
    assert after == before

    status, _, error = run(path, target, "--set", "PRECISION=half")
    assert status == 2
    assert "PRECISION" in error
    bare = tmp_path / "bare.pth"
    save_tensors(network("rfcn").state_dict(), bare)
    status, _, error = run(bare, tmp_path / "c.pth", "--set", "PRECISION=bfloat16")
    assert status == 2
    assert f"{bare}: says nothing of its configuration" in error
    with pytest.raises(SystemExit):
        main([str(path), str(tmp_path / "a.params"), "--set", "PRECISION=bfloat16"])
    assert "--set is for .pth files" in capsys.readouterr().err


def test_half_stored_weights_become_float32_elsewhere(tmp_path, run):
    path = trained_checkpoint(tmp_path, network("rfcn"), "rfcn")
    assert run(path, tmp_path / "half.pth", "--half")[0] == 0
    for target in ("b.params", "b.pth"):
        status, out, _ = run(tmp_path / "half.pth", tmp_path / target)
        assert status == 0
        assert bool(re.search("^dropped +method", out, re.M)) == (target == "b.params")
    assert {str(array.dtype) for array in read_params(tmp_path / "b.params").arrays} == {"float32"}
    assert read_identity(tmp_path / "b.pth").stored == ""
    state = torch.load(tmp_path / "b.pth", weights_only=True)["model"]
    assert {value.dtype for value in state.values() if value.is_floating_point()} == {torch.float32}


def test_what_half_cannot_store_is_refused(tmp_path, run, capsys):
    model = network("rfcn")
    with torch.no_grad():
        model.detector.head.rfcn_bbox.weight[0, 0] = 7e4
    path = trained_checkpoint(tmp_path, model, "rfcn")
    status, _, error = run(path, tmp_path / "half.pth", "--half")
    assert status == 2
    assert re.search(r"a\.pth: .*rfcn_bbox.* has a value of 70000, too large for float16", error)
    with pytest.raises(SystemExit):
        main([str(path), str(tmp_path / "a.params"), "--half"])
    assert "--half is for .pth files" in capsys.readouterr().err
    assert [file.name for file in tmp_path.iterdir()] == ["a.pth"]
