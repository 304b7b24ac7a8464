"""An image set: frames, videos and ground truth, from two-column and four-column lists."""

from __future__ import annotations

import tarfile

import numpy as np
import pytest

from lib.data.classes import IMAGENET_VID
from lib.data.image_sets import DatasetError
from lib.data.imagenet_vid import ImageNetVID
from lib.data.transforms import Preprocessing
from tests.data.toy_vid import write_list


def _open(toy, name, **options):
    return ImageNetVID(toy, name, IMAGENET_VID, toy / "cache", **options)


@pytest.mark.parametrize("name", ["VID_val_videos", "VID_val_frames"])
def test_videos_of_both_kinds_of_list(toy, name):
    dataset = _open(toy, name)
    videos = dataset.videos()
    assert [(video.name, video.first_frame_id, video.length) for video in videos] == [("val/b", 1, 3), ("val/c", 4, 2)]
    assert videos[1].frame_path(1) == str(toy / "Data/VID/val/c/000001.JPEG")
    assert dataset.frame_paths() == [video.frame_path(i) for video in videos for i in range(video.length)]
    assert len(dataset) == 5


@pytest.mark.parametrize("name", ["VID_val_videos", "VID_val_frames"])
def test_ground_truth(toy, name):
    truth = _open(toy, name).ground_truth()
    assert truth.class_names == list(IMAGENET_VID.names)
    assert truth.videos.tolist() == [0, 0, 0, 1, 1]
    assert truth.offsets.tolist() == [0, 2, 3, 3, 5, 6]
    assert truth.frame_of_object().tolist() == [0, 0, 1, 3, 3, 4]
    assert truth.labels.tolist() == [5, 1, 5, 5, 1, 5]
    assert truth.track_ids.tolist() == [0, -1, 1, 0, -1, 1]
    assert truth.boxes.dtype == np.float64
    assert truth.boxes[:2].tolist() == [[0, 0, 9, 9], [2, 2, 70, 50]], "boxes are not clipped"


def test_objects_of_unknown_classes_are_no_ground_truth(toy):
    truth = _open(toy, "DET_train").ground_truth()
    assert truth.offsets.tolist() == [0, 1, 2]
    assert truth.labels.tolist() == [1, 5]
    assert truth.videos.tolist() == [0, 1], "each still is a video of one frame"


def test_frames_as_a_network_reads_them(toy):
    video = _open(toy, "VID_val_videos").videos()[1]
    frames = list(video.frames(Preprocessing(24, 100, (0.0, 0.0, 0.0))))
    assert [(frame.frame_id, frame.first) for frame in frames] == [(4, True), (5, False)]
    assert frames[0].im_info.tolist() == [24, 32, 0.5]
    assert (frames[0].image != frames[1].image).any()


def test_frames_listed_for_training(toy):
    dataset = _open(toy, "VID_train", training=True)
    assert [path[-11:] for path in dataset.frame_paths()] == [f"{i:06d}.JPEG" for i in (0, 2, 3, 5)]
    assert dataset.index.boxes[:, 0].tolist() == [0, 2, 3, 5]
    assert [video.length for video in dataset.videos()] == [1] * 4
    assert dataset.ground_truth().num_frames == 4


@pytest.mark.parametrize(
    ("frames", "wrong"),
    [
        (["b/000000", "b/000001", "b/000001"], "3: val/b/000001 is out of order, .* in line 2"),
        (["b/000001", "b/000000"], "2: val/b/000000 is out of order, .* in line 1"),
        (["b/000002", "b/000001", "b/000000"], "2: val/b/000001 is out of order"),
        (["b/000000", "c/000000", "b/000001", "c/000001"], "3: val/b/000001 is out of order, .* in line 1"),
        (["b/000000", "c/000000", "b/000000"], "3: val/b/000000 is out of order, .* in line 1"),
        (["b/frame10", "b/frame9"], "2: val/b/frame9 is out of order"),
    ],
)
def test_frames_of_a_video_are_together_in_order_and_each_once(toy, frames, wrong):
    write_list(toy, "VID_x", [f"val/{frame} {number}" for number, frame in enumerate(frames, 1)])
    with pytest.raises(DatasetError, match=rf"VID_x\.txt:{wrong}"):
        _open(toy, "VID_x")


