"""Accuracy against time: the accuracy of every point is that of the method's own test, and finished tests stay."""

from __future__ import annotations

import json

import pytest
import torch

import dff.test
import fgfa.test
from lib.config import to_dict
from lib.data.classes import Classes
from lib.engine.checkpoint import CheckpointError, Identity, save_tensors
from lib.engine.provenance import file_digest
from lib.errors import InputError
from tests.data.toy_vid import AIRPLANE, BIRD, write_toy
from tests.models.small import small_config, with_video_keys
from tests.models.small_checkpoints import METHODS, write_old_checkpoint
from tools.speed_accuracy import BOTH, MIDDLE, Setting, main, parse_arguments, settings_of

CLASSES = Classes(("airplane", "bird"), (AIRPLANE, BIRD))
MOTIONS = ("all", "slow", "medium", "fast")


def write_weights(path, method, seed=0):
    cfg = with_video_keys(small_config("SCALES=[[48, 64]]", "dataset.test_image_set=VID_val_videos"), 2)
    torch.manual_seed(seed)
    model = METHODS[method].build(cfg, CLASSES.num_classes)
    with torch.no_grad():
        model.detector.head.rfcn_cls.weight.mul_(20)
    content = {"model": model.state_dict()} | Identity(method, to_dict(cfg), CLASSES, "toy_run").to_content()
    return str(save_tensors(content, path))


@pytest.fixture(scope="module")
def places(tmp_path_factory):
    """(folder with weights of each method, configuration values that name a toy data set)."""
    folder = tmp_path_factory.mktemp("toy")
    root = write_toy(folder / "data")
    (root / "classes.txt").write_text(f"{AIRPLANE} airplane\n{BIRD} bird\n")
    for method in METHODS:
        write_weights(folder / f"{method}.pth", method)
    write_weights(folder / "dff_1.pth", "dff", seed=1)
    return folder, [f"dataset.dataset_path={root}", f"dataset.root_path={folder}"]


@pytest.fixture(scope="module")
def measured(places):
    """(the tool's arguments, what it wrote)."""
    folder, values = places
    weights = [str(folder / f"{name}.pth") for name in ("fgfa", "dff", "dff_1", "rfcn")]
    chosen = ["--intervals", "1", "2", "--windows", "1", "3", "--flows", "0.5", "--most", "4"]
    timed = ["--rounds", "1", "--clips", "1", "--device", "cpu"]
    arguments = ["--weights", *weights, "--work", str(folder / "work"), *chosen, *timed, *values]
    main(arguments)
    return arguments, json.loads((folder / "work" / "speed_accuracy.json").read_text())


def point(content, curve, label):
    (found,) = [one for one in content["points"] if (one["curve"], one["label"]) == (curve, label)]
    return found


def test_points_are_those_asked_for_in_the_order_of_the_curves(measured):
    _, content = measured
    assert [(one["curve"], one["label"], len(one["maps"])) for one in content["points"]] == [
        ("R-FCN", "", 1),
        ("DFF", "1", 2),
        ("DFF", "2", 2),
        ("DFF, key frame in the middle", "2", 2),
        ("DFF, both key frames", "2", 2),
        ("DFF, both, in the middle", "2", 2),
        ("DFF, both by similarity", "2", 2),
        ("DFF, both by similarity, in the middle", "2", 2),
        ("DFF, adaptive", "0.5c", 2),
        ("FGFA", "1", 1),
        ("FGFA", "3", 1),
    ]
    assert all(ms > 0 for one in content["points"] for ms in one["ms_per_frame"])
    assert content["title"].startswith("data, VID_val_videos; ")
    assert content["title"].endswith("; up to 2 trainings of each method")


