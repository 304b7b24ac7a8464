"""The six YAML files of the originals load, and the faithful configurations have their values."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
import yaml

from dff.method import references as dff_references
from fgfa.method import references as fgfa_references
from lib.config import ConfigError, default_config, load_config, to_dict
from lib.config.originals import IGNORED

ROOT = Path(__file__).resolve().parents[1]
FAITHFUL = {
    "rfcn": "configs/rfcn/resnet_v1_101_imagenet_vid_rfcn_end2end_ohem.yaml",
    "dff": "configs/dff/resnet_v1_101_flownet_imagenet_vid_rfcn_end2end_ohem.yaml",
    "fgfa": "configs/fgfa/resnet_v1_101_flownet_imagenet_vid_rfcn_end2end_ohem.yaml",
}
# What all six files say, in the way in which they write it
COMMON = """
CLASS_AGNOSTIC: true
SCALES:
- 600
- 1000
default: {frequent: 100, kvstore: device}
network:
  PIXEL_MEANS: [103.06, 115.90, 123.15]
  IMAGE_STRIDE: 0
  RCNN_FEAT_STRIDE: 16
  RPN_FEAT_STRIDE: 16
  FIXED_PARAMS: [conv1, bn_conv1, res2, bn2, gamma, beta]
  ANCHOR_RATIOS: [0.5, 1, 2]
  ANCHOR_SCALES: [8, 16, 32]
  ANCHOR_MEANS: [0.0, 0.0, 0.0, 0.0]
  ANCHOR_STDS: [0.1, 0.1, 0.4, 0.4]
  NORMALIZE_RPN: TRUE
  NUM_ANCHORS: 9
dataset:
  NUM_CLASSES: 31
  dataset: ImageNetVID
  dataset_path: "./data/ILSVRC2015"
  image_set: DET_train_30classes+VID_train_15frames
  root_path: "./data"
  test_image_set: VID_val_videos
  proposal: rpn
TRAIN:
  {lr: 0.00025, lr_step: '1.333', warmup: false, begin_epoch: 0, end_epoch: 2, RESUME: false, FLIP: true,
  SHUFFLE: true, ENABLE_OHEM: true, BATCH_IMAGES: 1, END2END: true, ASPECT_GROUPING: true, BATCH_ROIS: -1,
  BATCH_ROIS_OHEM: 128, FG_FRACTION: 0.25, FG_THRESH: 0.5, BG_THRESH_HI: 0.5, BG_THRESH_LO: 0.0,
  BBOX_REGRESSION_THRESH: 0.5, BBOX_WEIGHTS: [1.0, 1.0, 1.0, 1.0], RPN_BATCH_SIZE: 256, RPN_FG_FRACTION: 0.5,
  RPN_POSITIVE_OVERLAP: 0.7, RPN_NEGATIVE_OVERLAP: 0.3, RPN_CLOBBER_POSITIVES: false,
  RPN_BBOX_WEIGHTS: [1.0, 1.0, 1.0, 1.0], RPN_POSITIVE_WEIGHT: -1.0, CXX_PROPOSAL: true, RPN_NMS_THRESH: 0.7,
  RPN_PRE_NMS_TOP_N: 6000, RPN_POST_NMS_TOP_N: 300, RPN_MIN_SIZE: 0, BBOX_NORMALIZATION_PRECOMPUTED: true,
  BBOX_MEANS: [0.0, 0.0, 0.0, 0.0], BBOX_STDS: [0.1, 0.1, 0.2, 0.2]}
TEST:
  {HAS_RPN: true, BATCH_IMAGES: 1, CXX_PROPOSAL: true, RPN_NMS_THRESH: 0.7, RPN_PRE_NMS_TOP_N: 6000,
  RPN_POST_NMS_TOP_N: 300, RPN_MIN_SIZE: 0, NMS: 0.3, test_epoch: 2}
