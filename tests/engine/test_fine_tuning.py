"""A detector for other classes than the file's: what is copied class by class, what is new, what is refused, what is
said.
"""

import logging
from dataclasses import replace

import numpy as np
import pytest
import torch

from dff.model import build_dff
from fgfa.model import build_fgfa
from lib.checkpoints.mxnet_params import write_params
from lib.checkpoints.mxnet_state import BoxRule, params_from_state
from lib.config import to_dict
from lib.data.classes import IMAGENET_VID, Classes
from lib.engine.checkpoint import CheckpointError, Identity, save_tensors
from lib.engine.class_transfer import match_classes
from lib.engine.compatibility import require_same_function
from lib.engine.pretrained import load_pretrained
from lib.engine.run import Run
from lib.models.mxnet_names import mxnet_names
from rfcn.method import METHOD
from rfcn.model import build_rfcn
from tests.models.small import small_config, with_video_keys

CELLS = 7 * 7
ANIMALS = Classes(("cat", "dog", "fox"), ("n01", "n02", "n03"))


def config(*overrides):
    return with_video_keys(small_config(*overrides), interval=3)


def detector(classes, seed, build=build_rfcn, cfg=None):
    """A detector whose class layer differs in every channel."""
    torch.manual_seed(seed)
    return build(cfg or config(), classes.num_classes)


def checkpoint(path, model, classes, cfg=None):
    identity = Identity("rfcn", to_dict(cfg or config()), classes)
    return save_tensors({"model": model.state_dict(), **identity.to_content()}, path)


def as_the_originals_save(path, model):
    return write_params(path, params_from_state(model.state_dict(), mxnet_names(model), BoxRule())[0])


def load(path, classes, seed=2, build=build_rfcn, cfg=None):
    """(the new model before, after) loading from `path`."""
    cfg = cfg or config()
    cfg.network.pretrained_model = str(path)
    before, after = (detector(classes, seed, build, cfg) for _ in range(2))
    load_pretrained(after, cfg, classes)
    return before, after


def channels_of(model, label):
    """Weight and bias of a class: channel (c * 7 + i) * 7 + j of the class layer, bin by bin."""
    layer = model.detector.head.rfcn_cls
    numbers = [(label * 7 + i) * 7 + j for i in range(7) for j in range(7)]
    return torch.cat((layer.weight[numbers].flatten(1), layer.bias[numbers][:, None]), dim=1)


def assert_everything_else_is_the_files(after, source):
    own = after.state_dict()
    same = {name: value for name, value in source.state_dict().items() if "rfcn_cls" not in name}
    assert same.keys() == {name for name in own if "rfcn_cls" not in name}
    assert all(torch.equal(own[name], value) for name, value in same.items())


def test_classes_are_copied_by_name_and_the_others_are_new(tmp_path, caplog):
    source = detector(ANIMALS, seed=1)
    path = checkpoint(tmp_path / "animals.pth", source, ANIMALS)
    own = Classes(("owl", "fox", "hound", "cat"), ("b01", "b02", "n02", "b04"))  # "hound" is annotated as dogs are
    with caplog.at_level(logging.INFO):
        before, after = load(path, own)
    for label, theirs in {0: 0, 2: 3, 3: 2, 4: 1}.items():
        assert torch.equal(channels_of(after, label), channels_of(source, theirs))
        assert not torch.equal(channels_of(after, label), channels_of(before, label))
    assert torch.equal(channels_of(after, 1), channels_of(before, 1))
    assert_everything_else_is_the_files(after, source)
    told = "animals.pth: classes of rfcn_cls: copied: background, fox, hound, cat; new: owl; not used of the file: -"
    assert told in caplog.text


def test_copied_classes_score_as_they_did(tmp_path):
    """By what the head computes: the maps of a class vote for it, wherever it stands in the list."""
    source = detector(ANIMALS, seed=1)
    path = checkpoint(tmp_path / "animals.pth", source, ANIMALS)
    own = Classes(("owl", "dog", "cat"), ("owl", "dog", "cat"))
    _, after = load(path, own)
    features = torch.randn(1, 16, 9, 9)
    rois = torch.tensor([[0, 10.0, 20.0, 90.0, 110.0], [0, 0.0, 0.0, 140.0, 140.0]])
    with torch.no_grad():
        (expected, boxes), (scores, own_boxes) = (m.detector.head(features, rois) for m in (source, after))
    assert torch.equal(scores[:, [0, 2, 3]], expected[:, [0, 2, 1]])
    assert torch.equal(own_boxes, boxes)


def test_the_same_classes_are_taken_whole(tmp_path):
    source = detector(ANIMALS, seed=1)
    _, after = load(checkpoint(tmp_path / "a.pth", source, ANIMALS), ANIMALS)
    assert all(torch.equal(value, after.state_dict()[name]) for name, value in source.state_dict().items())


def test_equally_many_classes_of_other_names_are_not_assumed_equal(tmp_path):
    source = detector(ANIMALS, seed=1)
    own = Classes(("car", "bus", "van"), ("car", "bus", "van"))
    before, after = load(checkpoint(tmp_path / "a.pth", source, ANIMALS), own)
    assert torch.equal(channels_of(after, 0), channels_of(source, 0))
    for label in (1, 2, 3):
        assert torch.equal(channels_of(after, label), channels_of(before, label))


