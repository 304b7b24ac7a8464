"""What the methods' scripts share: what the command line may say, and how a script ends."""

import numpy as np
import pytest
import torch
from lib.engine.commands import add_demo_arguments, add_test_arguments, parse_run, run_script

from fgfa.method import METHOD
from lib.config import ConfigError, load_config
from lib.engine.device import DeviceError, device_of


@pytest.fixture
def cfg_file(tmp_path):
    file = tmp_path / "tiny.yaml"
    file.write_text(f"output_path: {tmp_path / 'out'}\n")
    return ["--cfg", str(file), "--device", "cpu"]


def test_what_is_special_about_a_test_has_its_own_folder(cfg_file):
    """So that none replaces the results of another, or what an interrupted one has done."""
    special = ([], ["--flow", "zero"], ["--flow", "true"], ["--videos", "2"], ["--videos", "3"], ["TEST.SEQ_NMS=true"])
    names = [parse_run("", [*cfg_file, *more], add_test_arguments)[0].test_folder.name for more in special]
    assert names[0] == "VID_val_videos"
    assert len(set(names)) == len(special)


@pytest.mark.parametrize(
    ("add", "arguments"),
    [
        (add_test_arguments, ["--videos", "-1"]),
        (add_test_arguments, ["--videos", "some"]),
        (add_demo_arguments, ["--source", "a", "--out", "b", "--limit", "-1"]),
    ],
)
def test_a_negative_count_is_refused(cfg_file, capsys, add, arguments):
    with pytest.raises(SystemExit) as stop:
        parse_run("", [*cfg_file, *arguments], add)
    assert stop.value.code == 2
    assert f"argument {arguments[-2]}" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["toaster", "cuda:x", "meta", f"cuda:{torch.cuda.device_count()}"])
def test_a_device_that_is_not_there_is_named(cfg_file, name):
    with pytest.raises(DeviceError, match=f"--device {name}: "):
        parse_run("", [*cfg_file[:2], "--device", name])


def test_a_device_that_is_there():
    assert device_of("cpu") == torch.device("cpu")


def test_an_interrupt_ends_a_script_without_a_traceback(capsys):
    def interrupted():
        raise KeyboardInterrupt

    with pytest.raises(SystemExit) as stop:
        run_script(interrupted)
    assert stop.value.code == 130
    assert capsys.readouterr().err.count("\n") == 1


def test_two_neighbours_need_two_offsets():
    with pytest.raises(ConfigError, match="MAX_OFFSET.*both -3"):
        METHOD.references(load_config(None, ["TRAIN.MIN_OFFSET=-3", "TRAIN.MAX_OFFSET=-3"]))
    choose = METHOD.references(load_config(None, ["TEST.KEY_FRAME_INTERVAL=1", "TEST.CAUSAL=true"]))
    assert sorted(choose(5, 10, np.random.RandomState(0))) == [4, 5]
