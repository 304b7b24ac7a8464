"""Values that cannot work are refused at once, with the key and where it was given: every key, every way to give it."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from lib.config import ConfigError, load_config, to_dict
from lib.config.load import keys
from lib.config.values import Key

NOT_FINITE = (math.nan, math.inf, -math.inf, "nan", "-inf", "1e999")
WRONG_TYPES = {
    bool: (0, 1, "maybe", 2.5, None, [True], {"a": 1}),
    int: (True, 1.5, "ten", "", None, [1], {"a": 1}, *NOT_FINITE),
    float: (True, "ten", "", None, [1.0], {"a": 1}, *NOT_FINITE),
    str: (True, ["a"], {"a": 1}, "nul\0", "line\nbreak", "half \ud800", "x" * 5000),
    list: (True, 3, "text", None, {"a": 1}),
}


class Dumper(yaml.SafeDumper):
    """Writes a list that is there twice as two lists, not as an alias."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def nested(name: str, value: Any) -> dict:
    for part in reversed(name.split(".")):
        value = {part: value}
    return value


def bad_values(entry: Key) -> Iterator[Any]:
    """What no key of this declaration may accept: other types, and values just outside of its range."""
    yield from WRONG_TYPES[type(entry.default)]
    tiny = 1 if isinstance(entry.default, int) else 1e-6
    for bound, step in ((entry.least, -tiny), (entry.most, tiny)):
        if bound is not None:
            yield bound + (step if isinstance(entry.default, int) else step * max(1, abs(bound)))
            yield bound + 10**40 * (-1 if step < 0 else 1)
    if entry.above is not None:
        yield from (entry.above, entry.above - tiny)
    if entry.choices:
        yield "none of them" if isinstance(entry.default, str) else 77
    if entry.item is not None:
        yield from _bad_lists(entry)


def _bad_lists(entry: Key) -> Iterator[list]:
    least, most = entry.length
    good = entry.default[0]
    yield [good] * (most + 1)
    if least:
        yield [good] * (least - 1)
        yield []
    length = len(entry.default)
    for wrong in bad_values(entry.item):
        yield [*entry.default[: length - 1], wrong]


BAD = [(name, value) for name, entry in keys() for value in bad_values(entry)]


def test_there_is_something_to_refuse_for_every_key():
    assert {name for name, _ in BAD} == {name for name, _ in keys()}
    assert len(BAD) > 1200


@pytest.mark.parametrize("name", [name for name, _ in keys()])
def test_bad_values_are_refused_from_a_checkpoint_by_source_and_key(name):
    for _, value in (pair for pair in BAD if pair[0] == name):
        with pytest.raises(ConfigError) as error:
            load_config(base=nested(name, value), base_name="configuration in a.pth")
        assert str(error.value).startswith(f"configuration in a.pth: '{name}' "), value
        assert len(str(error.value)) < 400


@pytest.mark.parametrize("name", [name for name, _ in keys()])
def test_bad_values_are_refused_from_a_file_and_the_command_line_by_source_and_key(tmp_path, name):
    path = tmp_path / "mine.yaml"
    values = [value for key, value in BAD if key == name]
    is_text = isinstance(dict(keys())[name].default, str)
    for value in values[:8] + values[-8:]:
        path.write_text(yaml.dump(nested(name, value), Dumper=Dumper))
        with pytest.raises(ConfigError) as error:
            load_config(path)
        # YAML itself has no lone surrogates
        assert str(error.value).startswith((f"{path}: '{name}' ", f"{path}: not valid YAML")), value
        if not is_text:
            text = yaml.dump(value, Dumper=Dumper, default_flow_style=True, width=10**6).removesuffix("...\n").strip()
            with pytest.raises(ConfigError) as error:
                load_config(overrides=[f"{name}={text}"])
            assert str(error.value).startswith(f"command line: '{name}' "), value