@pytest.mark.parametrize("suffix", ["params", "pth"])
def test_31_classes_without_names_are_imagenet_vids(tmp_path, caplog, suffix):
    source = detector(IMAGENET_VID, seed=1)
    path = tmp_path / f"vid.{suffix}"
    if suffix == "params":
        as_the_originals_save(path, source)
    else:
        save_tensors({"model": source.state_dict()}, path)
    own = Classes(("zebra", "forklift", "air plane"), ("zebra", "forklift", "n02691156"))
    with caplog.at_level(logging.INFO):
        before, after = load(path, own)
    for label, theirs in {0: 0, 1: 30, 3: 1}.items():
        assert torch.equal(channels_of(after, label), channels_of(source, theirs))
    assert torch.equal(channels_of(after, 2), channels_of(before, 2))
    assert_everything_else_is_the_files(after, source)
    assert "30 are taken for ImageNet VID's" in caplog.text
    assert "copied: background, zebra, air plane; new: forklift; not used of the file: antelope, bear," in caplog.text


def test_of_other_files_without_names_only_the_background_is_copied(tmp_path, caplog):
    source = detector(ANIMALS, seed=1)
    own = Classes(("cat", "dog"), ("n01", "n02"))
    before, after = load(as_the_originals_save(tmp_path / "a.params", source), own)
    assert torch.equal(channels_of(after, 0), channels_of(source, 0))
    for label in (1, 2):
        assert torch.equal(channels_of(after, label), channels_of(before, label))
    assert_everything_else_is_the_files(after, source)
    warnings = [record.message for record in caplog.records if record.levelno == logging.WARNING]
    assert any("a.params: it does not name its classes, and their number is neither" in text for text in warnings)


def test_as_many_classes_without_names_are_taken_for_the_same(tmp_path, caplog):
    source = detector(ANIMALS, seed=1)
    _, after = load(save_tensors(source.state_dict(), tmp_path / "old.pth"), ANIMALS)
    assert torch.equal(after.detector.head.rfcn_cls.weight, source.detector.head.rfcn_cls.weight)
    assert "as many as here, they are taken for the same" in caplog.text


@pytest.mark.parametrize("build", [build_dff, build_fgfa], ids=["dff", "fgfa"])
def test_a_video_method_begins_from_a_detector_of_other_classes(tmp_path, build):
    source = detector(ANIMALS, seed=1)
    path = checkpoint(tmp_path / "a.pth", source, ANIMALS)
    own = Classes(("owl", "cat"), ("owl", "cat"))
    before, after = load(path, own, build=build)
    assert torch.equal(channels_of(after, 2), channels_of(source, 1))
    assert torch.equal(channels_of(after, 1), channels_of(before, 1))
    assert torch.equal(after.features.feat_conv_3x3.weight, source.features.feat_conv_3x3.weight)
    assert torch.equal(after.flow_net.conv3.weight, before.flow_net.conv3.weight)


def test_half_precision_files_become_float32(tmp_path):
    source = detector(ANIMALS, seed=1)
    content = {name: value.half() for name, value in source.state_dict().items()}
    _, after = load(save_tensors(content, tmp_path / "half.pth"), ANIMALS)
    assert after.detector.head.rfcn_cls.weight.dtype == torch.float32
    assert torch.equal(channels_of(after, 1), channels_of(source, 1).half().float())


@pytest.mark.parametrize(
    ("own", "theirs", "pairs"),
    [
        # the display name counts first: "dog" is the file's "dog", though annotated as its "cat"
        ((("dog",), ("n01",)), (("cat", "dog"), ("n01", "n02")), ((0, 0), (1, 2))),
        # a class of the file is given to one class only
        ((("cat", "kitten"), ("b1", "n01")), (("cat",), ("n01",)), ((0, 0), (1, 1))),
        # capitals count
        ((("Cat",), ("Cat",)), (("cat",), ("n01",)), ((0, 0),)),
    ],
)
def test_which_names_match(own, theirs, pairs):
    own, theirs = Classes(*own), Classes(*theirs)
    match = match_classes(own, theirs, theirs.num_classes)
    assert match.pairs == pairs
    assert set(match.new) == {own.names[n] for n in range(len(own.names)) if n + 1 not in dict(pairs)}
    assert set(match.unused) == {theirs.names[n] for n in range(len(theirs.names)) if n + 1 not in dict(pairs).values()}


DIFFERENT = {
    ("ANCHOR_SCALES", (2.0, 4.0, 8.0)): r"number of anchors, network\.ANCHOR_RATIOS x .*SCALES is 6 in the file and 4",
    ("FEAT_DIM", 64): r"network\.FEAT_DIM is 64 in the file and 32 here",
    ("DEPTH", 34): r"network\.DEPTH is 34 in the file and 18 here",
    ("WIDTH", 8): r"network\.WIDTH is 8 in the file and 16 here",
}


