"""Configuration: every YAML file loads, the originals' files load, and each mistake is named."""

import logging
import re
from pathlib import Path

import pytest
import yaml

from lib.config import (
    WITHOUT_MEANING,
    ConfigError,
    batches_per_update,
    default_config,
    load_config,
    lr_steps,
    to_dict,
)

ROOT = Path(__file__).resolve().parents[1]
FAITHFUL = ROOT / "configs/rfcn/resnet_v1_101_imagenet_vid_rfcn_end2end_ohem.yaml"

# The original R-FCN file, key by key, from section 9 of the description of the originals.
ORIGINAL_RFCN = """
MXNET_VERSION: "mxnet"
output_path: "./output/rfcn/imagenet_vid"
symbol: resnet_v1_101_rfcn
gpus: '0,1,2,3'
CLASS_AGNOSTIC: true
SCALES:
- 600
- 1000
default: {frequent: 100, kvstore: device}
network:
  pretrained: "./model/pretrained_model/resnet_v1_101"
  pretrained_epoch: 0
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
dataset: {NUM_CLASSES: 31, dataset: ImageNetVID, dataset_path: "./data/ILSVRC2015", proposal: rpn,
  image_set: DET_train_30classes+VID_train_15frames, root_path: "./data", test_image_set: VID_val_frames}
TRAIN: {lr: 0.00025, lr_step: '1.333', warmup: false, begin_epoch: 0, end_epoch: 2, model_prefix: rfcn_vid,
  RESUME: false, FLIP: true, SHUFFLE: true, ASPECT_GROUPING: true, ENABLE_OHEM: true, BATCH_IMAGES: 1, BATCH_ROIS: -1,
  BATCH_ROIS_OHEM: 128, END2END: true, CXX_PROPOSAL: true, RPN_POSITIVE_WEIGHT: -1.0, RPN_PRE_NMS_TOP_N: 6000,
  BBOX_NORMALIZATION_PRECOMPUTED: true, BBOX_REGRESSION_THRESH: 0.5, RPN_POST_NMS_TOP_N: 300, RPN_MIN_SIZE: 0}
TEST: {HAS_RPN: true, BATCH_IMAGES: 1, CXX_PROPOSAL: true, NMS: 0.3, RPN_MIN_SIZE: 0, test_epoch: 2}
"""


PRESETS = sorted(ROOT.glob("configs/presets/*.yaml"))
CONFIGURATIONS = sorted(set(ROOT.glob("configs/*/*.yaml")) - set(PRESETS))


@pytest.mark.parametrize("path", CONFIGURATIONS, ids=lambda path: path.stem)
def test_every_configuration_in_the_repository_loads_without_a_warning(path, caplog):
    with caplog.at_level(logging.WARNING):
        cfg = load_config(path)
    assert not caplog.records
    assert cfg.TRAIN.end_epoch > 0
    assert load_config(None, []).TRAIN.end_epoch == 0, "loading a file must not change the defaults"


@pytest.mark.parametrize("preset", PRESETS, ids=lambda path: path.stem)
@pytest.mark.parametrize("path", CONFIGURATIONS, ids=lambda path: path.stem)
def test_a_preset_changes_what_it_names_and_nothing_else(path, preset, caplog):
    with caplog.at_level(logging.WARNING):
        plain, changed = to_dict(load_config(path)), to_dict(load_config(path, presets=[preset]))
    assert not caplog.records
    for section, values in yaml.safe_load(preset.read_text()).items():
        for key, value in values.items():
            assert changed[section].pop(key) == value
            del plain[section][key]
    assert changed == plain


def test_the_command_line_goes_over_a_preset_and_a_preset_over_the_file(tmp_path):
    (tmp_path / "preset.yaml").write_text("TRAIN: {lr: 0.5, wd: 0.25}")
    cfg = load_config(FAITHFUL, ["TRAIN.wd=0.125"], [tmp_path / "preset.yaml"])
    assert (cfg.TRAIN.lr, cfg.TRAIN.wd, cfg.TRAIN.end_epoch) == (0.5, 0.125, 2)


def test_a_mistake_in_a_preset_names_the_preset(tmp_path):
    (tmp_path / "preset.yaml").write_text("TRAIN: {lrr: 0.5}")
    with pytest.raises(ConfigError, match="preset.yaml.*TRAIN.lrr"):
        load_config(FAITHFUL, presets=[tmp_path / "preset.yaml"])


def test_the_faithful_configuration_has_the_originals_values(tmp_path):
    (tmp_path / "original.yaml").write_text(ORIGINAL_RFCN)
    original, ours = to_dict(load_config(tmp_path / "original.yaml")), to_dict(load_config(FAITHFUL))
    original["dataset"]["test_image_set"] = ours["dataset"]["test_image_set"]  # the same frames, listed by video
    assert original == ours