@pytest.mark.parametrize("name", [name for name, _ in keys()])
def test_the_ends_of_a_range_belong_to_it(name):
    entry = dict(keys())[name]
    item = entry.item.item or entry.item if entry.item else entry
    for end in (item.least, item.most, *item.choices):
        if end is not None and not (end == 0 and item.check):  # BATCH_ROIS: from -1, but not 0
            assert item.convert(end) == end
    if entry.above is not None:
        assert entry.convert(entry.above + 1e-9) == entry.above + 1e-9
    if entry.item is not None:
        for length in entry.length:
            assert len(entry.convert([entry.default[0]] * length)) == length


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        # Negative weights and counts
        ("TRAIN.BBOX_WEIGHTS=[1, 1, 1, -1]", "entry 4 must be at least 0"),
        ("TRAIN.RPN_BBOX_WEIGHTS=[-1, 1, 1, 1]", "entry 1 must be at least 0"),
        ("TRAIN.BATCH_ROIS_OHEM=-128", "must be at least 1"),
        ("TRAIN.RPN_BATCH_SIZE=0", "must be at least 1"),
        ("TRAIN.BATCH_ROIS=0", "must be -1 .all. or at least 1, not 0"),
        ("TRAIN.BATCH_ROIS=-2", "must be at least -1"),
        # Not a number
        ("TEST.NMS=.nan", "must be a finite number, not nan"),
        ("TEST.SCORE_THRESH=.nan", "must be a finite number"),
        ("TRAIN.FG_THRESH=.inf", "must be a finite number, not inf"),
        ("TRAIN.lr_factor=.inf", "must be a finite number"),
        ("network.PIXEL_MEANS=[.nan, 0, 0]", "entry 1 must be a finite number"),
        ("network.ANCHOR_SCALES=[8, .nan]", "entry 2 must be a finite number"),
        ("network.ANCHOR_SCALES=[0]", "entry 1 must be at least 0.5"),
        ("network.ANCHOR_RATIOS=[1, 0]", "entry 2 must be at least 0.05"),
        ("network.ANCHOR_RATIOS=[1000]", "entry 1 must be at least 0.05 and at most 20"),
        ("network.ANCHOR_STDS=[0.1, 0.1, 0, 0.1]", "entry 3 must be at least 0.0001"),
        ("network.FLOW_WIDTH=nan", "must be a finite number"),
        ("network.BN_EPS=-1", "must be at least 0"),
        ("TRAIN.lr=0", "must be above 0"),
        ("TRAIN.RPN_FG_FRACTION=-1", "must be at least 0 and at most 1"),
        ("TRAIN.CLIP_GRADIENT=1e99", "must be at least 0 and at most 1e.09"),
        # Lengths and huge numbers
        ("network.PIXEL_MEANS=[0]", "must have 3 entries, not 1"),
        ("network.ANCHOR_STDS=[1, 1, 1]", "must have 4 entries, not 3"),
        ("network.ANCHOR_SCALES=[]", "must have 1 to 64 entries, not 0"),
        ("TRAIN.BBOX_MEANS=[0, 0, 0, 0, 0]", "must have 4 entries, not 5"),
        ("TEST.RPN_POST_NMS_TOP_N=0", "must be at least 1"),
        ("TRAIN.RPN_POST_NMS_TOP_N=0", "must be at least 1"),
        ("TRAIN.end_epoch=99999999999999999999", "must be at least 1 and at most 2147483647"),
        ("TRAIN.SEED=4294967296", "must be at least 0 and at most 4294967295"),
        ("TRAIN.lr_step=nan", "must be epochs of 0 or more that ascend"),
        ("TRAIN.lr_step=2,1", "must be epochs of 0 or more that ascend"),
        ("TRAIN.lr_step=-1", "must be epochs of 0 or more that ascend"),
        ("TRAIN.lr_step=1e400", "must be epochs of 0 or more that ascend"),
        ("network.FIXED_PARAMS=['']", "entry 1 must not be empty: it would match every parameter"),
        ("network.FIXED_PARAMS=[conv1, 5]", "entry 2 must be a text, not 5; put it in quotes"),
        # Names that leave their folder, or are none
        ("TRAIN.model_prefix=a/b", "must be the beginning of a file name"),
        ("TRAIN.model_prefix=/tmp/a", "must be the beginning of a file name"),
        ("TRAIN.model_prefix=../a", "must be the beginning of a file name"),
        ("TRAIN.model_prefix=a\\b", "must be the beginning of a file name"),
        ("TRAIN.model_prefix=..", "must be the beginning of a file name"),
        ("TRAIN.model_prefix=", "must be the beginning of a file name"),
        ("TRAIN.model_prefix=a*", "must be the beginning of a file name"),
        ("TRAIN.model_prefix=" + "ä" * 101, "must be the beginning of a file name"),
        ("dataset.image_set=VID_../../x", "must be the name of a list in ImageSets"),
        ("dataset.image_set=DET_a+../VID_b", "must be the name of a list in ImageSets"),
        ("dataset.image_set=DET_a+", "must be the name of a list in ImageSets"),
        ("dataset.image_set=..", "must be the name of a list in ImageSets"),
        ("dataset.test_image_set=/etc/passwd", "must be the name of a list in ImageSets"),
        ("dataset.test_image_set=VID_a+VID_b", "must be the name of a list in ImageSets"),
        ("dataset.test_image_set=", "must be the name of a list in ImageSets"),
        ("dataset.test_image_set=" + "V" * 201, "must be the name of a list in ImageSets"),
    ],
)
def test_what_once_passed_is_refused(setting, message):
    name = setting.partition("=")[0]
    with pytest.raises(ConfigError, match=f"^command line: '{name}' .*{message}"):
        load_config(overrides=[setting])


