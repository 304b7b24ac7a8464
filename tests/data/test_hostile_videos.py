"""Sources of frames that are broken, end early, or are no videos: one SourceError, or one warning with both numbers."""

from __future__ import annotations

import logging
import os

import cv2
import numpy as np
import pytest

from lib.data.transforms import ImageError
from lib.data.video import SourceError, open_frames


@pytest.fixture(scope="module")
def video(tmp_path_factory) -> bytes:
    """An AVI file of 50 frames, whose header says so."""
    path = tmp_path_factory.mktemp("video") / "clip.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"MJPG"), 10, (32, 24))
    for seed in range(50):
        writer.write(np.random.RandomState(seed).randint(0, 256, (24, 32, 3)).astype(np.uint8))
    writer.release()
    return path.read_bytes()


@pytest.mark.parametrize("share", [0.3, 0.5, 0.9])
def test_a_video_that_ends_early_gives_a_warning_with_both_numbers(tmp_path, video, caplog, share):
    path = tmp_path / "cut.avi"
    path.write_bytes(video[: int(len(video) * share)])
    source = open_frames(path)
    assert source.length == 50
    with caplog.at_level(logging.WARNING):
        count = len(list(source))
    assert 0 < count < 49
    (record,) = caplog.records
    assert f"cut.avi: only {count} of the 50 frames that its header claims can be decoded" in record.getMessage()


def test_a_whole_video_and_one_that_is_left_early_give_none(tmp_path, video, caplog):
    path = tmp_path / "whole.avi"
    path.write_bytes(video)
    with caplog.at_level(logging.WARNING):
        assert len(list(open_frames(path))) == 50
        next(iter(open_frames(path)))
    assert not caplog.records


FILES = {
    "empty.mp4": b"",
    "text.mp4": b"not a video",
    "zeros.avi": bytes(5000),
    "header.avi": b"RIFF\xff\xff\xff\x7fAVI LIST",
    "page.webm": b"<!DOCTYPE html><html></html>",
    "random.mkv": np.random.RandomState(0).bytes(4000),
    "noending": b"1 2 3",
}


@pytest.mark.parametrize("name", FILES)
def test_what_is_no_video_is_named(tmp_path, name):
    path = tmp_path / name
    path.write_bytes(FILES[name])
    with pytest.raises(SourceError, match=f"{name}: (OpenCV cannot decode|not one frame)"):
        list(open_frames(path))


def test_a_start_of_a_video_without_frames(tmp_path, video):
    path = tmp_path / "start.avi"
    for size in (12, 100, 2000, 5700):
        path.write_bytes(video[:size])
        with pytest.raises(SourceError, match=r"start\.avi: (OpenCV cannot decode|not one frame)"):
            list(open_frames(path))


def test_names_that_are_not_utf8(tmp_path, video):
    """OpenCV crashes when it is given such a name; images are read without it."""
    folder = os.fsdecode(os.fsencode(tmp_path) + b"/\xff")
    os.mkdir(folder)
    with open(f"{folder}/clip.avi", "wb") as file:
        file.write(video)
    with pytest.raises(SourceError, match=r"\\udcff/clip\.avi: OpenCV opens only files whose names are UTF-8; rename"):
        open_frames(f"{folder}/clip.avi")
    with open(f"{folder}/0.png", "wb") as file:
        file.write(cv2.imencode(".png", np.zeros((4, 5, 3), np.uint8))[1].tobytes())
    assert [frame.name for frame in open_frames(folder)] == ["0.png"]
    with open(f"{folder}/1.png", "wb") as file:
        file.write(b"bad")
    with pytest.raises(ImageError, match=r"\\udcff/1\.png: not a readable image"):
        list(open_frames(folder))


def test_what_is_no_file_is_refused(tmp_path):
    os.mkfifo(tmp_path / "pipe.mp4")
    (tmp_path / "loop.mp4").symlink_to("loop.mp4")
    for source, message in (
        (tmp_path / "pipe.mp4", "is a device or a pipe; give a folder"),
        ("/dev/zero", "is a device or a pipe; give a folder"),
        ("/dev/null", "is a device or a pipe; give a folder"),
        (tmp_path / "loop.mp4", "no such file|cannot be opened"),
        ("x" * 5000, "cannot be opened .File name too long"),
        (str(tmp_path / ("y" * 300)), "cannot be opened .File name too long"),
        ("nul\0.mp4", "no such file|cannot be opened"),
        ("", "the source is an empty name; give a folder"),
        ("[", "matches no image|no such file"),
        ("concat:/etc/passwd", "no such file"),
        ("camera:-1", "a camera is camera:NUMBER"),
        ("camera:", "a camera is camera:NUMBER"),
        ("camera:99999999999999999999", "a camera is camera:NUMBER"),
        ("camera:٣", "a camera is camera:NUMBER|no camera"),
    ):
        with pytest.raises(SourceError, match=message):
            open_frames(source)


@pytest.mark.parametrize(
    "source",
    [5, 2.5, None, object(), True, [], np.zeros((0, 4, 4, 3), np.uint8)],
)
def test_what_is_no_source_is_refused(source):
    with pytest.raises(SourceError):
        list(open_frames(source))


@pytest.mark.parametrize(
    "frame",
    [
        np.zeros((4, 5), np.uint8),
        np.zeros((4, 5, 1), np.uint8),
        np.zeros((4, 5, 4), np.uint8),
        np.zeros((3, 4, 5), np.uint8),
        np.zeros((4, 5, 3), np.float32),
        np.zeros((4, 5, 3), np.int64),
        np.zeros((4, 5, 3), np.bool_),
        np.zeros((0, 5, 3), np.uint8),
        np.zeros((4, 0, 3), np.uint8),
        [[0, 0, 0]],
        "a.png",
        None,
        7,
    ],
)
def test_arrays_that_are_no_frames_are_named_by_their_number(frame):
    good = np.zeros((4, 5, 3), np.uint8)
    frames = iter(open_frames(iter([good, frame, good])))
    assert next(frames).name == "000000"
    with pytest.raises(SourceError, match="^frame 1: "):
        next(frames)
