"""Clips side by side: every frame of each, in order, and an error for clips that do not belong together."""

import cv2
import numpy as np
import pytest

from lib.errors import InputError
from tools.side_by_side import main


@pytest.fixture
def clips(tmp_path):
    for name, colour, frames in (("a", (255, 0, 0), 3), ("b", (0, 0, 255), 3), ("short", (0, 255, 0), 2)):
        (tmp_path / name).mkdir()
        for number in range(frames):
            picture = np.full((48, 64, 3), np.uint8(80 * number), np.uint8)
            picture[:24] = colour
            cv2.imwrite(str(tmp_path / name / f"{number}.png"), picture)
    return tmp_path


def test_frames_stand_side_by_side_in_order(clips):
    out = clips / "joined.mp4"
    main([f"A={clips / 'a'}", f"B={clips / 'b'}", "--out", str(out), "--fps", "5"])
    reader = cv2.VideoCapture(str(out))
    frames = []
    while (read := reader.read())[0]:
        frames.append(read[1])
    assert len(frames) == 3
    for number, frame in enumerate(frames):
        assert frame.shape == (48, 128, 3)
        left, right = frame[8, 32].astype(int), frame[8, 96].astype(int)
        assert left[0] - left[2] > 150
        assert right[2] - right[0] > 150
        assert abs(int(frame[28, 60, 1]) - 80 * number) < 25
    assert cv2.imread(str(clips / "joined.png")) is not None


def test_clips_of_other_lengths_are_refused_and_nothing_is_left(clips):
    out = clips / "joined.mp4"
    with pytest.raises(InputError, match="S=.* ends before the others"):
        main([f"A={clips / 'a'}", f"S={clips / 'short'}", "--out", str(out)])
    assert not list(clips.glob("*joined*"))
    with pytest.raises(InputError, match="'nothing' is not TITLE=FILE"):
        main(["nothing", "--out", str(out)])


def test_outputs_are_checked_first(clips):
    (clips / "joined.png").mkdir()
    with pytest.raises(InputError, match=r"joined.png: is a folder"):
        main(["A=/none", "--out", str(clips / "joined.mp4")])
    with pytest.raises(SystemExit):
        main(["A=/none", "--out", str(clips / "joined.mp4"), "--sheet", "0"])
