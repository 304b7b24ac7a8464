"""The originals' files and this project's weights: names, `_test` entries, and the way there and back."""

import json
import logging

import numpy as np
import pytest
import torch

from dff.model import build_dff
from fgfa.model import build_fgfa
from lib.checkpoints.conversion import WeightsError
from lib.checkpoints.mxnet_params import LAYOUTS, ParamsError, ParamsFile, write_params
from lib.checkpoints.mxnet_state import BoxRule, params_from_state, state_from_params
from lib.config import load_config
from lib.data.classes import Classes
from lib.engine.checkpoint import CheckpointError, CheckpointFolder, load_checkpoint, save_tensors
from lib.engine.pretrained import checkpoint_file, load_parts
from lib.engine.weights import load_backbone, load_flow, load_weights
from lib.models.flownet_s import FlowNetS
from lib.models.mxnet_names import mxnet_names
from lib.models.resnet import ResNet
from rfcn.model import build_rfcn
from tests.models.small import NUM_CLASSES, small_config, small_rfcn, with_video_keys
from tools.parity.golden_weights import golden_weight

WEIGHT, BIAS = "rfcn_bbox_weight", "rfcn_bbox_bias"
STDS = np.array([0.1, 0.1, 0.2, 0.2], np.float32)
BUILDERS = {"rfcn": build_rfcn, "dff": build_dff, "fgfa": build_fgfa}

CLASSES = Classes(tuple("abcde"), tuple("abcde"))


