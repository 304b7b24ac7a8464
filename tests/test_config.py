"""Configuration: files, presets and arguments over the defaults, and where each mistake came from."""

from __future__ import annotations

import logging
import re
from pathlib import Path

import pytest
import yaml

from lib.config import ConfigError, default_config, load_config, lr_steps, to_dict
from lib.config.load import keys

ROOT = Path(__file__).resolve().parents[1]
FAITHFUL = ROOT / "configs/rfcn/resnet_v1_101_imagenet_vid_rfcn_end2end_ohem.yaml"
PRESETS = sorted(ROOT.glob("configs/presets/*.yaml"))
CONFIGURATIONS = sorted(set(ROOT.glob("configs/*/*.yaml")) - set(PRESETS))


@pytest.mark.parametrize("path", CONFIGURATIONS, ids=lambda path: path.stem)
def test_every_configuration_in_the_repository_loads_without_a_warning(path, caplog):
    with caplog.at_level(logging.WARNING):
        cfg = load_config(path)
    assert not caplog.records
    assert cfg.TRAIN.model_prefix != default_config().TRAIN.model_prefix
    assert to_dict(load_config()) == to_dict(default_config()), "loading a file must not change the defaults"


@pytest.mark.parametrize("preset", PRESETS, ids=lambda path: path.stem)
@pytest.mark.parametrize("path", CONFIGURATIONS, ids=lambda path: path.stem)
def test_a_preset_changes_what_it_names_and_nothing_else(path, preset, caplog):
    with caplog.at_level(logging.WARNING):
        plain, changed = to_dict(load_config(path)), to_dict(load_config(path, presets=[preset]))
    assert not caplog.records
    for name, values in yaml.safe_load(preset.read_text()).items():
        if not isinstance(values, dict):
            assert changed.pop(name) == values
            del plain[name]
            continue
        for key, value in values.items():
            assert changed[name].pop(key) == value
            del plain[name][key]
    assert changed == plain


def test_precedence_command_line_presets_file_base(tmp_path):
    (tmp_path / "file.yaml").write_text("TRAIN: {lr: 0.5, wd: 0.5, momentum: 0.5, lr_factor: 0.5}")
    (tmp_path / "one.yaml").write_text("TRAIN: {wd: 0.25, momentum: 0.25, lr_factor: 0.25}")
    (tmp_path / "two.yaml").write_text("TRAIN: {momentum: 0.125, lr_factor: 0.125}")
    presets = [tmp_path / "one.yaml", tmp_path / "two.yaml"]
    base = to_dict(load_config(FAITHFUL, ["TRAIN.SEED=7", "TRAIN.lr=0.75"]))
    cfg = load_config(tmp_path / "file.yaml", ["TRAIN.lr_factor=0.0625"], presets, base, "model.pth")
    train = cfg.TRAIN
    assert (train.lr, train.wd, train.momentum, train.lr_factor, train.SEED) == (0.5, 0.25, 0.125, 0.0625, 7)
    assert cfg.output_path == "./output/rfcn/imagenet_vid"


MISTAKES = [
    ({"TRAIN": {"lrr": 1}}, r"unknown key 'TRAIN.lrr'; known here: .*\blr_step\b"),
    ({"nonsense": 1}, "unknown key 'nonsense'; known here: .*SCALES, TEST"),
    ({5: 1}, "unknown key '5'"),
    ({"TRAIN": 3}, "'TRAIN' is a section and needs keys under it, not 3"),
    ({"TRAIN": {"lr": "fast"}}, "'TRAIN.lr' must be a number like 0.00025, not 'fast'"),
    ({"TRAIN": {"FLIP": 1}}, "'TRAIN.FLIP' must be true or false, not 1"),
    ({"TRAIN": {"end_epoch": 1.5}}, "'TRAIN.end_epoch' must be a whole number like 2, not 1.5"),
    ({"network": {"PIXEL_MEANS": 3}}, r"'network.PIXEL_MEANS' must be a list like \[103.06, 115.9, 123.15\], not 3"),
    ({"network": {"DEPTH": 20}}, "'network.DEPTH' must be one of 18, 34, 50, 101, 152, not 20"),
    ({"output_path": True}, "'output_path' must be a text, not True; put it in quotes"),
    ({"TRAIN": {"model_prefix": 8}}, "'TRAIN.model_prefix' must be a text like 'model', not 8; put it in quotes"),
    ({"SCALES": [[600, 1000], [800, 1000]]}, "'SCALES' must have 1 entries, not 2"),
    ({"SCALES": [[600, 0]]}, "'SCALES' entry 1 entry 2 must be at least 1"),
    ({"TRAIN": {"lr_step": "soon"}}, "'TRAIN.lr_step' must be epochs separated by commas"),
    ({"network": {"FEAT_DIM": 7}}, "'network.FEAT_DIM' is cut in two halves and must be even, not 7"),
]