@pytest.mark.parametrize(
    ("script", "name", "curve", "label", "values"),
    [
        (dff.test, "dff_1", "DFF, both, in the middle", "2", [BOTH, MIDDLE]),
        (dff.test, "dff_1", "DFF", "1", ["TEST.KEY_FRAME_INTERVAL=1"]),
        (fgfa.test, "fgfa", "FGFA", "3", ["TEST.KEY_FRAME_INTERVAL=1"]),
    ],
)
def test_accuracy_is_that_of_the_methods_test(measured, places, tmp_path, script, name, curve, label, values):
    folder, own = places
    if "TEST.KEY_FRAME_INTERVAL=1" not in values:
        values = ["TEST.KEY_FRAME_INTERVAL=2", *values]
    weights = ["--weights", str(folder / f"{name}.pth"), "--device", "cpu"]
    script.main([*weights, *own, f"output_path={tmp_path}", *values])
    (evaluation,) = tmp_path.rglob("evaluation.json")
    wanted = {entry["name"]: entry["mean_ap"] for entry in json.loads(evaluation.read_text())["motion"]}
    found = point(measured[1], curve, label)["maps"][-1]
    assert found == wanted
    assert tuple(sorted(found)) == tuple(sorted(MOTIONS))
    # Random weights find few objects: the detections themselves are those of the method's test
    (detections,) = tmp_path.rglob("detections.txt")
    method = script.METHOD.name
    work = folder / "work" / f"{method}_{file_digest(folder / f'{name}.pth')[:12]}"
    setting = Setting(curve, label, tuple(values), window=3 if method == "fgfa" else 0)
    assert len(detections.read_bytes()) > 100
    assert detections.read_bytes() == (work / setting.folder() / "detections.txt").read_bytes()


def test_key_frames_are_counted(measured):
    for label, interval in (("1", 1.0), ("2", 3 / 2)):  # the clip has 3 frames
        assert point(measured[1], "DFF", label)["frames_per_key_frame"] == [interval] * 2
    assert point(measured[1], "FGFA", "3")["frames_per_key_frame"] is None


def test_what_is_tested_is_not_tested_again_and_times_are(measured, places):
    arguments, content = measured
    results = sorted((places[0] / "work").rglob("detections.txt"))
    before = [path.stat().st_mtime_ns for path in results]
    main(arguments)
    assert [path.stat().st_mtime_ns for path in results] == before
    again = json.loads((places[0] / "work" / "speed_accuracy.json").read_text())
    assert [one["maps"] for one in again["points"]] == [one["maps"] for one in content["points"]]


def test_a_picture_can_be_drawn_again(measured, places, tmp_path, capsys):
    source = places[0] / "work" / "speed_accuracy.json"
    main(["--redraw", str(source), "--out", str(tmp_path / "curves.svg"), "--title", "A title"])
    drawn = (tmp_path / "curves.svg").read_text()
    assert "<svg" in drawn
    assert "R-FCN" in capsys.readouterr().out
    main(["--redraw", str(source), "--out", str(tmp_path / "curves.png")])
    assert (tmp_path / "curves.png").read_bytes().startswith(b"\x89PNG")
    (tmp_path / "other.json").write_text('{"points": [{"curve": "x"}]}')
    with pytest.raises(InputError, match="other.json: not what tools/speed_accuracy.py --json wrote"):
        main(["--redraw", str(tmp_path / "other.json")])


def test_arguments_that_cannot_be_are_said(tmp_path, capsys):
    old = str(write_old_checkpoint(tmp_path / "old.pth", "dff"))
    with pytest.raises(CheckpointError, match="old.pth: does not say that it is for one of rfcn, dff, fgfa"):
        main(["--weights", old, "--work", str(tmp_path / "work")])
    for arguments, message in (
        (["--weights", old], "--weights needs --work"),
        (["--weights", old, "--work", "w", "--windows", "4"], "give odd numbers"),
        (["--redraw", "a.json", "--out", "a.gif"], "ends in one of .png, .svg, .pdf"),
    ):
        with pytest.raises(SystemExit):
            main(arguments)
        assert message in capsys.readouterr().err


def test_folders_of_all_points_differ():
    args = parse_arguments(["--weights", "x.pth", "--work", "w"])
    for method in METHODS:
        folders = [setting.folder() for setting in settings_of(method, args)]
        assert len(set(folders)) == len(folders)