def by_the_originals_rule(array, means=(0, 0, 0, 0)):
    """4 stds for 2 classes, each repeated 49 times; the callback at the end of an epoch, written as a loop."""
    made = array.copy()
    for channel in range(len(array)):
        coordinate = (channel // 49) % 4
        made[channel] = array[channel] * STDS[coordinate]
        if array.ndim == 1:
            made[channel] += np.float32(means[coordinate])
    return made


@pytest.fixture
def box():
    rng = np.random.default_rng(3)
    return {
        "arg:rfcn_bbox_weight": rng.standard_normal((392, 5, 1, 1)).astype(np.float32),
        "arg:rfcn_bbox_bias": rng.standard_normal(392).astype(np.float32),
    }


def with_test(arrays, **kwargs):
    return arrays | {f"{name}_test": by_the_originals_rule(array, **kwargs) for name, array in arrays.items()}


def file_of(arrays):
    return ParamsFile(list(arrays), list(arrays.values()))


def same(a, b):
    return (a.dtype, a.shape, a.tobytes()) == (b.dtype, b.shape, b.tobytes())


def assert_restored(file, conversion, names, rule):
    again, account = params_from_state(conversion.state, names, rule, origin=conversion.origin)
    assert again.names == file.names
    assert all(same(a, b) for a, b in zip(again.arrays, file.arrays, strict=True))
    assert account.notes == []


NAMES = {WEIGHT: "head.rfcn_bbox.weight", BIAS: "head.rfcn_bbox.bias"}


def test_test_entries_that_agree_leave_the_plain_weights(box):
    file = file_of(with_test(box))
    conversion = state_from_params(file, NAMES, BoxRule())
    assert same(conversion.state["head.rfcn_bbox.weight"].numpy(), box["arg:rfcn_bbox_weight"])
    assert same(conversion.state["head.rfcn_bbox.bias"].numpy(), box["arg:rfcn_bbox_bias"])
    assert [name for name, _ in conversion.dropped] == ["rfcn_bbox_weight_test", "rfcn_bbox_bias_test"]
    assert conversion.notes == []
    assert_restored(file, conversion, NAMES, BoxRule())


def test_means_are_in_the_bias_entries(box):
    means = (0.5, -0.25, 1.0, 0.0)
    file = file_of(with_test(box, means=means))
    assert state_from_params(file, NAMES, BoxRule(means)).notes == []
    assert len(state_from_params(file, NAMES, BoxRule()).notes) == 1  # the bias says something else
    written, _ = params_from_state(state_from_params(file, NAMES, BoxRule(means)).state, NAMES, BoxRule(means))
    assert written.named().keys() == file.named().keys()
    assert all(np.allclose(written.named()[name], array, atol=1e-6) for name, array in file.named().items())


def test_rounding_another_way_still_agrees_and_comes_back_bit_for_bit(box):
    arrays = with_test(box)
    arrays["arg:rfcn_bbox_weight_test"] = np.nextafter(arrays["arg:rfcn_bbox_weight_test"], np.float32(np.inf))
    conversion = state_from_params(file_of(arrays), NAMES, BoxRule())
    assert conversion.notes == []
    assert same(conversion.state["head.rfcn_bbox.weight"].numpy(), box["arg:rfcn_bbox_weight"])
    assert_restored(file_of(arrays), conversion, NAMES, BoxRule())


def test_test_entries_that_differ_are_honoured(box):
    arrays = with_test(box)
    arrays["arg:rfcn_bbox_weight_test"] = arrays["arg:rfcn_bbox_weight_test"] + np.float32(0.25)
    conversion = state_from_params(file_of(arrays), NAMES, BoxRule())
    taken = conversion.state["head.rfcn_bbox.weight"].numpy()
    np.testing.assert_allclose(by_the_originals_rule(taken), arrays["arg:rfcn_bbox_weight_test"], rtol=1e-6)
    assert same(conversion.state["head.rfcn_bbox.bias"].numpy(), box["arg:rfcn_bbox_bias"])
    assert len(conversion.notes) == 1
    assert "rfcn_bbox_weight_test" in conversion.notes[0]
    assert ("arg:rfcn_bbox_weight_test", "head.rfcn_bbox.weight") in conversion.mapped
    assert_restored(file_of(arrays), conversion, NAMES, BoxRule())


def test_test_entries_without_plain_ones(box):
    arrays = {name: array for name, array in with_test(box).items() if name.endswith("_test")}
    conversion = state_from_params(file_of(arrays), NAMES, BoxRule())
    for name, array in box.items():
        taken = conversion.state[NAMES[name.removeprefix("arg:")]].numpy()
        np.testing.assert_allclose(taken, array, rtol=1e-6)
    assert_restored(file_of(arrays), conversion, NAMES, BoxRule())


def test_without_test_entries_the_weights_are_what_the_originals_test_with(box):
    conversion = state_from_params(file_of(box), NAMES, BoxRule())
    for name, array in box.items():
        taken = conversion.state[NAMES[name.removeprefix("arg:")]].numpy()
        np.testing.assert_allclose(by_the_originals_rule(taken), array, rtol=1e-6)
    assert len(conversion.notes) == 2
    assert_restored(file_of(box), conversion, NAMES, BoxRule())
    as_asked = state_from_params(file_of(box), NAMES, BoxRule(normalised=True))
    assert same(as_asked.state["head.rfcn_bbox.weight"].numpy(), box["arg:rfcn_bbox_weight"])
    assert_restored(file_of(box), as_asked, NAMES, BoxRule())


def test_files_written_without_test_entries_are_un_normalised(box):
    state = state_from_params(file_of(with_test(box)), NAMES, BoxRule()).state
    file, _ = params_from_state(state, NAMES, BoxRule(), test_entries=False)
    for name, array in file.named().items():
        assert same(array, by_the_originals_rule(box[name]))


def test_written_test_entries_are_the_originals(box):
    state = state_from_params(file_of(with_test(box)), NAMES, BoxRule()).state
    file, account = params_from_state(state, NAMES, BoxRule())
    assert file.named().keys() == with_test(box).keys()
    assert all(same(array, file.named()[name]) for name, array in with_test(box).items())
    assert [name for name, _ in account.added] == ["arg:rfcn_bbox_weight_test", "arg:rfcn_bbox_bias_test"]


def test_weights_trained_on_are_written_anew(box):
    conversion = state_from_params(file_of(with_test(box)), NAMES, BoxRule())
    conversion.state["head.rfcn_bbox.weight"] = conversion.state["head.rfcn_bbox.weight"] + 1
    file, account = params_from_state(conversion.state, NAMES, BoxRule(), origin=conversion.origin)
    assert "head.rfcn_bbox.weight has changed since" in account.notes[0]
    weight = file.named()["arg:rfcn_bbox_weight"]
    assert weight[0, 0, 0, 0] == box["arg:rfcn_bbox_weight"][0, 0, 0, 0] + 1
    assert same(file.named()["arg:rfcn_bbox_weight_test"], by_the_originals_rule(weight))


def test_any_other_test_entry_takes_the_place_of_its_parameter():
    arrays = {"arg:rpn_cls_score_bias": np.zeros(2, np.float32), "arg:rpn_cls_score_bias_test": np.ones(2, np.float32)}
    names = {"rpn_cls_score_bias": "rpn.bias"}
    conversion = state_from_params(file_of(arrays), names, BoxRule())
    assert conversion.state["rpn.bias"].tolist() == [1, 1]
    assert "rpn_cls_score_bias_test is used" in conversion.notes[0]
    assert_restored(file_of(arrays), conversion, names, BoxRule())


def test_other_types_and_names_come_back(box):
    arrays = {name.removeprefix("arg:"): array.astype(np.float16) for name, array in box.items()}
    arrays["fc1_weight"] = np.ones((2, 2))
    names = NAMES | {"bn_moving_var": "bn.running_var"}
    arrays["aux:bn_moving_var"] = np.ones(3, np.float64)
    conversion = state_from_params(file_of(arrays), names, BoxRule(), may_drop=("fc1_weight",))
    assert conversion.state["bn.running_var"].dtype == torch.float64
    assert [name for name, _ in conversion.dropped] == ["fc1_weight"]
    assert_restored(file_of(arrays), conversion, names, BoxRule())


@pytest.mark.parametrize(
    ("file", "said"),
    [
        (ParamsFile([], [np.ones(2, np.float32)]), "list of 1 arrays without names"),
        (ParamsFile(["arg:a", "a"], [np.ones(2)] * 2), "'arg:a' and 'a' are two arrays for one parameter"),
        (ParamsFile(["arg:rfcn_bbox_weight"], [np.ones((3, 1, 1, 1), np.float32)]), "8 channels for each bin"),
    ],
)
def test_what_cannot_be_used_is_said(tmp_path, file, said):
    with pytest.raises(WeightsError, match=said):
        state_from_params(file, NAMES, BoxRule())
    with pytest.raises(CheckpointError, match=rf"x\.params: .*{said}"):
        load_weights(small_rfcn(), write_params(tmp_path / "x.params", file))


@pytest.mark.parametrize("method", BUILDERS)
def test_names_and_shapes_are_those_of_the_originals_symbols(method, golden_dir):
    recorded = json.loads((golden_dir / f"param_shapes_{method}.json").read_text())
    with torch.device("meta"):
        model = BUILDERS[method](load_config(), 31)
    own = model.state_dict()
    shapes = {name: list(own[torch_name].shape) for name, torch_name in mxnet_names(model).items()}
    assert shapes == {name: shape for kind in ("arg", "aux") for name, shape in recorded[kind]}


def golden_params(method_shapes, seed):
    """A whole file as the originals would save it, of synthetic weights."""
    arrays = {}
    for kind in ("arg", "aux"):
        for name, shape in method_shapes[kind]:
            arrays[f"{kind}:{name}"] = golden_weight(name, tuple(shape), seed)
    for name in (WEIGHT, BIAS):
        arrays[f"arg:{name}_test"] = by_the_originals_rule(arrays[f"arg:{name}"])
    return file_of(arrays)


def test_a_full_size_deep_feature_flow_file_gives_the_recorded_weights(golden_dir, tmp_path):
    shapes = json.loads((golden_dir / "param_shapes_dff.json").read_text())
    file = golden_params(shapes, 20170713)
    path = write_params(tmp_path / "rfcn_dff_flownet_vid-0000.params", file, "legacy")
    model = build_dff(load_config(), 31)
    load_weights(model, path)
    arrays, state = file.named(), model.state_dict()
    for name, own_name in mxnet_names(model).items():  # as tools.parity.golden_weights loads them
        kind = "aux" if "_moving_" in name else "arg"
        assert same(state.pop(own_name).numpy(), arrays[f"{kind}:{name}"]), name
    assert not state
    path.unlink()  # a temporary folder is kept for a while, and this is 400 MB
    conversion = state_from_params(file, mxnet_names(model), BoxRule())
    assert_restored(file, conversion, mxnet_names(model), BoxRule())


def small_file(model, **kwargs):
    return params_from_state(model.state_dict(), mxnet_names(model), BoxRule(), **kwargs)[0]


@pytest.mark.parametrize("layout", LAYOUTS)
def test_scripts_load_any_layout_under_any_name(tmp_path, layout):
    source, model = small_rfcn(seed=1), small_rfcn(seed=2)
    load_weights(model, write_params(tmp_path / "weights.pth", small_file(source), layout))
    assert all(torch.equal(value, model.state_dict()[name]) for name, value in source.state_dict().items())


def test_scripts_divide_by_the_configured_stds(tmp_path, caplog):
    source = small_rfcn(seed=1)
    path = write_params(tmp_path / "a.params", small_file(source, test_entries=False))
    for stds, scale in (("[0.1, 0.1, 0.2, 0.2]", 1.0), ("[0.2, 0.2, 0.4, 0.4]", 0.5)):
        model = build_rfcn(small_config(f"TRAIN.BBOX_STDS={stds}"), NUM_CLASSES)
        with caplog.at_level(logging.WARNING):
            load_weights(model, path)
        assert "has no _test entry" in caplog.text
        expected = source.detector.head.rfcn_bbox.weight * scale
        torch.testing.assert_close(model.detector.head.rfcn_bbox.weight, expected, rtol=1e-6, atol=0)


def test_backbone_and_flow_files_as_training_begins_from_them(tmp_path, caplog):
    torch.manual_seed(0)
    resnet, other = ResNet(18, 4), ResNet(18, 4)
    file = small_file(resnet)
    file.names += ["arg:fc1_weight", "arg:fc1_bias", "arg:made_up"]
    file.arrays += [np.ones((10, 8), np.float32), np.ones(10, np.float32), np.ones(1, np.float32)]
    write_params(tmp_path / "resnet-0000.params", file)
    path = checkpoint_file(str(tmp_path / "resnet"), 0)
    assert path.name == "resnet-0000.params"
    with caplog.at_level(logging.INFO):
        load_backbone(other, path)
    assert all(torch.equal(value, other.state_dict()[name]) for name, value in resnet.state_dict().items())
    assert "arg:fc1_weight left out" in caplog.text
    (warning,) = (record for record in caplog.records if record.levelno == logging.WARNING)
    assert warning.getMessage().endswith("no use for, left out: arg:made_up")
    save_tensors(resnet.state_dict(), tmp_path / "resnet-0000.pth")
    assert checkpoint_file(str(tmp_path / "resnet"), 0).name == "resnet-0000.pth"  # our own, where both are there

    plain, scaled = FlowNetS(0.05), FlowNetS(0.05, scale_channels=4)
    load_flow(scaled, write_params(tmp_path / "flownet-0000.params", small_file(plain)))
    assert all(torch.equal(value, scaled.state_dict()[name]) for name, value in plain.state_dict().items())


def test_parts_of_another_methods_file(tmp_path, caplog):
    cfg = with_video_keys(small_config(), interval=3)
    source, model = build_fgfa(cfg, NUM_CLASSES), build_dff(cfg, NUM_CLASSES)
    path = write_params(tmp_path / "fgfa.params", small_file(source))
    with caplog.at_level(logging.INFO):
        assert load_parts(model, path, cfg, CLASSES) == {"features", "detector", "flow_net"}
    assert torch.equal(model.flow_net.conv3.weight, source.flow_net.conv3.weight)
    assert "arg:em_conv1_weight" in caplog.text


def test_every_misfit_of_a_params_file_is_named(tmp_path, caplog):
    file = small_file(small_rfcn(seed=1))
    missing = file.names.index("arg:conv1_weight")
    del file.names[missing], file.arrays[missing]
    bias = file.names.index("arg:rfcn_cls_bias")
    file.arrays[bias] = file.arrays[bias][:-1]
    whole = file.names.index("arg:rpn_cls_score_bias")
    file.arrays[whole] = file.arrays[whole].astype(np.int32)
    file.names.append("arg:made_up")
    file.arrays.append(np.ones(1, np.float32))
    model = small_rfcn(seed=2)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with pytest.raises(CheckpointError) as error:
        load_weights(model, write_params(tmp_path / "a.params", file))
    assert "arrays that this model has no use for, left out: arg:made_up" in caplog.text  # as the originals do
    for said in (
        "1 missing in the file: features.resnet.conv1.weight",
        "1 of another shape: detector.head.rfcn_cls.bias",
        "1 of another type: detector.rpn.rpn_cls_score.bias",
    ):
        assert said in str(error.value)
    assert "a.params: arrays that this model has no use for, left out: arg:made_up" in caplog.text
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())


def test_damaged_files_are_refused_by_the_scripts_too(tmp_path):
    path = write_params(tmp_path / "a.params", small_file(small_rfcn()))
    path.write_bytes(path.read_bytes()[:-3])
    with pytest.raises(ParamsError, match=r"a\.params: byte \d+: "):
        load_weights(small_rfcn(), path)


def test_the_originals_files_are_tested_but_not_resumed(tmp_path):
    folder = CheckpointFolder(tmp_path, "rfcn_vid")
    path = write_params(tmp_path / "rfcn_vid-0002.params", small_file(small_rfcn()))
    assert folder.weights_of_epoch(2) == path
    assert folder.weights_of_epoch(1) == folder.of_epoch(1)
    for attempt in (folder.newest, lambda: load_checkpoint(path)):
        with pytest.raises(CheckpointError, match=r"rfcn_vid-0002\.params: .*no state.*network\.pretrained_model"):
            attempt()