@pytest.mark.parametrize(("tree", "message"), MISTAKES)
def test_a_mistake_names_the_file_preset_or_checkpoint_that_it_is_in(tmp_path, tree, message):
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump(tree))
    with pytest.raises(ConfigError, match=f"^{re.escape(str(path))}: {message}"):
        load_config(path)
    with pytest.raises(ConfigError, match=f"^{re.escape(str(path))}: {message}"):
        load_config(FAITHFUL, presets=[path])
    with pytest.raises(ConfigError, match=f"^configuration in a.pth: {message}"):
        load_config(base=tree, base_name="configuration in a.pth")


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("TRAIN.lr", "'TRAIN.lr' is not KEY=VALUE, for example TRAIN.lr=1e-3"),
        ("", "'' is not KEY=VALUE"),
        ("=1", "unknown key ''"),
        ("TRAIN..lr=1", "unknown key 'TRAIN.'"),
        ("TRAIN.lr.x=1", "'TRAIN.lr' must be a number like 0.00025, not {'x': 1}"),
        ("TRAIN.nothing=1", "unknown key 'TRAIN.nothing'"),
        ("train.lr=1", "unknown key 'train'"),
        ("TRAIN.lr=[", "TRAIN.lr=[:1: not valid YAML"),
        ("TRAIN.lr=[1]", "'TRAIN.lr' must be a number"),
        ("TRAIN.lr=", "'TRAIN.lr' must be a number like 0.00025, not ''"),
        ("TRAIN=", "'TRAIN' is a section"),
        ("TRAIN={lr: 2, lr: 3}", "TRAIN={lr: 2, lr: 3}:1: not valid YAML ('lr' was already given in line 1)"),
        ("network.FIXED_PARAMS=['']", "'network.FIXED_PARAMS' entry 1 must not be empty"),
        ("output_path='a", "output_path='a:1: not valid YAML"),
        ("TRAIN.MIN_OFFSET=1", "'TRAIN.MIN_OFFSET' 1 must not be above 'TRAIN.MAX_OFFSET' 0"),
    ],
)
def test_a_mistake_on_the_command_line_is_not_blamed_on_the_file(override, message):
    with pytest.raises(ConfigError) as error:
        load_config(FAITHFUL, [override])
    assert str(error.value).startswith(f"command line: {message}")


def test_of_two_keys_that_contradict_each_other_the_later_is_to_blame(tmp_path):
    (tmp_path / "file.yaml").write_text("TRAIN: {begin_epoch: 1, end_epoch: 5}")
    (tmp_path / "preset.yaml").write_text("TRAIN: {begin_epoch: 5}")
    with pytest.raises(ConfigError, match=r"preset\.yaml: 'TRAIN.end_epoch' 5 must be above 'TRAIN.begin_epoch' 5"):
        load_config(tmp_path / "file.yaml", presets=[tmp_path / "preset.yaml"])
    (tmp_path / "other.yaml").write_text("TRAIN: {end_epoch: 9, begin_epoch: 7}")
    (tmp_path / "last.yaml").write_text("TRAIN: {end_epoch: 7}")
    with pytest.raises(ConfigError, match=r"last\.yaml: 'TRAIN.end_epoch' 7 must be above 'TRAIN.begin_epoch' 7"):
        load_config(tmp_path / "other.yaml", presets=[tmp_path / "last.yaml"])


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(ConfigError, match=r"nowhere\.yaml: cannot be read \(No such file or directory\); give a YAML"):
        load_config(tmp_path / "nowhere.yaml")


