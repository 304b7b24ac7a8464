"""What the command lines of the methods' scripts may say."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from lib.config import ConfigError
from lib.engine import arguments
from lib.engine.demo_arguments import demo_parser, demo_settings
from lib.engine.device import DeviceError, device_of
from rfcn.method import METHOD


@pytest.fixture
def cfg_file(tmp_path):
    file = tmp_path / "tiny.yaml"
    file.write_text(f"output_path: {tmp_path / 'out'}\n")
    return ["--cfg", str(file), "--device", "cpu"]


@pytest.mark.parametrize(
    ("parser", "given"),
    [
        (arguments.test_parser, ["--videos", "-1"]),
        (arguments.test_parser, ["--videos", "some"]),
        (demo_parser, ["--source", "a", "--out", "b", "--limit", "-1"]),
        (demo_parser, ["--source", "a", "--out", "b", "--limit", "9" * 20]),
        (demo_parser, ["--source", "a", "--out", "b", "--min-score", "1.5"]),
        (demo_parser, ["--source", "a", "--out", "b", "--min-score", "nan"]),
        (demo_parser, ["--source", "a", "--out", "b", "--file-score", "nan"]),
        (demo_parser, ["--source", "a", "--out", "b", "--fps", "0"]),
    ],
)
def test_a_number_that_makes_no_sense_is_refused(cfg_file, capsys, parser, given):
    with pytest.raises(SystemExit) as stop:
        parser("").parse_intermixed_args([*cfg_file, *given])
    assert stop.value.code == 2
    assert f"argument {given[-2]}: must be" in capsys.readouterr().err


def test_overrides_may_stand_anywhere(cfg_file):
    given = ["TRAIN.lr=0.5", *cfg_file, "TEST.NMS=0.4", "--videos", "3", "TEST.max_per_image=7"]
    parsed = arguments.test_parser("").parse_intermixed_args(given)
    run = arguments.run_of(parsed, METHOD, needs_weights=False)
    assert parsed.videos == 3
    assert (run.cfg.TRAIN.lr, run.cfg.TEST.NMS, run.cfg.TEST.max_per_image) == (0.5, 0.4, 7)


def test_presets_change_the_configuration_and_overrides_change_both(cfg_file, tmp_path):
    for name, text in (("one", "TRAIN: {lr: 0.1, wd: 0.1}"), ("two", "TRAIN: {wd: 0.2}")):
        (tmp_path / f"{name}.yaml").write_text(text)
    presets = ["--preset", str(tmp_path / "one.yaml"), "--preset", str(tmp_path / "two.yaml")]
    parsed = arguments.run_parser("").parse_intermixed_args([*cfg_file, *presets, "TRAIN.lr=0.3"])
    run = arguments.run_of(parsed, METHOD, needs_weights=False)
    assert (run.cfg.TRAIN.lr, run.cfg.TRAIN.wd) == (0.3, 0.2)
    assert run.name == "tiny_one_two"


def test_what_is_not_an_override_is_named(cfg_file):
    parsed = arguments.run_parser("").parse_intermixed_args([*cfg_file, "more"])
    with pytest.raises(ConfigError, match="'more'"):
        arguments.run_of(parsed, METHOD, needs_weights=False)


def test_training_needs_a_configuration_and_the_rest_does_not(capsys):
    with pytest.raises(SystemExit):
        arguments.run_parser("").parse_intermixed_args([])
    assert "--cfg" in capsys.readouterr().err
    parsed = arguments.test_parser("").parse_intermixed_args([])
    with pytest.raises(ConfigError, match="command line: no configuration; give one with --cfg"):
        arguments.run_of(parsed, METHOD)


def test_what_a_demo_is_asked_to_write(cfg_file):
    def settings(*more):
        parsed = demo_parser("").parse_intermixed_args([*cfg_file, *more])
        return demo_settings(parsed, Path("b"))

    plain = settings()
    assert (plain.folder, plain.min_score, plain.file_score, plain.clip) == (Path("b"), 0.7, 0.7, "demo.mp4")
    assert (plain.fps, plain.pictures) == (0, False)
    assert settings("--min-score", "0.4").file_score == 0.4
    assert settings("--min-score", "0.4", "--file-score", "0.1").file_score == 0.1
    assert settings("--no-clip").clip == ""
    assert (plain.codec, plain.show) == ("h264", ())
    more = settings("--fps", "12.5", "--pictures", "--codec", "vp9", "--show", "flow, keys")
    assert (more.fps, more.pictures, more.codec, more.show) == (12.5, True, "vp9", ("flow", "keys"))
    assert settings("--show", "all").show == ("all",)


def test_what_cannot_be_shown_is_named(cfg_file, capsys):
    with pytest.raises(SystemExit):
        demo_parser("").parse_intermixed_args([*cfg_file, "--show", "flow,depth"])
    assert "--show: must be 'all' or some of flow,features,weights,keys, not 'depth'" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["toaster", "cuda:x", "meta", f"cuda:{torch.cuda.device_count()}"])
def test_a_device_that_is_not_there_is_named(cfg_file, name):
    parsed = arguments.run_parser("").parse_intermixed_args([*cfg_file[:2], "--device", name])
    with pytest.raises(DeviceError, match=f"--device {name}: "):
        arguments.run_of(parsed, METHOD, needs_weights=False)


def test_a_device_that_is_there():
    assert device_of("cpu") == torch.device("cpu")
