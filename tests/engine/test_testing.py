"""A test of a detector on a small set, as the script runs it: what is kept, what is done again, what is written."""

from __future__ import annotations

import json
import logging
import shlex
import sys

import numpy as np
import pytest
import torch

from lib.config import to_dict
from lib.data.classes import Classes, ClassListError
from lib.engine.checkpoint import Identity, save_tensors
from lib.evaluation.motion import MotionError
from lib.files import FolderInUseError, hold_folder, sha256_of
from lib.version import __version__, commit
from rfcn.model import RFCN, build_rfcn
from rfcn.test import main
from tests.data.toy_vid import AIRPLANE, BIRD, write_frame, write_list
from tests.models.small import small_config

CLASSES = Classes(("airplane", "bird"), (AIRPLANE, BIRD))
FRAMES = 5  # in two videos


def write_weights(path, seed=0):
    cfg = small_config("SCALES=[[48, 64]]", "dataset.test_image_set=VID_val_videos")
    torch.manual_seed(seed)
    model = build_rfcn(cfg, CLASSES.num_classes)
    with torch.no_grad():
        model.detector.head.rfcn_cls.weight.mul_(20)
    content = {"model": model.state_dict()} | Identity("rfcn", to_dict(cfg), CLASSES, "toy_run").to_content()
    return save_tensors(content, path)


@pytest.fixture
def run(tmp_path, data, monkeypatch):
    """A function that runs the script and returns the frame ids that the network saw; its folders are under `out`."""
    weights = write_weights(tmp_path / "my.pth")
    seen = []
    whole_detect = RFCN.detect

    def detect(self, frames, inside=False):
        seen.extend(frame.frame_id for frame in frames)
        return whole_detect(self, frames, inside)

    monkeypatch.setattr(RFCN, "detect", detect)

    def once(*more):
        seen.clear()
        places = [f"dataset.dataset_path={data}", f"dataset.root_path={tmp_path}", f"output_path={tmp_path / 'out'}"]
        try:
            main(["--weights", str(weights), "--device", "cpu", *places, *more])
        finally:
            once.saw = list(seen)
        return once.saw

    return once


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "out" / "toy_run" / "VID_val_videos"


def evaluation(folder):
    return json.loads((folder / "evaluation.json").read_text(encoding="utf-8"))


def test_a_test_leaves_results_their_evaluation_and_its_times(run, folder):
    assert run() == [1, 2, 3, 4, 5]
    assert {path.name for path in folder.iterdir()} == {
        *(".lock", "detections.txt", "detections_made_with.json", "evaluation.json", "test.log", "timing.json")
    }
    rows = np.loadtxt(folder / "detections.txt", ndmin=2)
    assert set(rows[:, 0]) == {1, 2, 3, 4, 5}
    content = evaluation(folder)
    assert (content["frames"], content["detections"]) == (FRAMES, len(rows))
    assert json.loads((folder / "timing.json").read_text())["frames"] == FRAMES


def test_the_evaluation_says_what_made_it(run, folder, tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["rfcn/test.py", "--weights", "a file.pth"])
    run("TEST.NMS=0.4")
    made_with = evaluation(folder)["made_with"]
    assert made_with["command"] == shlex.join(sys.argv)
    assert made_with["weights"] == {"path": str(tmp_path / "my.pth"), "sha256": sha256_of(tmp_path / "my.pth")}
    assert made_with["configuration"]["TEST"]["NMS"] == 0.4
    assert made_with["configuration"]["network"]["WIDTH"] == 16
    assert made_with["code"] == {"version": __version__, "commit": commit()}
    assert made_with["machine"]["packages"]["torch"] == torch.__version__
    assert (made_with["machine"]["device"], made_with["machine"]["gpu"]) == ("cpu", None)
    assert made_with["results"] == sha256_of(folder / "detections.txt")


def test_the_log_begins_with_what_the_test_was_made_with(run, folder, tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["rfcn/test.py", "--weights", "a file.pth"])
    run("TEST.NMS=0.4")
    log = (folder / "test.log").read_text(encoding="utf-8")
    lines = log.splitlines()
    assert lines[0].endswith(f"command: {shlex.join(sys.argv)}")
    assert f"torch {torch.__version__}" in lines[1]
    assert lines[2].endswith(f"commit {commit()}")
    assert lines[3].endswith(f"weights {tmp_path / 'my.pth'}, sha256 {sha256_of(tmp_path / 'my.pth')}")
    assert lines[4].endswith("configuration:")
    assert "NMS: 0.4" in log


def test_a_finished_detection_is_not_repeated_and_says_so(run, folder, caplog):
    run()
    before = [(folder / name).read_bytes() for name in ("detections.txt", "timing.json", "evaluation.json")]
    (folder / "evaluation.json").unlink()
    with caplog.at_level(logging.INFO):
        assert run("TRAIN.lr=0.5", "TEST.test_epoch=7") == [], "what has no influence on detections does not count"
    said = (
        f"{folder / 'detections.txt'}: already detected with these weights and this configuration (--redo repeats it)"
    )
    assert said in caplog.messages
    after = [(folder / name).read_bytes() for name in ("detections.txt", "timing.json", "evaluation.json")]
    assert after == before, "and it is evaluated again"


def test_redo_detects_again(run, folder):
    run()
    results = (folder / "detections.txt").read_bytes()
    assert run("--redo") == [1, 2, 3, 4, 5]
    assert (folder / "detections.txt").read_bytes() == results
    assert run() == []


