"""tools/evaluate.py: the recorded APs from annotations on disk, several files, read-only data, errors in one line."""

import json
import tarfile

import numpy as np
import pytest

from lib.errors import InputError
from tools import evaluate as tool

OBJECT = """<annotation><size><width>99</width><height>99</height></size><object><trackid>{track}</trackid>
<name>n02691156</name><bndbox><xmin>10</xmin><ymin>10</ymin><xmax>49</xmax><ymax>49</ymax></bndbox></object>
</annotation>"""


def run(tmp_path, *arguments):
    """The tool's JSON; its cache and output below `tmp_path`."""
    out = tmp_path / "out" / "figures.json"
    options = ["--cache", tmp_path / "cache", "--json", out]
    tool.main([str(argument) for argument in (*arguments, *options)])
    return json.loads(out.read_text())


@pytest.fixture
def recorded_set(golden_dir, tmp_path):
    """The data set of the recordings: annotations and lists; there is no image, and none is needed."""
    with tarfile.open(golden_dir / "eval_public_annotations.tar.gz") as archive:
        archive.extractall(tmp_path / "data", filter="data")
    return tmp_path / "data"


@pytest.fixture
def small_set(tmp_path):
    """Two frames of one video with an airplane that stands still."""
    root = tmp_path / "small"
    folder = root / "Annotations" / "VID" / "val" / "clip"
    folder.mkdir(parents=True)
    for frame in range(2):
        (folder / f"{frame:06d}.xml").write_text(OBJECT.format(track=7))
    (root / "ImageSets").mkdir()
    (root / "ImageSets" / "VID_val_videos.txt").write_text("val/clip 1 0 2\n")
    return root


@pytest.mark.parametrize("scores", ["unique", "ties"])
def test_recorded_aps_from_annotations_on_disk(tmp_path, golden, golden_dir, recorded_set, scores):
    before = sorted(recorded_set.rglob("*"))
    figures = run(
        tmp_path,
        *("--dataset-path", recorded_set, "--results", golden_dir / f"eval_public_dets_{scores}.txt"),
        *("--motion-iou", golden_dir / "eval_public_motion_iou.mat"),
    )
    recorded = golden("eval_public")
    plain = recorded[f"{scores}_ap_stable_sort"]
    by_motion = recorded[f"{scores}_ap_motion_stable_sort"][:, 0]
    by_motion = np.where(by_motion < 0, np.nan, by_motion)
    np.testing.assert_allclose(np.array(figures["ap"], float), plain, rtol=0, atol=1e-9)
    assert figures["mean_ap"] == pytest.approx(np.nanmean(plain), abs=1e-9)
    assert [entry["range"] for entry in figures["motion"]] == [[0, 1], [0, 0.7], [0.7, 0.9], [0.9, 1]]
    for entry, expected in zip(figures["motion"], by_motion, strict=True):
        np.testing.assert_allclose(np.array(entry["ap"], float), expected, rtol=0, atol=1e-9)
        assert entry["mean_ap"] == pytest.approx(np.nanmean(expected), abs=1e-9)
    assert sorted(recorded_set.rglob("*")) == before, "the data set's folder may be read-only"


def test_parts_of_a_run_and_motion_from_track_ids(tmp_path, small_set, capsys):
    parts = [tmp_path / "a.txt", tmp_path / "b.txt"]
    parts[0].write_text("2 1 0.9 10 10 49 49\n")
    parts[1].write_text("1 2 0.8 10 10 49 49\n1 1 0.7 60 60 99 99\n")
    figures = run(tmp_path, "--dataset-path", small_set, "--results", *parts)
    assert figures["ap"] == [0.5, *[None] * 29]
    assert [entry["mean_ap"] for entry in figures["motion"]] == [0.5, None, None, 0.5]
    assert figures["class_names"][:2] == ["airplane", "antelope"]
    assert (figures["frames"], figures["frames_with_detections"], figures["detections"]) == (2, 2, 3)
    printed = capsys.readouterr().out.splitlines()
    assert printed[0].split()[-5:] == ["objects", "all", "fast", "medium", "slow"]
    assert printed[1].split() == ["airplane", "2", "50.00", "-", "-", "50.00"]
    assert printed[31].split() == ["mean", "2", "50.00", "-", "-", "50.00"]
    assert "100.0% slow" in printed[-1]


def test_an_empty_file_and_a_class_list(tmp_path, small_set):
    (tmp_path / "none.txt").touch()
    (tmp_path / "classes.txt").write_text("n02691156 plane\nn02084071 dog\n")
    arguments = ("--results", tmp_path / "none.txt", "--classes", tmp_path / "classes.txt")
    figures = run(tmp_path, "--dataset-path", small_set, *arguments)
    assert figures["ap"] == [0.0, None]
    assert figures["class_names"] == ["plane", "dog"]


def test_without_track_ids_only_all_objects_have_an_ap(tmp_path, small_set, caplog):
    (small_set / "Annotations" / "VID" / "val" / "clip" / "000001.xml").write_text(OBJECT.format(track=-1))
    (tmp_path / "a.txt").write_text("2 1 0.9 10 10 49 49\n")
    figures = run(tmp_path, "--dataset-path", small_set, "--results", tmp_path / "a.txt")
    assert [entry["mean_ap"] for entry in figures["motion"]] == [0.5, None, None, None]
    assert "1 of 2 objects have no track id" in caplog.text


def test_errors_name_the_line(tmp_path, small_set):
    (tmp_path / "a.txt").write_text("1 1 0.9 10 10 49 49\n3 1 0.9 10 10 49 49\n")
    with pytest.raises(InputError, match=r"a.txt:2: frame_id 3 is not a whole number from 1 to 2"):
        run(tmp_path, "--dataset-path", small_set, "--results", tmp_path / "a.txt")
    assert not (tmp_path / "out").exists()
