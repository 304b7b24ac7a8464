"""List files: two and four columns, errors with their line."""

from __future__ import annotations

import pytest

from lib.data.image_sets import DatasetError, load_image_set
from tests.conftest import SHARED
from tests.data.toy_vid import write_list


def test_two_columns_name_images(toy):
    image_set = load_image_set(toy, "DET_train")
    assert (image_set.kind, image_set.columns, len(image_set)) == ("DET", 2, 2)
    assert image_set.paths == ["train/s/one", "train/s/two"]
    assert image_set.numbers.tolist() == [[1, 0, 1], [1, 0, 1]]
    assert image_set.image_path("train/s/one") == str(toy / "Data/DET/train/s/one.JPEG")
    assert image_set.annotation_path("train/s/one") == str(toy / "Annotations/DET/train/s/one.xml")


def test_four_columns_name_frames_of_videos(toy):
    image_set = load_image_set(toy, "VID_train")
    assert (image_set.kind, image_set.columns) == ("VID", 4)
    assert image_set.numbers.tolist() == [[1, 0, 6], [1, 2, 6], [1, 3, 6], [1, 5, 6]]


def test_blank_lines_and_a_missing_last_newline_do_no_harm(toy):
    path = write_list(toy, "VID_x", ["", "val/b 1 0 3", "  ", "val/c\t4  0 2"])
    path.write_text(path.read_text().rstrip("\n"))
    image_set = load_image_set(toy, "VID_x")
    assert image_set.paths == ["val/b", "val/c"]
    assert image_set.lines.tolist() == [2, 4]


def test_digest_follows_the_text(toy):
    before = load_image_set(toy, "VID_train").digest
    assert load_image_set(toy, "VID_train").digest == before
    write_list(toy, "VID_train", ["train/a 1 0 6"])
    assert load_image_set(toy, "VID_train").digest != before


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (["a 1 0 3", "b 1 0"], r"VID_x\.txt:2: 3 columns; a line is"),
        (["a 1 0 3", "", "b 1"], r"VID_x\.txt:3: 2 columns, but the lines before it have 4"),
        (
            ["a 1 zero 3"],
            r"VID_x\.txt:1: the columns after the path must be whole numbers of at most 18 digits, not 1 zero 3",
        ),
        (["a 1 0 3", "b 4 3 3"], r"VID_x\.txt:2: frame 3 of a video of 3 frames; frames count from 0"),
        (["a 1 -1 3"], r"VID_x\.txt:1: frame -1 of a video"),
        (["a 1 0 0"], r"VID_x\.txt:1: frame 0 of a video of 0 frames"),
        ([], r"VID_x\.txt: the list is empty"),
    ],
)
def test_broken_list_is_named_with_its_line(toy, lines, message):
    write_list(toy, "VID_x", lines)
    with pytest.raises(DatasetError, match=message):
        load_image_set(toy, "VID_x")


def test_a_missing_list_is_answered_with_the_missing_step(toy, tmp_path):
    there = r"no such list \(DET_train, VID_train, VID_val_frames, VID_val_videos\)"
    with pytest.raises(DatasetError, match=rf"VID_none\.txt: {there}; give one of these .*make_image_sets\.py"):
        load_image_set(toy, "VID_none")
    with pytest.raises(DatasetError, match=rf"DET_x\.txt: {there}.*--preset configs/presets/vid_only\.yaml"):
        load_image_set(toy, "DET_x")
    with pytest.raises(
        DatasetError, match=r"VID_x\.txt: there is no folder '.*nowhere'; correct dataset\.dataset_path"
    ):
        load_image_set(tmp_path / "nowhere", "VID_x")
    (tmp_path / "new" / "Data").mkdir(parents=True)
    with pytest.raises(DatasetError, match=r"no list is there yet; make them: python tools/make_image_sets\.py"):
        load_image_set(tmp_path / "new", "VID_x")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DatasetError, match=r"is '.*empty' the folder with Data, Annotations and ImageSets"):
        load_image_set(tmp_path / "empty", "VID_x")


@pytest.mark.parametrize(
    ("name", "kind"),
    [("DET_a", "DET"), ("DET", "DET"), ("VID_a", "VID"), ("DETECT_a", "VID"), ("mine", "VID"), ("det_a", "VID")],
)
def test_only_names_that_begin_with_det_are_stills(toy, name, kind):
    """As in the originals, which look at what is before the first underscore."""
    write_list(toy, name, ["val/b/000000 1"])
    image_set = load_image_set(toy, name)
    assert image_set.kind == kind
    assert image_set.image_path("val/b/000000") == str(toy / f"Data/{kind}/val/b/000000.JPEG")


def test_the_real_lists():
    folder = SHARED / "data"
    if not (folder / "ImageSets").is_dir():
        pytest.skip("needs the official lists, which are not on this machine")
    stills = load_image_set(folder, "DET_train_30classes")
    frames = load_image_set(folder, "VID_train_15frames")
    videos = load_image_set(folder, "VID_val_videos")
    assert (len(stills), len(frames), len(videos)) == (53639, 57834, 555)
    assert (stills.columns, frames.columns, videos.columns) == (2, 4, 4)
    assert videos.numbers[:, 2].sum() == 176126
    assert videos.numbers[:, 2].min() == 11