def test_an_original_file_loads_with_one_warning_that_names_what_has_no_meaning(tmp_path, caplog):
    path = tmp_path / "original.yaml"
    path.write_text(ORIGINAL_RFCN)
    with caplog.at_level(logging.WARNING):
        cfg = load_config(path)
    assert len(caplog.records) == 1
    message = caplog.records[0].getMessage()
    assert str(path) in message
    for key in ("MXNET_VERSION", "symbol", "default.kvstore", "TRAIN.CXX_PROPOSAL", "TEST.HAS_RPN", "dataset.proposal"):
        assert key in message
    assert cfg.SCALES == [[600, 1000]]
    assert lr_steps(cfg) == [1.333]
    assert batches_per_update(cfg) == 4


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("TRAIN: {lrr: 1}", ["unknown key 'TRAIN.lrr'", "lr_step"]),
        ("nonsense: 1", ["unknown key 'nonsense'"]),
        ("TRAIN: 3", ["'TRAIN' is a section"]),
        ("TRAIN: {lr: fast}", ["'TRAIN.lr'", "'fast'"]),
        ("TRAIN: {FLIP: 1}", ["'TRAIN.FLIP'", "bool"]),
        ("TRAIN: {end_epoch: 1.5}", ["'TRAIN.end_epoch'", "int"]),
        ("network: {PIXEL_MEANS: 3}", ["'network.PIXEL_MEANS'", "list"]),
        ("network: {DEPTH: 20}", ["'network.DEPTH'", "101"]),
        ("network: {FEAT_DIM: 7}", ["'network.FEAT_DIM'", "even"]),
        ("network: {ANCHOR_SCALES: [8, 16]}", ["'network.NUM_ANCHORS' is 9", "6"]),
        ("network: {FGFA_FEAT_DIM: 1024}", ["'network.FGFA_FEAT_DIM' 1024", "embedding"]),
        ("TRAIN: {MIN_OFFSET: 1}", ["'TRAIN.MIN_OFFSET' 1", "MAX_OFFSET 0"]),
        ("TEST: {KEY_FRAME_INTERVAL: -1}", ["'TEST.KEY_FRAME_INTERVAL'"]),
        ("SCALES: [[600, 1000], [800, 1000]]", ["'SCALES'"]),
        ("TRAIN: {lr_step: soon}", ["'TRAIN.lr_step'"]),
        ("gpus: zero", ["'gpus'"]),
        ("- a list", ["must hold 'key: value'"]),
        ("a: [", ["not valid YAML"]),
    ],
)
def test_a_mistake_in_a_file_is_named(tmp_path, text, parts):
    path = tmp_path / "mine.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError) as error:
        load_config(path)
    for part in [str(path), *parts]:
        assert part in str(error.value)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(ConfigError, match="nowhere.yaml"):
        load_config(tmp_path / "nowhere.yaml")


def test_the_command_line_has_the_last_word():
    cfg = load_config(FAITHFUL, ["TRAIN.lr=1e-3", "network.DEPTH=50", "TRAIN.lr_step=1,1.5", "gpus=", "TRAIN.FLIP=no"])
    assert (cfg.TRAIN.lr, cfg.network.DEPTH, cfg.TRAIN.FLIP) == (1e-3, 50, False)
    assert lr_steps(cfg) == [1.0, 1.5]
    assert batches_per_update(cfg) == 1


def test_a_list_that_the_file_emptied_can_be_filled_again(tmp_path):
    (tmp_path / "mine.yaml").write_text("network: {FIXED_PARAMS: []}")
    assert load_config(tmp_path / "mine.yaml").network.FIXED_PARAMS == []
    again = load_config(tmp_path / "mine.yaml", ["network.FIXED_PARAMS=[conv1, bn]"])
    assert again.network.FIXED_PARAMS == ["conv1", "bn"]


@pytest.mark.parametrize("override", ["TRAIN.lr", "TRAIN.nothing=1", "TRAIN.lr=[", "TRAIN.lr=[1]"])
def test_a_mistake_on_the_command_line_is_named(override):
    with pytest.raises(ConfigError, match="command line"):
        load_config(FAITHFUL, [override])


def test_a_configuration_survives_yaml(tmp_path):
    cfg = load_config(FAITHFUL)
    path = tmp_path / "again.yaml"
    path.write_text(yaml.safe_dump(to_dict(cfg)))
    assert to_dict(load_config(path)) == to_dict(cfg)


def test_every_key_is_read_somewhere():
    sources = [path for folder in ("lib", "rfcn", "dff", "fgfa", "tools") for path in (ROOT / folder).rglob("*.py")]
    text = "".join(path.read_text() for path in sources if path.name != "config.py")
    text += (ROOT / "lib/config.py").read_text().partition("class ConfigError")[2]
    keys = [key for name, value in default_config().items() for key in (value if isinstance(value, dict) else [name])]
    unread = [key for key in keys if not re.search(rf"\.{key}\b", text)]
    assert unread == []


def test_no_key_is_both_known_and_without_meaning():
    for name in WITHOUT_MEANING:
        section, _, key = name.rpartition(".")
        cfg = default_config()
        assert key not in (cfg[section] if section else cfg)