def test_some_frames_of_a_video_are_a_video(toy):
    """Every n-th one, say; and names are compared as numbers."""
    write_list(toy, "VID_x", [f"val/{name} 1" for name in ("b/9", "b/10", "b/100", "c/7", "one")])
    videos = _open(toy, "VID_x").videos()
    assert [(video.name, video.length) for video in videos] == [("val/b", 3), ("val/c", 1), ("val", 1)]


def test_stills_may_be_listed_in_any_order_and_more_than_once(toy):
    """The official DET list has 378 images twice; to test on them is unusual, but not wrong."""
    write_list(toy, "DET_x", [f"train/s/{name} 1" for name in ("two", "one", "two")])
    assert [video.length for video in _open(toy, "DET_x").videos()] == [1, 1, 1]


def test_a_set_of_any_other_name_is_one_of_videos(toy):
    write_list(toy, "mine", ["val/b 1 0 3", "val/c 4 0 2"])
    own, official = _open(toy, "mine"), _open(toy, "VID_val_videos")
    assert own.frame_paths() == official.frame_paths()
    assert (own.ground_truth().boxes == official.ground_truth().boxes).all()


def test_a_list_of_single_frames_is_no_list_of_videos(toy):
    with pytest.raises(
        DatasetError, match=r"VID_train\.txt:2: names frame 2 of train/a, which line 1 names too; a list"
    ):
        _open(toy, "VID_train")
    write_list(toy, "VID_x", ["val/b 1 2 3"])
    with pytest.raises(DatasetError, match=r"VID_x\.txt:1: names frame 2 of val/b; a list for testing has one line"):
        _open(toy, "VID_x")


def test_part_of_a_list_is_numbered_by_position_with_a_warning(toy, caplog):
    write_list(toy, "VID_x", ["val/c 4 0 2", "val/b 1 0 3"])
    assert [video.first_frame_id for video in _open(toy, "VID_x").videos()] == [1, 3]
    assert "first frame ids are not cumulative" in caplog.text
    caplog.clear()
    _open(toy, "VID_val_videos")
    _open(toy, "VID_val_frames")
    write_list(toy, "VID_x", ["val/b/000000 1", "val/b/000001 1"])  # the same number throughout is no id
    _open(toy, "VID_x")
    assert caplog.text == ""
    write_list(toy, "VID_x", ["val/c/000000 4", "val/c/000001 5"])
    assert [video.first_frame_id for video in _open(toy, "VID_x").videos()] == [1]
    assert "its frame ids are not cumulative from 1; frames are numbered by their position" in caplog.text


def test_joined_sets_are_for_training_only(toy):
    with pytest.raises(DatasetError, match=r"'DET_train\+VID_train': sets are joined with \+ for training only"):
        _open(toy, "DET_train+VID_train")


def test_videos_need_no_annotations(toy):
    for path in (toy / "Annotations/VID/val").rglob("*.xml"):
        path.unlink()
    dataset = _open(toy, "VID_val_videos")
    assert len(dataset.videos()) == 2
    with pytest.raises(DatasetError, match=r"VID_val_videos\.txt:1: its annotation file"):
        _ = dataset.index


def test_recorded_ground_truth(golden, golden_dir, tmp_path):
    """The frames, classes and boxes that the originals' evaluators read from the same XML files; no image is needed."""
    rows = golden("eval_public")["gt"]  # video, frame, frame id, class, x1, y1, x2, y2, motion IoU
    with tarfile.open(golden_dir / "eval_public_annotations.tar.gz") as archive:
        archive.extractall(tmp_path, filter="data")
    truth = _open(tmp_path, "VID_val_videos").ground_truth()
    frames = truth.frame_of_object()
    assert (truth.videos[frames] == rows[:, 0]).all()
    assert (frames + 1 == rows[:, 2]).all()
    assert (truth.labels == rows[:, 3]).all()
    assert (truth.boxes == rows[:, 4:8]).all()
    assert (_open(tmp_path, "VID_val_videos_eval").ground_truth().boxes == truth.boxes).all()
