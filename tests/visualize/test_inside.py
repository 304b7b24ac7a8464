"""Panels of what a network computed, from made-up maps whose pictures are known."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from lib.structures import Frame, Inside
from lib.visualize.inside import InsidePanels, ShowError

SIZE = (64, 96)  # of the network's input: 4 x 6 cells
KEY_YELLOW = (60, 220, 255)


def picture(value=100):
    return np.full((*SIZE, 3), value, np.uint8)


def frame_of(index=0, key=None, **inside):
    inside = {"features": torch.randn(8, 4, 6), "references": []} | inside
    frame = Frame(torch.zeros(3, *SIZE), scale=0.5, index=index, key_frame=key)
    frame.inside = Inside(**inside)
    return frame


def flow_of(dx, dy, count=1):
    return torch.tensor([dx, dy], dtype=torch.float32).view(1, 2, 1, 1).expand(count, 2, 4, 6)


def test_flow_is_coloured_and_its_scale_only_grows():
    panels = InsidePanels(("flow",))
    right = panels.compose(picture(), frame_of(4, False, references=[3], flow=flow_of(4, 0)))
    assert right.shape == (64, 192, 3)
    assert (right[:, :96] == 100).all()
    np.testing.assert_allclose(right[5, 100], (0, 0, 255), atol=2)  # full colour
    half = panels.compose(picture(), frame_of(5, False, references=[3], flow=flow_of(2, 0)))
    np.testing.assert_allclose(half[5, 100], (127.5, 127.5, 255), atol=2)
    none = panels.compose(picture(), frame_of(6, True))
    assert (none[5, 100] == 255).all()


def test_of_many_flows_the_one_to_the_farthest_frame_is_shown():
    flow = torch.cat([flow_of(0, 3), flow_of(3, 0), flow_of(-3, 0)])
    inside = {"flow": flow, "weights": torch.full((3, 4, 6), 1 / 3)}
    shown = InsidePanels(("flow",)).compose(picture(), frame_of(5, references=[5, 3, 7], **inside))
    np.testing.assert_allclose(shown[5, 100], (0, 0, 255), atol=2)  # to frame 3: as far as 7, and earlier


def test_flow_lies_over_what_moves():
    flow = torch.zeros(1, 2, 4, 6)
    flow[0, 0, 1, 4] = 4  # the cell of rows 16 to 31, columns 64 to 79
    shown = InsidePanels(("flow",)).compose(picture(), frame_of(1, False, references=[0], flow=flow))[:, 96:]
    red = (shown == (0, 0, 255)).all(axis=2)
    assert red[16:32, 64:80].all()
    assert red.sum() == 16 * 16


def test_features_keep_their_colours_from_frame_to_frame():
    torch.manual_seed(0)
    panels, features = InsidePanels(("features",)), torch.randn(8, 4, 6)
    first = panels.compose(picture(), frame_of(0, features=features))[:40, 96:]
    panels.compose(picture(), frame_of(1, features=5 * torch.randn(8, 4, 6)))
    again = panels.compose(picture(), frame_of(2, features=features))[:40, 96:]
    np.testing.assert_array_equal(first, again)
    other = panels.compose(picture(), frame_of(3, features=features.flip(2)))[:40, 96:]
    np.testing.assert_array_equal(other, first[:, ::-1])
    assert len(np.unique(first.reshape(-1, 3), axis=0)) > 8


@pytest.mark.parametrize("features", [torch.zeros(8, 4, 6), torch.randn(2, 4, 6), torch.randn(8, 4, 6).half()])
def test_features_of_every_kind(features):
    assert InsidePanels(("features",)).compose(picture(), frame_of(features=features)).shape == (64, 192, 3)


def test_bars_are_as_high_as_the_shares():
    weights = torch.tensor([0.1, 0.3, 0.6]).view(3, 1, 1).expand(3, 4, 6)
    large = np.full((480, 660, 3), 100, np.uint8)
    frame = frame_of(5, references=[4, 5, 6], flow=flow_of(0, 0, 3), weights=weights)
    shown = InsidePanels(("weights",)).compose(large, frame)
    strip = shown[480:]
    assert shown.shape == (560, 660, 3)
    rows = 80 * 2 // 3
    heights = [(strip[:rows, column].max(axis=1) > 100).sum() for column in (110, 330, 550)]
    full = rows - 4  # stands for 2 / 3: twice the share of each of three equal ones
    np.testing.assert_allclose(heights, [0.15 * full, 0.45 * full, 0.9 * full], atol=2)
    assert tuple(strip[rows - 2, 330]) == (40, 150, 255), "the frame's own bar is orange"
    assert len({*strip[rows - 2, 110]}) == 1


def bar_heights(strip, columns):
    rows = len(strip) * 2 // 3
    return [(strip[:rows, column].max(axis=1) > 100).sum() for column in columns]


def test_no_bar_is_cut_off_at_the_ends_of_a_video():
    panels, large = InsidePanels(("weights",)), np.full((480, 700, 3), 100, np.uint8)
    columns, full = [50 + 100 * place for place in range(7)], 80 * 2 // 3 - 4
    shares = torch.tensor([0.6, 0.2, 0.15, 0.05]).view(4, 1, 1).expand(4, 4, 6)
    first = frame_of(0, references=[0, 1, 2, 3], flow=flow_of(0, 0, 4), weights=shares)
    heights = bar_heights(panels.compose(large, first)[480:], columns)
    np.testing.assert_allclose(heights, [0, 0, 0, full, full / 3, full / 4, full / 12], atol=2)
    equal = torch.full((7, 4, 6), 1 / 7)
    later = frame_of(3, references=[3, 0, 1, 2, 4, 5, 6], flow=flow_of(0, 0, 7), weights=equal)
    heights = bar_heights(panels.compose(large, later)[480:], columns)
    np.testing.assert_allclose(heights, [full / 2] * 7, atol=2)


@pytest.mark.parametrize(
    ("index", "references", "caption"),
    [
        (0, [0, 1, 2], "share of frames 0 to 2 in the average (own: orange), full height 60 %"),
        (0, [0], "share of frame 0 in the average (own: orange), full height 100 %"),
        (9, [9, 7, 8], "share of frames 7 to 9 in the average (own: orange), full height 60 %"),
    ],
)
def test_the_caption_names_the_frames_that_are_there(index, references, caption, monkeypatch):
    captions = []
    monkeypatch.setattr("lib.visualize.inside.draw_caption", lambda strip, text: captions.append(text) or strip)
    shares = torch.tensor([0.6, 0.2, 0.2] if len(references) == 3 else [1.0]).view(-1, 1, 1)
    weights = shares.expand(len(references), 4, 6)
    frame = frame_of(index, references=references, flow=flow_of(0, 0, len(references)), weights=weights)
    InsidePanels(("weights",)).compose(picture(), frame)
    assert captions == [caption]


def test_key_frames_are_marked():
    panels = InsidePanels(("keys",))
    key = panels.compose(picture(), frame_of(10, True))
    other = panels.compose(picture(), frame_of(11, False, references=[10], flow=flow_of(1, 0)))
    assert key.shape == other.shape == (64, 96, 3)
    assert tuple(key[0, 50]) == KEY_YELLOW
    assert (other[0] == 100).all()
    assert not (other == 100).all(), "the caption"


def test_all_is_what_there_is_and_the_rest_is_named():
    flow = {"references": [0], "flow": flow_of(1, 0)}
    assert InsidePanels(("all",)).compose(picture(), frame_of(1, False, **flow)).shape == (64, 96 + 48, 3)
    assert InsidePanels(("all",)).compose(picture(), frame_of(0)).shape == (64, 192, 3)
    fgfa = flow | {"weights": torch.ones(1, 4, 6)}
    assert InsidePanels(("all",)).compose(picture(), frame_of(0, **fgfa)).shape == (64 + 48, 96 + 48, 3)
    for show, message in (("flow", "has no flow"), ("weights", "weighs no frames"), ("keys", "has no key frames")):
        with pytest.raises(ShowError, match=f"--show {show}: this method {message}"):
            InsidePanels((show,)).compose(picture(), frame_of(0))


def test_frames_need_something_inside():
    with pytest.raises(ValueError, match="inside=True"):
        InsidePanels(("all",)).compose(picture(), Frame(torch.zeros(3, *SIZE), scale=1.0))
