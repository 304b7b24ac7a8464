"""tools/make_motion_iou.py: a file is written, read, compared with the annotations, and with the official one."""

from pathlib import Path

import numpy as np
import pytest
import scipy.io

from lib.errors import InputError
from tests.data.toy_vid import AIRPLANE, write_frame, write_list, write_toy
from tools import make_motion_iou as tool

OFFICIAL = Path(__file__).resolve().parents[3] / "shared" / "data" / "imagenet_vid_groundtruth_motion_iou.mat"


@pytest.fixture
def run(tmp_path):
    root = write_toy(tmp_path / "toy")

    def call(*arguments, data=True):
        options = ["--dataset-path", str(root), "--cache", str(tmp_path / "cache")] if data else []
        return tool.main([*options, *map(str, arguments)])

    return call


def iou(a, b):
    width, height = min(a[2], b[2]) - max(a[0], b[0]) + 1, min(a[3], b[3]) - max(a[1], b[1]) + 1
    shared = max(width, 0) * max(height, 0)
    return shared / (sum((x2 - x1 + 1) * (y2 - y1 + 1) for x1, y1, x2, y2 in (a, b)) - shared)


def test_the_file_has_the_originals_form_and_compares_equal(run, tmp_path, capsys):
    out = tmp_path / "new" / "motion.mat"
    assert run("--out", out) == 0
    cells = scipy.io.loadmat(out)["motion_iou"]
    assert cells.shape == (5, 1)  # b has 3 frames, c has 2
    assert [cell.shape for cell in cells[:, 0]] == [(2, 1), (1, 1), (1, 0), (2, 1), (1, 1)]
    # The bird (track 0, 1, ... in its frames) is never the same instance; the airplane has no track id
    np.testing.assert_array_equal(np.concatenate([cell.ravel() for cell in cells[:, 0]]), 1.0)
    assert run("--check", out) == 0
    printed = capsys.readouterr().out
    assert "5 frames (1 without objects count as fast), 6 objects: 14.3% fast, 0.0% medium, 85.7% slow" in printed
    assert "0 of 6 values differ by more than 1e-06" in printed


def test_moving_objects_have_the_mean_iou_with_themselves(run, tmp_path):
    out = tmp_path / "motion.mat"
    assert run("--image-set", "VID_train", "--out", out, "--dataset-path", write_moving(tmp_path / "moving")) == 0
    boxes = [(4 * i, 0, 4 * i + 19, 9) for i in range(12)]
    found = scipy.io.loadmat(out)["motion_iou"]
    for i, cell in enumerate(found[:, 0]):
        near = [iou(boxes[i], boxes[j]) for j in range(12) if 1 <= abs(i - j) <= 10]
        np.testing.assert_allclose(cell, [[np.mean(near)]], rtol=0, atol=1e-12)


def write_moving(root):
    for i in range(12):
        write_frame(root, f"VID/train/m/{i:06d}", [(AIRPLANE, (4 * i, 0, 4 * i + 19, 9), "<trackid>3</trackid>")])
    write_list(root, "VID_train", ["train/m 1 0 12"])
    return root


def test_values_that_differ_are_told(run, tmp_path, capsys):
    out = tmp_path / "motion.mat"
    run("--out", out)
    cells = scipy.io.loadmat(out)["motion_iou"]
    cells[3, 0] = np.array([[1.0], [0.25]])
    scipy.io.savemat(out, {"motion_iou": cells})
    capsys.readouterr()
    assert run("--check", out) == 1
    printed = capsys.readouterr().out
    assert "1 of 6 values differ by more than 1e-06, by 0.75 at most; 1 change their group" in printed
    assert "frame 4, object 2: 0.250000 in the file, 1.000000 computed" in printed


def test_the_official_file_by_itself(run, capsys):
    if not OFFICIAL.is_file():
        pytest.skip("needs the official motion IoU file of ImageNet VID val, which is not on this machine")
    assert run("--check", OFFICIAL, data=False) == 0
    printed = capsys.readouterr().out
    assert "176126 frames (4046 without objects count as fast), 273505 objects" in printed
    assert "27.2% fast, 35.4% medium, 37.4% slow" in printed


def test_what_cannot_be_used_is_said(run, tmp_path, capsys):
    with pytest.raises(InputError, match=r"none.mat: cannot be read"):
        run("--check", tmp_path / "none.mat")
    with pytest.raises(SystemExit):
        run(data=False)
    assert "give --dataset-path" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        run("--check", "x.mat", "--out", "y.mat", data=False)
