"""The rules that image sets are made by, against the published lists."""

from __future__ import annotations

import hashlib
import math
from fractions import Fraction

import pytest

from lib.data.image_set_making import frame_lines, middle_frames, training_lines, video_lines
from tests.conftest import SHARED


def published(name: str) -> list[str]:
    path = SHARED / "data" / "ImageSets" / f"{name}.txt"
    if not path.is_file():
        pytest.skip(f"needs the published list {name}, which is not on this machine")
    return path.read_text().splitlines()


def lengths(lines: list[str]) -> dict[str, int]:
    return {name: int(length) for name, _, _, length in map(str.split, lines)}


def test_the_frames_are_the_middles_of_equal_parts():
    assert middle_frames(300) == list(range(10, 300, 20))
    assert middle_frames(48) == [1, 4, 8, 11, 14, 17, 20, 24, 27, 30, 33, 36, 40, 43, 46]
    assert middle_frames(6) == [0, 1, 2, 3, 4, 5]
    assert middle_frames(10, 1) == [5]


@pytest.mark.parametrize("count", [1, 2, 7, 15, 20, 100])
def test_training_frames_are_in_order_and_beside_the_middle(count):
    for length in range(1, 400):
        frames, parts = middle_frames(length, count), min(count, length)
        assert frames == sorted(set(frames))
        assert len(frames) == parts
        assert 0 <= frames[0] <= frames[-1] < length
        for part, frame in enumerate(frames):
            middle = Fraction((2 * part + 1) * length, 2 * parts)
            assert frame == math.floor(middle) or frame == middle - 1


def test_training_frames_are_the_published_ones():
    lines = published("VID_train_15frames")
    videos = lengths(lines)
    assert list(videos) == sorted(videos), "in the order that find_videos gives"
    assert list(training_lines(videos)) == lines
    assert len(lines) == 57834


def test_test_videos_are_the_published_ones():
    lines = published("VID_val_videos")
    assert list(video_lines(lengths(lines))) == lines
    assert list(lengths(lines)) == sorted(lengths(lines))


def test_test_frames_are_the_published_ones():
    """The list of 176,126 lines itself is not at hand, but its git blob id is known (docs/rules.md, section 4)."""
    videos = lengths(published("VID_val_videos"))
    stems = {name: [f"{name}/{frame:06d}" for frame in range(length)] for name, length in videos.items()}
    text = "".join(f"{line}\n" for line in frame_lines(stems)).encode()
    blob = hashlib.sha1(b"blob %d\0" % len(text) + text, usedforsecurity=False).hexdigest()
    assert blob == "d62062556049c12bdcc992b204f249eecf7ad727"