def test_values_on_the_command_line():
    overrides = ["TRAIN.lr=1e-3", "network.DEPTH=50", "TRAIN.FLIP=no", "network.FIXED_PARAMS=[conv1, bn]"]
    overrides += ["SCALES=[[300, 500]]", "TRAIN={wd: 0.5, SEED: 3}"]
    cfg = load_config(FAITHFUL, overrides)
    assert (cfg.TRAIN.lr, cfg.network.DEPTH, cfg.TRAIN.FLIP) == (1e-3, 50, False)
    assert (cfg.network.FIXED_PARAMS, cfg.SCALES) == (["conv1", "bn"], [[300, 500]])
    assert (cfg.TRAIN.wd, cfg.TRAIN.SEED) == (0.5, 3)


@pytest.mark.parametrize(
    ("given", "taken"),
    [
        ("010", "010"),
        ("on", "on"),
        ("1.10", "1.10"),
        ("C: x # y", "C: x # y"),
        ("[a", "[a"),
        ("'quoted # text'", "quoted # text"),
        ('"1"', "1"),
        ("", ""),
    ],
)
def test_texts_on_the_command_line_are_taken_as_they_stand(given, taken):
    assert load_config(overrides=[f"dataset.dataset_path={given}"]).dataset.dataset_path == taken


@pytest.mark.parametrize(
    ("given", "steps"), [("1.333", [1.333]), ("1,1.5", [1, 1.5]), ("", []), (" 1 , 2,", [1, 2]), (2, [2]), (0.5, [0.5])]
)
def test_learning_rate_steps(given, steps):
    assert lr_steps(load_config(base={"TRAIN": {"lr_step": given}})) == steps


@pytest.mark.parametrize("path", [None, *CONFIGURATIONS], ids=lambda path: path.stem if path else "defaults")
def test_a_configuration_survives_yaml(tmp_path, path):
    changed = ["TRAIN.model_prefix=010", "output_path=on", "TRAIN.lr=1e-7", "network.pretrained=~", "dataset.CLASSES=#"]
    for overrides in ([], changed):
        cfg = load_config(path, overrides)
        again = tmp_path / "again.yaml"
        again.write_text(yaml.safe_dump(to_dict(cfg)))
        assert to_dict(load_config(again)) == to_dict(cfg)
        assert to_dict(load_config(base=to_dict(cfg), base_name="itself")) == to_dict(cfg)


def test_a_base_is_no_part_of_the_configuration_made_from_it():
    base = to_dict(default_config())
    cfg = load_config(base=base)
    cfg.network.FIXED_PARAMS.append("more")
    cfg.SCALES[0][0] = 1
    assert base == to_dict(default_config())


@pytest.mark.parametrize("base", [[], "text", 5, [["TRAIN", {}]]])
def test_a_base_that_is_no_configuration(base):
    with pytest.raises(ConfigError, match="^a.pth: must be keys and values"):
        load_config(base=base, base_name="a.pth")


def test_every_key_is_read_somewhere():
    sources = [path for folder in ("lib", "rfcn", "dff", "fgfa", "tools") for path in (ROOT / folder).rglob("*.py")]
    readers = [path for path in sources if path.parent.name != "config"] + [ROOT / "lib/config/load.py"]
    text = "".join(path.read_text() for path in readers)
    unread = [name for name, _ in keys() if not re.search(rf"\.{name.rpartition('.')[2]}\b", text)]
    assert unread == []


def test_every_key_says_what_it_means():
    for name, entry in keys():
        assert entry.meaning.endswith("."), name
        assert len(entry.meaning) > 10, name
        assert entry.convert(entry.default) == entry.default, name