@pytest.mark.parametrize("value", [0, -1, -5])
def test_no_limit_of_detections_is_accepted(value):
    assert load_config(overrides=[f"TEST.max_per_image={value}"]).TEST.max_per_image == value


@pytest.mark.parametrize("name", ["rfcn_vid", "010", "a.b-c", "x=1 @ y+", "é"])
def test_names_of_checkpoints_and_lists(name):
    assert load_config(overrides=[f"TRAIN.model_prefix={name}"]).TRAIN.model_prefix == name
    sets = "DET_train_30classes+VID_train_15frames + mine.v2"
    assert load_config(overrides=[f"dataset.image_set={sets}"]).dataset.image_set == sets


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (["network.FEAT_DIM=7"], "'network.FEAT_DIM' is cut in two halves and must be even, not 7"),
        (["network.FGFA_FEAT_DIM=1024"], "'network.FGFA_FEAT_DIM' 1024 leaves no channels for the embedding"),
        (["network.ANCHOR_SCALES=[8]", "network.NUM_ANCHORS=9"], "'network.NUM_ANCHORS' is 9, but .* give 3"),
        (["TRAIN.MIN_OFFSET=1"], "'TRAIN.MIN_OFFSET' 1 must not be above 'TRAIN.MAX_OFFSET' 0"),
        (["TRAIN.end_epoch=3", "TRAIN.begin_epoch=3"], "'TRAIN.end_epoch' 3 must be above 'TRAIN.begin_epoch' 3"),
        (["TRAIN.RPN_NEGATIVE_OVERLAP=0.8"], "'TRAIN.RPN_NEGATIVE_OVERLAP' 0.8 must not be above"),
        (["TRAIN.BG_THRESH_LO=0.6"], "'TRAIN.BG_THRESH_LO' 0.6 must not be above 'TRAIN.BG_THRESH_HI' 0.5"),
        (["TRAIN.BG_THRESH_HI=0.7"], "'TRAIN.BG_THRESH_HI' 0.7 must not be above 'TRAIN.FG_THRESH' 0.5"),
        (["SCALES=[[1000, 600]]"], r"'SCALES' is \[\[short side, long side\]\], not \[\[1000, 600\]\]"),
    ],
)
def test_values_that_do_not_go_together(settings, message):
    with pytest.raises(ConfigError, match=f"^command line: {message}"):
        load_config(overrides=settings)


@pytest.mark.parametrize(
    "settings",
    [
        ["TRAIN.RPN_NEGATIVE_OVERLAP=0.5", "TRAIN.RPN_POSITIVE_OVERLAP=0.5"],
        ["TRAIN.BG_THRESH_LO=0.5"],
        ["SCALES=[[600, 600]]"],
        ["network.FEAT_DIM=4096"],  # of R-FCN, which has no FGFA_FEAT_DIM
        ["network.ANCHOR_SCALES=[8, 16]", "network.NUM_ANCHORS=6"],
        ["TRAIN.BATCH_ROIS=1"],
    ],
)
def test_the_edges_of_what_goes_together(settings):
    known = to_dict(load_config(overrides=settings))
    for key, value in (setting.split("=") for setting in settings if "NUM_ANCHORS" not in setting):
        section, _, name = key.rpartition(".")
        assert (known[section] if section else known)[name] == yaml.safe_load(value)


def test_a_checkpoint_of_wide_rfcn_loads_again():
    """Its configuration has FGFA's key too, which R-FCN does not use."""
    cfg = load_config(overrides=["network.FEAT_DIM=4096"])
    assert load_config(base=to_dict(cfg), base_name="a.pth") == cfg
    with pytest.raises(ConfigError, match="^command line: 'network.FGFA_FEAT_DIM' 4098 leaves no channels"):
        load_config(overrides=["network.FGFA_FEAT_DIM=4098"], base=to_dict(cfg), base_name="a.pth")