def test_other_weights_of_the_same_name_are_another_test(run, folder, tmp_path):
    run()
    results = (folder / "detections.txt").read_bytes()
    write_weights(tmp_path / "my.pth", seed=1)
    assert run() == [1, 2, 3, 4, 5]
    assert (folder / "detections.txt").read_bytes() != results
    assert evaluation(folder)["made_with"]["weights"]["sha256"] == sha256_of(tmp_path / "my.pth")


@pytest.mark.parametrize("change", ["TEST.NMS=0.5", "SCALES=[[36, 64]]", "network.PIXEL_MEANS=[0, 0, 0]"])
def test_another_configuration_is_another_test(run, change):
    run()
    assert run(change) == [1, 2, 3, 4, 5]
    assert run() == [1, 2, 3, 4, 5], "the results in the folder are not those of the first one any more"


def test_another_image_set_of_the_same_name_is_another_test(run, data):
    run()
    write_list(data, "VID_val_videos", ["val/c 1 0 2"])
    assert run() == [1, 2]


@pytest.mark.parametrize("change", ["changed", "cut off", "deleted"])
def test_results_that_are_not_as_they_were_written_are_detected_again(run, folder, change):
    run()
    path = folder / "detections.txt"
    whole = path.read_bytes()
    if change == "deleted":
        path.unlink()
    else:
        path.write_bytes(whole[:-20] if change == "cut off" else whole.replace(b"0.", b"1.", 1))
    assert run() == [1, 2, 3, 4, 5]
    assert path.read_bytes() == whole


@pytest.mark.parametrize("content", ["", "[1]", "{", '{"fingerprint": 7}'])
def test_a_damaged_note_means_another_detection(run, folder, content):
    run()
    (folder / "detections_made_with.json").write_text(content)
    assert run() == [1, 2, 3, 4, 5]


def stop_after(frame_id, monkeypatch):
    """Ctrl-C when the network is given the frame after `frame_id`."""
    whole = RFCN.detect

    def detect(self, frames, inside=False):
        if frames[-1].frame_id > frame_id:
            raise KeyboardInterrupt
        return whole(self, frames, inside)

    context = monkeypatch.context()
    patch = context.__enter__()
    patch.setattr(RFCN, "detect", detect)
    return context


def test_an_interrupted_test_goes_on_after_its_last_whole_video(run, folder, monkeypatch, tmp_path, caplog):
    run()
    whole = (folder / "detections.txt").read_bytes()
    context = stop_after(4, monkeypatch)
    with pytest.raises(KeyboardInterrupt):
        run("--redo")
    context.__exit__(None, None, None)
    assert (folder / "detections.txt").read_bytes() == whole, "the finished one is still there"
    with caplog.at_level(logging.INFO):
        assert run("--redo") == [4, 5]
    assert "going on after 1 of 2 videos that an interrupted test has done" in caplog.messages
    assert (folder / "detections.txt").read_bytes() == whole


def test_an_interrupted_test_of_other_weights_is_not_continued(run, folder, monkeypatch, tmp_path):
    context = stop_after(3, monkeypatch)
    with pytest.raises(KeyboardInterrupt):
        run()
    context.__exit__(None, None, None)
    assert not (folder / "detections.txt").exists()
    write_weights(tmp_path / "my.pth", seed=1)
    assert run() == [1, 2, 3, 4, 5]


def test_a_motion_file_that_is_missing_shows_before_the_first_frame(run, folder, tmp_path):
    with pytest.raises(MotionError, match=r"nowhere\.mat"):
        run(f"dataset.motion_iou_path={tmp_path / 'nowhere.mat'}")
    assert run.saw == []
    assert not (folder / "detections.txt").exists()


def test_other_classes_show_before_the_first_frame(run, data):
    (data / "classes.txt").write_text(f"{BIRD} bird\n{AIRPLANE} airplane\n")
    with pytest.raises(ClassListError, match="class 1 is 'airplane'"):
        run()
    assert run.saw == []


def test_a_broken_annotation_shows_before_the_first_frame(run, data):
    write_frame(data, "VID/val/c/000001")
    (data / "Annotations/VID/val/c/000001.xml").write_text("<annotation>")
    with pytest.raises(ValueError, match=r"000001\.xml"):
        run()
    assert run.saw == []


def test_raw_boxes_are_a_file_of_their_own_without_an_evaluation(run, folder):
    assert run("--raw") == [1, 2, 3, 4, 5]
    assert not (folder / "evaluation.json").exists()
    assert not (folder / "detections.txt").exists()
    assert run("--raw") == []
    assert run() == [1, 2, 3, 4, 5]
    lines = {name: (folder / name).read_text().splitlines() for name in ("raw_detections.txt", "detections.txt")}
    assert len(lines["raw_detections.txt"]) > len(lines["detections.txt"])
    assert len(lines["raw_detections.txt"][0].split()[2].partition(".")[2]) == 8, "decimals for Seq-NMS to come"


def test_a_few_videos_have_a_folder_of_their_own(run, folder):
    assert run("--videos", "1") == [1, 2, 3]
    alone = folder.with_name("VID_val_videos_first_1")
    assert evaluation(alone)["frames"] == 3
    assert run("--videos", "9") == [1, 2, 3, 4, 5]
    assert not folder.exists()


def test_a_test_that_another_process_runs_is_left_alone(run, folder):
    with hold_folder(folder), pytest.raises(FolderInUseError):
        run()
    assert run.saw == []
