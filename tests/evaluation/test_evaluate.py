"""The figures of a run as a configuration asks for them, as JSON and as a table."""

import json
import logging

import numpy as np
import pytest

from lib.config import load_config
from lib.evaluation.evaluate import evaluate, evaluate_results, write_json
from lib.evaluation.motion import MotionError, write_motion
from tests.evaluation.plain_rules import make_truth

STILL, FAR = (0, 0, 39, 39), (100, 100, 139, 139)


@pytest.fixture
def truth():
    """Class 1 stands still in both frames, class 2 jumps out of its own box, class 3 has no object."""
    objects = [(0, 1, *STILL, 0), (0, 2, *STILL, 1), (1, 1, *STILL, 0), (1, 2, *FAR, 1)]
    return make_truth(objects, [2, 1], 3)


@pytest.fixture
def folder(tmp_path):
    rows = [(1, 1, 0.9, *STILL), (1, 2, 0.8, *STILL), (2, 2, 0.7, *FAR)]
    (tmp_path / "detections.txt").write_text("".join(" ".join(map(str, row)) + "\n" for row in rows))
    return tmp_path


def test_a_run_is_evaluated_as_its_configuration_says(truth, folder, caplog):
    caplog.set_level(logging.INFO)
    figures = evaluate_results(truth, folder, load_config(None))
    assert figures == json.loads((folder / "evaluation.json").read_text())
    assert figures["ap"] == [0.5, 1.0, None]
    assert figures["mean_ap"] == 0.75
    assert [(entry["name"], entry["range"]) for entry in figures["motion"]] == [
        ("all", [0, 1]),
        ("fast", [0, 0.7]),
        ("medium", [0.7, 0.9]),
        ("slow", [0.9, 1]),
    ]
    assert [entry["ap"] for entry in figures["motion"][1:]] == [[None, 1, None], [None] * 3, [0.5, None, None]]
    assert (figures["frames"], figures["frames_with_detections"], figures["detections"]) == (3, 2, 3)
    assert "class2" in caplog.text
    assert "60.0% fast, 0.0% medium, 40.0% slow" in caplog.text  # the third frame has no object: one more fast


def test_a_motion_file_takes_the_place_of_the_track_ids(truth, folder):
    write_motion(folder / "motion.mat", np.array([0.8, 0.95, 0.8, 0.95]), truth.offsets)
    cfg = load_config(None, [f"dataset.motion_iou_path={folder / 'motion.mat'}"])
    figures = evaluate_results(truth, folder, cfg)
    assert [entry["mean_ap"] for entry in figures["motion"]] == [0.75, None, 0.5, 1.0]
    assert "motion.mat" in figures["motion_iou"]


def test_a_wrong_motion_file_is_refused_before_the_results_are_read(truth, tmp_path):
    with pytest.raises(MotionError, match="none.mat"):
        evaluate(truth, [tmp_path / "missing.txt"], tmp_path / "none.mat")


def test_without_detail_there_is_only_the_ap_of_all_objects(truth, folder):
    figures = evaluate_results(truth, folder, load_config(None, ["dataset.enable_detailed_eval=false"]))
    assert [entry["name"] for entry in figures["motion"]] == ["all"]
    assert figures["mean_ap"] == 0.75


def test_a_failed_write_leaves_the_earlier_file_alone(tmp_path):
    write_json(tmp_path / "a.json", {"mean_ap": 0.5})
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(tmp_path / "a.json", {"mean_ap": float("nan")})
    assert json.loads((tmp_path / "a.json").read_text()) == {"mean_ap": 0.5}
    assert len(list(tmp_path.iterdir())) == 1
