"""The figures of a results file, as JSON and as a table, with the motion that is known and wanted."""

import numpy as np
import pytest

from lib.evaluation.evaluate import KnownMotion, evaluate, find_motion
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


def test_all_objects_and_each_motion_have_an_ap(truth, folder):
    evaluation = evaluate(truth, [folder / "detections.txt"])
    figures = evaluation.to_json()
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
    assert figures["motion_iou"] == "from track ids"
    table = evaluation.table()
    assert "class2" in table
    assert "60.0% fast, 0.0% medium, 40.0% slow" in table  # the third frame has no object: one more fast


def test_a_motion_file_takes_the_place_of_the_track_ids(truth, folder):
    write_motion(folder / "motion.mat", np.array([0.8, 0.95, 0.8, 0.95]), truth.offsets)
    motion = find_motion(truth, folder / "motion.mat")
    figures = evaluate(truth, [folder / "detections.txt"], motion).to_json()
    assert [entry["mean_ap"] for entry in figures["motion"]] == [0.75, None, 0.5, 1.0]
    assert "motion.mat" in figures["motion_iou"]


def test_a_wrong_motion_file_is_refused(truth, tmp_path):
    with pytest.raises(MotionError, match="none.mat"):
        find_motion(truth, tmp_path / "none.mat")


def test_motion_that_is_not_wanted_leaves_the_ap_of_all_objects(truth, folder):
    figures = evaluate(truth, [folder / "detections.txt"], KnownMotion.not_wanted()).to_json()
    assert [entry["name"] for entry in figures["motion"]] == ["all"]
    assert figures["mean_ap"] == 0.75


def test_motion_that_is_wanted_and_not_known_leaves_columns_without_figures(truth, folder):
    figures = evaluate(truth, [folder / "detections.txt"], KnownMotion(None, "unknown")).to_json()
    assert [(entry["name"], entry["mean_ap"]) for entry in figures["motion"]] == [
        ("all", 0.75), ("fast", None), ("medium", None), ("slow", None),
    ]  # fmt: skip


def test_a_part_of_the_frames_is_evaluated_by_itself(truth, folder):
    chosen = np.array([True, True, False])
    figures = evaluate(truth, [folder / "detections.txt"], chosen=chosen).to_json()
    assert figures["part"] == {"videos": 1, "of_videos": 2, "frames": 2, "of_frames": 3}
    assert (figures["frames"], figures["mean_ap"]) == (2, 0.75)