"""
MOTION = "./lib/dataset/imagenet_vid_groundtruth_motion_iou.mat"
# What differs between the methods, and, in the second part of each, what the demo's file does not have
OWN = {
    "rfcn": (
        {
            "MXNET_VERSION": "mxnet",
            "output_path": "./output/rfcn/imagenet_vid",
            "dataset.test_image_set": "VID_val_frames",
            "TRAIN.model_prefix": "rfcn_vid",
        },
        {"symbol": "resnet_v1_101_rfcn"},
    ),
    "dff": (
        {
            "MXNET_VERSION": "mxnet",
            "output_path": "./output/dff_rfcn/imagenet_vid",
            "TRAIN.model_prefix": "dff_rfcn_vid",
        },
        {
            "symbol": "resnet_v1_101_flownet_rfcn",
            "network.pretrained_flow": "./model/pretrained_model/flownet",
        },
    ),
    "fgfa": (
        {
            "MXNET_VERSION": "",
            "output_path": "./output/fgfa_rfcn/imagenet_vid",
            "network.FIXED_PARAMS": ["conv1", "res2", "bn"],
            "TRAIN.model_prefix": "fgfa_rfcn_vid",
            "TEST.SEQ_NMS": False,
        },
        {
            "symbol": "resnet_v1_101_flownet_rfcn",
            "network.pretrained_flow": "./model/pretrained_model/flownet",
            "dataset.motion_iou_path": MOTION,
            "dataset.enable_detailed_eval": True,
        },
    ),
}
TRAINING = {
    "gpus": "0,1,2,3",
    "network.pretrained": "./model/pretrained_model/resnet_v1_101",
    "network.pretrained_epoch": 0,
}
# Keys in which the faithful configuration says something else than the originals' file, and why
DOCUMENTED = {
    ("rfcn", "dataset.test_image_set"): ("VID_val_frames", "VID_val_videos"),  # the same frames, listed by video
    ("fgfa", "dataset.motion_iou_path"): (MOTION, ""),  # computed from the track ids where there is no file
    ("dff", "TEST.KEY_FRAME_INTERVAL"): (0, 10),  # 0 is the method's own, which is 10 and 9
    ("fgfa", "TEST.KEY_FRAME_INTERVAL"): (0, 9),
    **{(method, "TEST.test_epoch"): (2, 0) for method in FAITHFUL},  # 0 is TRAIN.end_epoch, which is 2
}
# Values of the originals' config.py that their YAML files leave as they are
DEFAULTS = {
    "TRAIN.momentum": 0.9,
    "TRAIN.wd": 0.0005,
    "TRAIN.lr_factor": 0.1,
    "TRAIN.warmup_lr": 0,
    "TRAIN.warmup_step": 0,
    "TEST.max_per_image": 300,
    "network.FGFA_FEAT_DIM": 3072,
}
FILES = [(method, demo) for method in FAITHFUL for demo in (False, True)]


def put(tree: dict, name: str, value: object) -> None:
    *sections, key = name.split(".")
    for section in sections:
        tree = tree[section]
    tree[key] = value


def flat(tree: dict, prefix: str = "") -> dict:
    found = {}
    for key, value in tree.items():
        found |= flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return found


def original(method: str, demo: bool) -> dict:
    tree = yaml.safe_load(COMMON)
    everywhere, training_only = OWN[method]
    more = {"gpus": "0"} if demo else TRAINING | training_only
    for name, value in (everywhere | more).items():
        put(tree, name, value)
    return tree


@pytest.fixture
def load_original(tmp_path):
    def load(method: str, demo: bool):
        path = tmp_path / "original.yaml"
        path.write_text(yaml.safe_dump(original(method, demo), sort_keys=False))
        return load_config(path)

    return load


@pytest.mark.parametrize(("method", "demo"), FILES)
def test_one_warning_names_the_keys_without_a_meaning(load_original, method, demo, caplog):
    with caplog.at_level(logging.WARNING):
        load_original(method, demo)
    (record,) = caplog.records
    message = record.getMessage()
    expected = {name for name in flat(original(method, demo)) if name in IGNORED}
    assert "original.yaml: keys without a meaning here" in message
    assert set(message.partition("ignored: ")[2].split(", ")) == expected
    assert expected >= {"CLASS_AGNOSTIC", "TRAIN.END2END", "TEST.HAS_RPN", "dataset.proposal", "default.kvstore"}


@pytest.mark.parametrize(("method", "demo"), FILES)
def test_every_value_of_the_file_arrives(load_original, method, demo):
    loaded = flat(to_dict(load_original(method, demo)))
    for name, value in flat(original(method, demo)).items():
        if name == "gpus":
            assert loaded["TRAIN.BATCHES_PER_UPDATE"] == len(value.split(","))
        elif name not in IGNORED and name != "network.NUM_ANCHORS":
            assert loaded[name] == ([value] if name == "SCALES" else value), name
    for name, value in DEFAULTS.items():
        assert loaded[name] == value


@pytest.mark.parametrize("method", FAITHFUL)
def test_the_faithful_configuration_is_the_originals(load_original, method):
    theirs, ours = flat(to_dict(load_original(method, False))), flat(to_dict(load_config(ROOT / FAITHFUL[method])))
    different = {(method, name): (theirs[name], ours[name]) for name in ours if theirs[name] != ours[name]}
    assert different == {key: value for key, value in DOCUMENTED.items() if key[0] == method}


@pytest.mark.parametrize("method", FAITHFUL)
def test_the_demo_file_differs_in_what_training_needs(load_original, method):
    training, demo = (flat(to_dict(load_original(method, demo))) for demo in (False, True))
    assert {name for name in training if training[name] != demo[name]} == {
        "TRAIN.BATCHES_PER_UPDATE",
        "network.pretrained",
        *(("network.pretrained_flow",) if method != "rfcn" else ()),
        *(("dataset.motion_iou_path",) if method == "fgfa" else ()),
    }


@pytest.mark.parametrize(
    ("method", "references", "offsets"), [("dff", dff_references, (-9, 0)), ("fgfa", fgfa_references, (-9, 9))]
)
def test_offsets_of_reference_frames_are_the_originals(load_original, method, references, offsets):
    """Their MIN_OFFSET and MAX_OFFSET are in config.py alone; here they follow from the window in testing."""
    for cfg in (load_original(method, False), load_config(ROOT / FAITHFUL[method])):
        rule = references(cfg)
        assert (rule.keywords["min_offset"], rule.keywords["max_offset"]) == offsets


@pytest.mark.parametrize(
    ("name", "wrong", "reason"),
    [
        ("CLASS_AGNOSTIC", False, "must be true, not False: boxes are class-agnostic"),
        ("network.NORMALIZE_RPN", False, "must be true.*deltas are always normalised; set ANCHOR_STDS to 1"),
        ("network.RPN_FEAT_STRIDE", 8, "must be 16, not 8: the networks have stride 16"),
        ("network.RCNN_FEAT_STRIDE", 32, "must be 16, not 32"),
        ("network.RCNN_FEAT_STRIDE", [16], r"must be 16, not \[16\]"),
        ("TRAIN.END2END", False, "must be true, not False: training is end to end"),
        ("TEST.HAS_RPN", False, "must be true, not False: proposals always come from the RPN"),
        ("TRAIN.CXX_PROPOSAL", False, "must be true"),
        ("TEST.CXX_PROPOSAL", None, "must be true, not None"),
        ("TRAIN.BBOX_NORMALIZATION_PRECOMPUTED", False, "must be true"),
        ("TRAIN.RPN_POSITIVE_WEIGHT", 0.5, "must be -1, not 0.5: all anchors have equal weight"),
        ("dataset.proposal", "selective_search", "must be rpn, not 'selective_search'"),
        ("network.NUM_ANCHORS", 12, "is 12, but ANCHOR_RATIOS x ANCHOR_SCALES give 9; leave it out"),
        ("network.NUM_ANCHORS", "nine", "must be a whole number, not 'nine'"),
        ("network.NUM_ANCHORS", True, "must be a whole number, not True"),
        pytest.param("network.NUM_ANCHORS", 10**5000, "is a whole number too long to show, but", id="huge"),
    ],
)
def test_keys_that_accept_one_value_refuse_others_with_the_reason(name, wrong, reason):
    tree = original("fgfa", False)
    put(tree, name, wrong)
    with pytest.raises(ConfigError, match=f"^the file: '{name}' {reason}"):
        load_config(base=tree, base_name="the file")


@pytest.mark.parametrize(("gpus", "batches"), [("0,1,2,3", 4), ("0", 1), (0, 1), ("", 1), (None, 1), (" 2 , 5,", 2)])
def test_gpus_become_batches_of_an_update(gpus, batches):
    assert batches == load_config(base={"gpus": gpus}, base_name="file").TRAIN.BATCHES_PER_UPDATE


@pytest.mark.parametrize(
    "gpus",
    ["zero", "0;1", "-1", "²", "1.5", 1.5, True, [0, 1], {"a": 1}, -1, "9" * 50]
    + [pytest.param(10**5000, id="huge"), pytest.param("0," * 5000, id="many")],
)
def test_gpus_that_are_no_numbers(gpus):
    with pytest.raises(ConfigError, match="^file: 'gpus' must be"):
        load_config(base={"gpus": gpus}, base_name="file")


def test_gpus_and_batches_per_update_say_the_same_thing():
    with pytest.raises(ConfigError, match="^file: 'gpus' sets 'TRAIN.BATCHES_PER_UPDATE'; give one of the two"):
        load_config(base={"TRAIN": {"BATCHES_PER_UPDATE": 2}, "gpus": "0"}, base_name="file")
    assert load_config(overrides=["gpus=0,1", "TRAIN.BATCHES_PER_UPDATE=3"]).TRAIN.BATCHES_PER_UPDATE == 3
    assert load_config(overrides=["TRAIN.BATCHES_PER_UPDATE=3", "gpus=0,1"]).TRAIN.BATCHES_PER_UPDATE == 2


def test_no_key_is_both_known_and_ignored():
    assert not IGNORED.keys() & flat(to_dict(default_config())).keys()