@pytest.mark.parametrize("form", ["params", "pth"])
@pytest.mark.parametrize("key", DIFFERENT, ids=lambda key: key[0])
def test_another_network_is_refused_with_the_key(tmp_path, key, form):
    cfg = config()
    cfg.network[key[0]] = key[1]
    source = detector(ANIMALS, 1, cfg=cfg)
    path = tmp_path / f"other.{form}"
    if form == "params":
        as_the_originals_save(path, source)
    else:
        checkpoint(path, source, ANIMALS, cfg)
    with pytest.raises(CheckpointError, match=rf"other\.{form}: .*{DIFFERENT[key]}"):
        load(path, ANIMALS)


def test_flow_networks_of_another_width_are_refused_with_the_key(tmp_path):
    cfg = config()
    source = detector(ANIMALS, 1, build_dff, cfg)
    path = checkpoint(tmp_path / "dff.pth", source, ANIMALS)
    cfg = config()
    cfg.network.FLOW_WIDTH = 0.25
    with pytest.raises(CheckpointError, match=r"network\.FLOW_WIDTH is 0\.125 in the file and 0\.25 here"):
        load(path, ANIMALS, build=build_dff, cfg=cfg)


SAME_SHAPES = {
    "network.STYLE=pytorch": r"network\.STYLE is pytorch in the file and caffe here",
    "network.PIXEL_STDS=[57, 57, 58]": r"network\.PIXEL_STDS is \[57\.0, 57\.0, 58\.0\] in the file and \[1\.0",
}


@pytest.mark.parametrize("key", SAME_SHAPES)
def test_weights_that_fit_and_mean_something_else_are_refused(tmp_path, key):
    theirs = config("network.DEPTH=50", key)
    path = checkpoint(tmp_path / "a.pth", detector(ANIMALS, 1, cfg=theirs), ANIMALS, theirs)
    with pytest.raises(CheckpointError, match=SAME_SHAPES[key]):
        load(path, ANIMALS, cfg=config("network.DEPTH=50"))
    load(path, ANIMALS, cfg=config("network.DEPTH=50", key))
    run = Run(
        METHOD, config("network.DEPTH=50"), "a", torch.device("cpu"), path, Identity("rfcn", to_dict(theirs), ANIMALS)
    )
    with pytest.raises(CheckpointError, match=SAME_SHAPES[key]):  # a test and a demo with another --cfg, too
        run.load_model(ANIMALS)
    replace(run, cfg=theirs).load_model(ANIMALS)


def test_a_checkpoint_from_before_these_keys_has_their_defaults(tmp_path):
    old = to_dict(config())
    del old["network"]["STYLE"], old["network"]["PIXEL_STDS"]
    require_same_function(Identity("rfcn", old, ANIMALS), config(), "old.pth")
    with pytest.raises(CheckpointError, match=r"STYLE is caffe in the file and pytorch here"):
        require_same_function(Identity("rfcn", old, ANIMALS), config("network.STYLE=pytorch"), "old.pth")


def test_what_training_has_to_adapt_is_warned_of(tmp_path, caplog):
    theirs = config("network.ANCHOR_SCALES=[3, 5]", "TRAIN.BBOX_STDS=[0.2, 0.2, 0.4, 0.4]")
    load(checkpoint(tmp_path / "a.pth", detector(ANIMALS, 1, cfg=theirs), ANIMALS, theirs), ANIMALS)
    assert "network.ANCHOR_SCALES is [3.0, 5.0] in the file and [2.0, 4.0] here; TRAIN.BBOX_STDS" in caplog.text


def test_a_class_layer_of_another_form_is_named(tmp_path):
    source = detector(ANIMALS, seed=1)
    content = dict(source.state_dict())
    content["detector.head.rfcn_cls.weight"] = content["detector.head.rfcn_cls.weight"][: 3 * CELLS + 1]
    with pytest.raises(CheckpointError, match=r"rfcn_cls\.weight|number of classes"):
        load(save_tensors(content, tmp_path / "cut.pth"), ANIMALS)
    wrong = Classes(("a",), ("a",))
    with pytest.raises(CheckpointError, match=r"names 1 classes, but its layer rfcn_cls has 3 and the background"):
        load(checkpoint(tmp_path / "wrong.pth", source, wrong), ANIMALS)


def test_new_classes_begin_as_in_training_from_a_backbone(tmp_path):
    source = detector(ANIMALS, seed=1)
    with torch.no_grad():
        source.detector.head.rfcn_cls.weight.fill_(3.0)
        source.detector.head.rfcn_cls.bias.fill_(1.0)
    own = Classes(tuple(f"new {n}" for n in range(20)), tuple(f"n{n}" for n in range(20)))
    _, after = load(checkpoint(tmp_path / "a.pth", source, ANIMALS), own)
    fresh = after.detector.head.rfcn_cls.weight[CELLS:]
    assert abs(float(fresh.detach().std()) - 0.01) < 5e-4
    assert np.all(after.detector.head.rfcn_cls.bias[CELLS:].detach().numpy() == 0)
    assert torch.equal(after.detector.head.rfcn_cls.bias[:CELLS], torch.ones(CELLS))
