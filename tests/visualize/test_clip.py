"""Contact sheets, pictures side by side, image files."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from lib.files import OutputError
from lib.visualize.clip import ContactSheet, fit, grid, side_by_side, write_image


def _frame(value, height=48, width=64):
    return np.full((height, width, 3), value, np.uint8)


@pytest.mark.parametrize(("frames", "expected"), [(1, [0]), (3, [0, 1, 2]), (9, [0, 3, 5, 8])])
def test_contact_sheet_takes_evenly_spaced_frames(tmp_path, frames, expected):
    sheet = ContactSheet(4, 64)
    for number in range(frames):
        sheet.add(_frame(10 + 25 * number), str(number))
    sheet.write(tmp_path / "sheet.png")
    picture = cv2.imread(str(tmp_path / "sheet.png"))
    found = {int(value) for value in np.unique(picture[:, :, 0]) if (picture == value).mean() > 0.02}
    assert {10 + 25 * number for number in expected} <= found
    assert not {10 + 25 * number for number in set(range(frames)) - set(expected)} & found


def test_contact_sheet_of_a_long_clip_is_bounded_and_even(tmp_path):
    sheet = ContactSheet(4, 16)
    most = 0
    for number in range(1000):
        sheet.add(_frame(0, 8, 16), str(number))
        most = max(most, len(sheet._kept))
    assert most <= 32
    kept = [int(caption) for _, caption in sheet._kept]
    assert kept[0] == 0
    assert len(set(np.diff(kept))) == 1
    assert 1000 - kept[-1] <= 64


def test_empty_contact_sheet(tmp_path):
    with pytest.raises(ValueError, match="no frame was added"):
        ContactSheet().write(tmp_path / "sheet.png")
    with pytest.raises(ValueError, match="at least 1 picture"):
        ContactSheet(0)


def test_side_by_side():
    row = side_by_side([_frame(50), _frame(100, 96, 64)], ["one", "two"])
    assert row.shape == (48, 64 + 32, 3)
    assert (row[:20, :64] == 50).all()
    assert (row[:20, 64:] == 100).all()
    with pytest.raises(ValueError, match="one title for each frame"):
        side_by_side([_frame(50)], [])


def test_grid_places_every_image():
    sheet = grid([_frame(10 * (number + 3)) for number in range(5)], gap=2)
    assert sheet.shape == (3 * 50 + 2, 2 * 66 + 2, 3)
    assert [int(sheet[r * 50 + 10, c * 66 + 10, 0]) for r, c in ((0, 0), (0, 1), (1, 0), (1, 1), (2, 0))] == [
        30,
        40,
        50,
        60,
        70,
    ]


def test_fit_keeps_the_proportions():
    image = np.zeros((10, 40, 3), np.uint8)
    image[:, :, 0] = 255
    fitted = fit(image, (40, 40))
    blue = fitted[:, :, 0] > 128
    assert (np.flatnonzero(blue.any(axis=1)) == np.arange(15, 25)).all()
    assert blue[15:25].all()
    assert (fit(image, (9, 39)) == image[:9, :39]).all()


def test_write_image_is_complete_or_not_at_all(tmp_path):
    write_image(tmp_path / "a" / "x.png", _frame(7))
    assert (cv2.imread(str(tmp_path / "a" / "x.png")) == 7).all()
    for name in ("x.nothing", "x"):
        with pytest.raises(OutputError, match=f"{name}: OpenCV writes no images that end in"):
            write_image(tmp_path / name, _frame(7))
    assert [path.name for path in tmp_path.iterdir()] == ["a"]
