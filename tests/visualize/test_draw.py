"""What is drawn where: colours, lines, plates, scaling."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch

from lib.structures import Detections
from lib.visualize.draw import class_colour, draw_caption, draw_detections, line_width

NAMES = ["giant_panda", "car", "bird"]


def _detections(*rows):
    """Rows of (x1, y1, x2, y2, score, label)."""
    table = torch.tensor(rows, dtype=torch.float32).reshape(-1, 6)
    return Detections(table[:, :4], table[:, 4], table[:, 5].long())


def _blank(height=240, width=320, value=90):
    return np.full((height, width, 3), value, np.uint8)


def _has_colour(image, label):
    return (image == np.array(class_colour(label))).all(axis=-1).any()


def test_colours_are_stable_and_distinct():
    colours = [class_colour(label) for label in range(1, 31)]
    assert colours == [class_colour(label) for label in range(1, 31)]
    nearest = min(np.abs(np.subtract(a, b)).sum() for a, b in itertools.combinations(colours, 2))
    assert nearest >= 30
    first_ten = min(np.abs(np.subtract(a, b)).sum() for a, b in itertools.combinations(colours[:10], 2))
    assert first_ten >= 60
    assert min(max(colour) for colour in colours) >= 200  # none is too dark for a video


def test_line_lies_on_the_box_and_colour_follows_the_class():
    picture = draw_detections(_blank(), _detections((60, 80, 200, 180, 0.9, 2)), NAMES)
    colour = class_colour(2)
    for row, column in ((130, 60), (130, 200), (180, 130)):  # left, right and bottom line
        assert np.abs(picture[row, column].astype(int) - colour).max() <= 30
    assert (picture[100:170, 80:180] == 90).all()  # nothing inside
    assert (picture[200:] == 90).all()


def test_input_is_not_changed_and_empty_detections_change_nothing():
    image = _blank()
    copy = image.copy()
    draw_detections(image, _detections((10, 20, 50, 60, 0.9, 1)), NAMES, ground_truth=np.array([[5, 5, 30, 30]]))
    assert (image == copy).all()
    assert (draw_detections(image, _detections(), NAMES) == image).all()
    assert (draw_detections(image, _detections(), NAMES, ground_truth=np.zeros((0, 4))) == image).all()


def test_min_score_is_inclusive():
    detections = _detections((20, 60, 80, 120, 0.5, 1), (120, 60, 180, 120, 0.25, 2))
    picture = draw_detections(_blank(), detections, NAMES, min_score=0.5)
    assert _has_colour(picture, 1)
    assert not _has_colour(picture, 2)


def test_surest_detection_is_on_top():
    rows = ((50, 60, 150, 160, 0.3, 1), (50, 60, 150, 160, 0.8, 2))
    pictures = [draw_detections(_blank(), _detections(*order), NAMES) for order in (rows, rows[::-1])]
    assert (pictures[0] == pictures[1]).all()
    assert np.abs(pictures[0][110, 50].astype(int) - class_colour(2)).max() <= 30


@pytest.mark.parametrize(
    "box",
    [
        (0, 0, 40, 40),
        (290, 0, 319, 60),
        (300, 230, 319, 239),
        (-50, -50, 500, 400),
        (250, 2, 900, 100),
        (0, 100, 9, 239),
    ],
)
def test_plate_stays_whole_inside_the_frame(box):
    inside = draw_detections(_blank(), _detections((100, 100, 200, 200, 0.87, 2)), NAMES)
    whole = _plate_area(inside, 2)
    picture = draw_detections(_blank(), _detections((*box, 0.87, 2)), NAMES)
    assert picture.shape == (240, 320, 3)
    assert _plate_area(picture, 2) == whole


def _plate_area(picture, label):
    """Area in pixels of the largest rectangle of rows that `class_colour(label)` fills at least half."""
    mask = (picture == np.array(class_colour(label))).all(axis=-1)
    runs = mask.sum(axis=1)
    rows = np.flatnonzero(runs >= 25)
    columns = np.flatnonzero(mask[rows].sum(axis=0) >= 4)
    return (len(rows) >= 8, columns[-1] - columns[0] >= 40)


def test_long_name_in_a_tiny_frame_keeps_its_size():
    picture = draw_detections(_blank(32, 48), _detections((4, 4, 40, 28, 0.5, 1)), ["a_very_long_class_name_indeed"])
    assert picture.shape == (32, 48, 3)
    assert _has_colour(picture, 1)


@pytest.mark.parametrize("box", [(float("nan"), 0, 5, 5), (-1e9, -1e9, 1e9, 1e9), (30, 30, 20, 20), (5, 5, 5, 5)])
def test_strange_boxes_do_not_fail(box):
    assert draw_detections(_blank(), _detections((*box, 0.5, 1)), NAMES).shape == (240, 320, 3)


def test_scale_keeps_the_box_on_its_pixels():
    """A white rectangle, enlarged three times: the line of its box still runs along its outermost pixels."""
    image = _blank(value=0)
    image[80:121, 60:161] = 255
    picture = draw_detections(image, _detections((60, 80, 160, 120, 0.9, 3)), NAMES, scale=3.0)
    assert picture.shape == (720, 960, 3)
    colour = np.array(class_colour(3))
    row = np.flatnonzero(np.abs(picture[300].astype(int) - colour).max(axis=-1) <= 2)
    # Pixels 60..160 become columns 180..482; the line (3 wide) is centred on those two.
    assert row.min() in (178, 179)
    assert row.max() in (483, 484)
    assert {180, 482} <= set(row.tolist())


def test_shrinking_gives_the_rounded_size():
    picture = draw_detections(_blank(1080, 1920), _detections((0, 0, 99, 99, 0.9, 1)), NAMES, scale=2 / 3)
    assert picture.shape == (720, 1280, 3)


def test_ground_truth_is_white_and_dashed():
    picture = draw_detections(_blank(480, 640), _detections(), NAMES, ground_truth=np.array([[100, 100, 400, 300]]))
    line = (picture[200:201, 100:401] >= 250).all(axis=-1)
    assert not line[0, 50:250].any()
    top = (picture[100, 100:401] >= 240).all(axis=-1)
    changes = np.abs(np.diff(top.astype(int))).sum()
    assert changes >= 10
    assert 0.4 < top.mean() < 0.85


def test_lines_grow_with_the_frame():
    assert [line_width(_blank(rows, rows * 4 // 3)) for rows in (100, 240, 480, 720, 1080)] == [1, 1, 2, 3, 4]


def test_label_without_a_name():
    with pytest.raises(ValueError, match="label 4 has no name: there are 3 classes"):
        draw_detections(_blank(), _detections((1, 1, 5, 5, 0.5, 4)), NAMES)


@pytest.mark.parametrize(
    "image", [np.zeros((5, 5, 3), np.float32), np.zeros((5, 5), np.uint8), np.zeros((0, 5, 3), np.uint8)]
)
def test_other_kinds_of_image_are_refused(image):
    with pytest.raises(ValueError, match="uint8"):
        draw_detections(image, _detections(), NAMES)


def test_caption_stays_in_the_lower_left_corner():
    image = _blank(value=200)
    picture = draw_caption(image, "frame 12")
    changed = (picture != image).any(axis=-1)
    assert changed[-5:, :5].all()
    assert not changed[:200].any()
    assert not changed[:, 200:].any()
    assert (image == 200).all()
