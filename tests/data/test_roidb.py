"""Training entries: merged, mirrored, filtered as the originals', and the account of what was left out."""

from __future__ import annotations

import logging
import os

import numpy as np
import pytest

from lib.data.classes import IMAGENET_VID, Classes
from lib.data.image_sets import DatasetError
from lib.data.roidb import load_roidb
from tests.data.toy_vid import AIRPLANE, BIRD, write_frame, write_list


@pytest.mark.parametrize("method", ["dff", "fgfa"])
def test_entries_are_the_originals(recorded_vid, tmp_path, method):
    recorded, root = recorded_vid(method)
    roidb = load_roidb(root, "DET_train_30classes+VID_train_15frames", IMAGENET_VID, tmp_path)
    kept = recorded["roidb_kept"]
    images = [os.path.relpath(roidb.image_path(i, roidb.position(i)[0]), root) for i in range(len(roidb))]
    assert images == recorded["roidb_image"][kept].tolist()
    assert (roidb.flipped == recorded["roidb_flipped"][kept]).all()
    assert ((roidb.numbers >= 0) == recorded["roidb_has_pattern"][kept]).all()
    seg = np.stack((roidb.numbers, np.where(roidb.numbers < 0, -1, roidb.lengths), roidb.flipped), axis=1)
    assert (seg == recorded["sampling_roidb_seg"]).all()
    entries = np.flatnonzero(kept)[np.repeat(np.arange(len(roidb)), np.diff(roidb.offsets))]
    rows = np.column_stack((entries, recorded["roidb_flipped"][entries], roidb.boxes, roidb.labels))
    assert (rows == recorded["roidb_boxes"]).all()
    assert (roidb.widths == 64).all()
    assert (roidb.heights == 48).all()


def test_mirroring_is_optional(toy):
    plain = load_roidb(toy, "DET_train", IMAGENET_VID, toy / "cache", flip=False)
    assert plain.flipped.tolist() == [False, False]
    both = load_roidb(toy, "DET_train", IMAGENET_VID, toy / "cache")
    assert both.flipped.tolist() == [False, False, True, True]
    # The first still is 40 pixels wide, the second 64; its object of an unknown class is gone
    assert both.boxes.tolist() == [[1, 2, 30, 40], [5, 6, 20, 21], [9, 2, 38, 40], [43, 6, 58, 21]]
    assert both.labels.tolist() == [1, 5, 1, 5]
    assert (both.widths.tolist(), both.heights.tolist()) == ([40, 64, 40, 64], [60, 48, 60, 48])


def test_paths_of_stills_and_frames(toy):
    roidb = load_roidb(toy, "DET_train+VID_train", IMAGENET_VID, toy / "cache", flip=False)
    assert len(roidb) == 6
    assert roidb.position(0) == (0, 1)
    assert roidb.image_path(0, 0) == str(toy / "Data/DET/train/s/one.JPEG")
    assert roidb.position(3) == (2, 6)
    assert roidb.image_path(3, 4) == str(toy / "Data/VID/train/a/000004.JPEG")
    boxes, labels = roidb.objects(3)
    assert (boxes.tolist(), labels.tolist()) == ([[2, 3, 22, 33]], [1])


def test_two_column_video_lists_are_stills(toy):
    roidb = load_roidb(toy, "VID_val_frames", IMAGENET_VID, toy / "cache", flip=False)
    assert [roidb.position(i) for i in range(len(roidb))] == [(0, 1)] * 4
    assert roidb.image_path(1, 0) == str(toy / "Data/VID/val/b/000001.JPEG")


def test_account_says_what_was_left_out_and_why(tmp_path, caplog):
    good, foreign, outside = (AIRPLANE, (1, 1, 9, 9)), ("n7", (1, 1, 9, 9)), (BIRD, (70, 1, 80, 9))
    frames = [[good], [], [], [foreign], [foreign, foreign], [foreign], [outside], [outside, foreign], [good, outside]]
    for i, objects in enumerate(frames):
        write_frame(tmp_path, f"DET/train/{i}", objects)
    write_list(tmp_path, "DET_x", [f"train/{i} 1" for i in range(len(frames))])
    with caplog.at_level(logging.INFO):
        roidb = load_roidb(tmp_path, "DET_x", IMAGENET_VID, tmp_path / "cache")
    assert (
        "DET_x: 2 of 9 frames are used; 2 have no object; 3 have only objects outside the class list; "
        "2 have only impossible boxes (outside the image, or inside out) of known classes. "
        "2 of 10 objects are used; outside the class list: n7 (5); with an impossible box: 3."
    ) in caplog.text
    assert "4 training entries, half of them mirrored copies" in caplog.text
    assert roidb.labels.tolist() == [1] * 4


def test_nothing_left_names_both_sides(toy):
    classes = Classes(("plane", "bird"), ("airplane", "bird"))
    with pytest.raises(DatasetError) as caught:
        load_roidb(toy, "DET_train+VID_train", classes, toy / "cache")
    message = str(caught.value)
    assert message.startswith("nothing is left to train on. DET_train: 0 of 2 frames are used")
    assert f"outside the class list: {AIRPLANE} (4)" in message
    assert "expects the annotation names airplane, bird;" in message


def test_unknown_set_is_an_error(toy):
    with pytest.raises(DatasetError, match=r"VID_none\.txt: no such list"):
        load_roidb(toy, "DET_train+VID_none", IMAGENET_VID, toy / "cache")
