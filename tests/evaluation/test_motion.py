"""Motion IoU against its definition written out plainly, its file form, and the official file of ImageNet VID val."""

from pathlib import Path

import numpy as np
import pytest
import scipy.io

from lib.evaluation.motion import MotionError, motion_from_file, motion_of, read_motion, write_motion
from tests.evaluation.plain_rules import make_truth, plain_motion

OFFICIAL = Path(__file__).resolve().parents[3] / "shared" / "data" / "imagenet_vid_groundtruth_motion_iou.mat"


def moving_objects(seed, videos):
    """Tracks that drift by random steps and are missing from some frames; a track id is used again in every video."""
    rng = np.random.RandomState(seed)
    objects, start = [], 0
    for length in videos:
        corners = rng.randint(0, 200, (3, 2)).astype(np.float64)
        sides = rng.randint(5, 90, (3, 2))
        for frame in range(start, start + length):
            corners += rng.randint(-12, 13, (3, 2))
            for track in rng.permutation(3):
                if rng.rand() < 0.7:
                    box = (*corners[track], *(corners[track] + sides[track]))
                    objects.append((frame, 1 + track, *box, track * 5))
        start += length
    return make_truth(objects, videos, 3)


@pytest.mark.parametrize("seed", range(5))
def test_is_the_mean_over_the_same_track_up_to_ten_frames_away(seed):
    truth = moving_objects(seed, [30, 1, 12, 2])
    motion = motion_of(truth)
    np.testing.assert_allclose(motion.values, plain_motion(truth), rtol=0, atol=1e-9)
    assert motion.zero_entries == (np.diff(truth.offsets) == 0).sum()


def test_a_track_does_not_go_on_in_the_next_video():
    truth = make_truth([(0, 1, 0, 0, 9, 9, 4), (1, 1, 0, 0, 9, 19, 4)], [1, 1], 1)
    np.testing.assert_array_equal(motion_of(truth).values, [1, 1])  # alone: as the official file has it
    truth = make_truth([(0, 1, 0, 0, 9, 9, 4), (1, 1, 0, 0, 9, 19, 4)], [2], 1)
    np.testing.assert_allclose(motion_of(truth).values, [0.5, 0.5])


def test_ten_frames_are_seen_and_eleven_are_not():
    still, moved = (0, 0, 9, 9), (0, 0, 9, 39)
    ten = make_truth([(0, 1, *still, 0), (10, 1, *moved, 0)], [12], 1)
    eleven = make_truth([(0, 1, *still, 0), (11, 1, *moved, 0)], [12], 1)
    np.testing.assert_allclose(motion_of(ten).values, [0.25, 0.25])
    np.testing.assert_array_equal(motion_of(eleven).values, [1, 1])


def test_objects_without_a_track_do_not_meet():
    truth = make_truth([(0, 1, 0, 0, 9, 9, -1), (1, 1, 50, 0, 59, 9, -1)], [2], 1)
    np.testing.assert_array_equal(motion_of(truth).values, [1, 1])


def test_no_object_at_all():
    motion = motion_of(make_truth([], [3], 1))
    assert len(motion.values) == 0
    assert motion.zero_entries == 3


def test_a_file_gives_back_what_was_written(tmp_path):
    truth = moving_objects(1, [9, 4])
    motion = motion_of(truth)
    path = tmp_path / "new" / "motion.mat"
    write_motion(path, motion.values, truth.offsets)
    read = motion_from_file(path, truth)
    np.testing.assert_array_equal(read.values, motion.values)
    assert read.zero_entries == motion.zero_entries
    assert [p.name for p in path.parent.iterdir()] == ["motion.mat"]


def test_the_official_file_has_the_published_shares():
    if not OFFICIAL.is_file():
        pytest.skip("needs the official motion IoU file of ImageNet VID val, which is not on this machine")
    file = read_motion(OFFICIAL)
    motion, counts = file.motion, file.counts
    assert len(counts) == 176126
    assert len(motion.values) == counts.sum() == 273505
    assert motion.zero_entries == (counts == 0).sum() == 4046
    np.testing.assert_array_equal(file.zero_entries, counts == 0)
    # Frames without objects are counted among the fast: without them the shares are 26.2, 35.9 and 37.9
    shares = [round(100 * motion.share(*ends), 1) for ends in ((0, 0.7), (0.7, 0.9), (0.9, 1.1))]
    assert shares == [27.2, 35.4, 37.4]


@pytest.mark.parametrize(
    ("cells", "message"),
    [
        ([[[0.5]], [[0.1]], [[0.2]]], "made for 3 frames, but the image set has 2"),
        ([[[0.5]], [[0.1], [0.2]]], "2 values for frame 2, which has 1"),
        ([[[0.5]], [[1.5]]], "frame 2 has a motion IoU of 1.5"),
        ([[[0.5]], [[float("nan")]]], "frame 2 has a motion IoU of nan"),
        ([[[0.5]], [["x"]]], "cells that are not numbers"),
    ],
)
def test_a_file_that_does_not_fit_is_named(tmp_path, cells, message):
    array = np.empty((len(cells), 1), object)
    for row, cell in enumerate(cells):
        array[row, 0] = np.array(cell)
    path = tmp_path / "motion.mat"
    scipy.io.savemat(path, {"motion_iou": array})
    truth = make_truth([(0, 1, 0, 0, 9, 9, 0), (1, 1, 0, 0, 9, 9, 0)], [2], 1)
    with pytest.raises(MotionError, match=f"motion.mat: .*{message}"):
        motion_from_file(path, truth)


def test_files_that_are_something_else(tmp_path):
    path = tmp_path / "motion.mat"
    with pytest.raises(MotionError, match="cannot be read"):
        read_motion(path)
    path.write_text("1 2 3\n" * 100)
    with pytest.raises(MotionError, match="is not a MATLAB file"):
        read_motion(path)
    scipy.io.savemat(path, {"other": 1})
    with pytest.raises(MotionError, match="holds no 'motion_iou'"):
        read_motion(path)
    scipy.io.savemat(path, {"motion_iou": np.ones((3, 1))})
    with pytest.raises(MotionError, match="that is not a cell array"):
        read_motion(path)
