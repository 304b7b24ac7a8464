"""Detections and ground truth: consistent lengths, row selection, the first frames of a set."""

import numpy as np
import pytest
import torch

from lib.structures import Detections, Frame, GroundTruth, Inside


def detections(n, label=1):
    return Detections(torch.arange(4.0 * n).reshape(n, 4), torch.arange(n) / 10, torch.full((n,), label))


def test_rows_of_detections_stay_together():
    rows = detections(4)[torch.tensor([3, 1])]
    assert rows.boxes.tolist() == [[12, 13, 14, 15], [4, 5, 6, 7]]
    assert rows.scores.tolist() == pytest.approx([0.3, 0.1])
    both = Detections.cat([detections(2), detections(3, label=7)])
    assert both.labels.tolist() == [1, 1, 7, 7, 7]
    assert len(Detections.cat([])) == 0


def test_fields_of_unequal_length_are_refused():
    with pytest.raises(ValueError, match=r"\(2, 4\)"):
        Detections(torch.zeros(2, 4), torch.zeros(3), torch.zeros(2, dtype=torch.int64))


def test_im_info_is_height_width_scale():
    frame = Frame(torch.zeros(3, 20, 30), 1.5)
    assert frame.im_info.tolist() == [20, 30, 1.5]
    assert frame.im_info.dtype == torch.float32


def test_a_frame_without_its_image_is_still_the_same_frame():
    pixels, inside = np.zeros((2, 3, 3), np.uint8), Inside(torch.zeros(1, 2, 2), references=[3])
    frame = Frame(torch.zeros(3, 20, 30), 1.5, 7, True, 6, "a.jpg", "clip", 0.25, pixels, inside)
    rest = frame.without_image()
    assert rest.image.shape == (3, 0, 0)
    assert rest.im_info.tolist() == [20, 30, 1.5]
    assert (rest.frame_id, rest.first, rest.index, rest.name) == (7, True, 6, "a.jpg")
    assert (rest.video, rest.seconds, rest.scale) == ("clip", 0.25, 1.5)
    assert rest.pixels is pixels
    assert rest.inside is inside
    assert frame.image.shape == (3, 20, 30), "the frame itself is as it was"


def test_detections_can_be_iterated_over():
    rows = list(detections(2, label=3))
    assert rows == [(3, 0.0, (0, 1, 2, 3)), (3, pytest.approx(0.1), (4, 5, 6, 7))]
    assert rows[1].label == 3
    assert rows[1].score == pytest.approx(0.1)
    assert rows[1].box == (4, 5, 6, 7)
    assert isinstance(rows[0].label, int)
    assert isinstance(rows[0].box[0], float)
    assert list(detections(0)) == []


def test_the_first_frames_of_a_ground_truth():
    truth = GroundTruth(
        class_names=["a"],
        videos=np.array([0, 0, 1]),
        offsets=np.array([0, 2, 2, 5]),
        boxes=np.arange(20.0).reshape(5, 4),
        labels=np.ones(5, np.int64),
        track_ids=np.arange(5),
    )
    assert truth.frame_of_object().tolist() == [0, 0, 2, 2, 2]
    part = truth.first_frames(2)
    assert part.num_frames == 2
    assert part.frame_of_object().tolist() == [0, 0]
    assert part.track_ids.tolist() == [0, 1]
