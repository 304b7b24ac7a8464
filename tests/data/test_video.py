"""Frames from folders, lists, patterns and video files: order, laziness, errors."""

from __future__ import annotations

import random

import cv2
import numpy as np
import pytest

from lib.data.frame_files import natural_key
from lib.data.transforms import ImageError, Preprocessing, resize, to_tensor
from lib.data.video import SourceError, SourceFrame, network_frames, open_frames


def _write_images(folder, names, size_hw=(12, 16)):
    """One image per name; all pixels of the i-th are i."""
    folder.mkdir(parents=True, exist_ok=True)
    for value, name in enumerate(names):
        assert cv2.imwrite(str(folder / name), np.full((*size_hw, 3), value, np.uint8))
    return [folder / name for name in names]


def _write_video(path, count=7, fps=10.0):
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"MJPG"), fps, (32, 24))
    for value in range(count):
        writer.write(np.full((24, 32, 3), 30 * value, np.uint8))
    writer.release()


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("frame2.png", "frame10.png"),
        ("f9.png", "f09a.png"),
        ("2/100.png", "10/1.png"),
        ("a/1.png", "b/0.png"),
        ("1.png", "a.png"),
        ("v1/clip2_3.png", "v1/clip2_12.png"),
        ("007.png", "8.png"),
    ],
)
def test_natural_order(first, second):
    assert natural_key(first) < natural_key(second)


def test_folder_comes_in_natural_order_and_skips_what_is_no_image(tmp_path):
    _write_images(tmp_path, ["frame1.png", "frame2.png", "frame10.png", "frame100.png"])
    (tmp_path / "notes.txt").write_text("no image")
    (tmp_path / "._frame1.png").write_text("what another system left")
    (tmp_path / "more.png").mkdir()
    source = open_frames(tmp_path)
    assert (source.length, source.fps) == (4, None)
    for _ in range(2):  # a source can be read again
        read = list(source)
        assert [frame.name for frame in read] == ["frame1.png", "frame2.png", "frame10.png", "frame100.png"]
        assert [int(frame.pixels[0, 0, 0]) for frame in read] == [0, 1, 2, 3]
        assert all(frame.pixels.dtype == np.uint8 and frame.pixels.shape == (12, 16, 3) for frame in read)
        assert all(frame.seconds is None for frame in read)


def test_shuffled_list_gives_the_same_frames(tmp_path):
    paths = _write_images(tmp_path, [f"{number}.png" for number in range(25)])
    expected = [path.name for path in paths]
    for seed in range(3):
        shuffled = random.Random(seed).sample(paths, len(paths))
        assert [frame.name for frame in open_frames(shuffled)] == expected
    assert [frame.name for frame in open_frames(str(tmp_path / "*.png"))] == expected


def test_frames_are_read_only_when_asked_for(tmp_path):
    paths = _write_images(tmp_path, ["0.png", "1.png", "2.png"])
    frames = iter(open_frames(tmp_path))
    assert next(frames).name == "0.png"
    paths[1].write_bytes(b"this is not an image")
    with pytest.raises(ImageError, match=r"1\.png"):
        next(frames)


def test_single_image_is_a_video_of_one_frame(tmp_path):
    (path,) = _write_images(tmp_path, ["only.jpg"])
    assert [frame.name for frame in open_frames(path)] == ["only.jpg"]


def test_video_file(tmp_path):
    path = tmp_path / "clip.avi"
    _write_video(path)
    source = open_frames(path)
    assert source.length == 7
    assert source.fps == pytest.approx(10)
    for _ in range(2):
        read = list(source)
        assert [frame.name for frame in read] == [f"{number:06d}" for number in range(7)]
        assert [round(float(frame.pixels.mean()) / 30) for frame in read] == list(range(7))
        assert [frame.seconds for frame in read] == pytest.approx([number / 10 for number in range(7)])


def test_abandoned_video_is_closed(tmp_path, monkeypatch):
    path = tmp_path / "clip.avi"
    _write_video(path)
    opened, real = [], cv2.VideoCapture
    monkeypatch.setattr(cv2, "VideoCapture", lambda *arguments: opened.append(real(*arguments)) or opened[-1])
    frames = iter(open_frames(path))
    next(frames)
    assert opened[-1].isOpened()
    frames.close()
    assert not any(capture.isOpened() for capture in opened)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda folder: folder / "absent.mp4", r"absent\.mp4: no such file or folder"),
        (lambda folder: folder, r"holds no image .*; did you mean .*clip2\?"),
        (lambda folder: folder / "clip2", "holds no image"),
        (lambda folder: f"{folder}/*.jpg", "matches no image"),
        (lambda folder: [], "the list of frames is empty"),
        (lambda folder: np.zeros((0, 8, 8, 3), np.uint8), "the list of frames is empty"),
        (lambda folder: 7, "int: not frames; give a path"),
        (lambda folder: [folder / "gone.png"], r"gone\.png: no such image"),
        (lambda folder: folder / "text.mp4", r"text\.mp4: OpenCV cannot decode"),
        (lambda folder: "camera:front", "camera:NUMBER"),
        (lambda folder: "camera:9999", "no camera with this number"),
    ],
)
def test_bad_sources_name_themselves(tmp_path, make, message):
    (tmp_path / "clip2").mkdir()
    (tmp_path / "clip10").mkdir()
    (tmp_path / "text.mp4").write_text("not a video")
    with pytest.raises(SourceError, match=message):
        open_frames(make(tmp_path))


def test_network_frames_are_those_of_transforms(tmp_path):
    random_state = np.random.RandomState(0)
    images = [SourceFrame(str(i), random_state.randint(0, 256, (30, 44, 3)).astype(np.uint8), i / 4) for i in range(3)]
    means = (103.06, 115.90, 123.15)
    frames = list(network_frames(iter(images), Preprocessing(60, 80, means)))
    assert [(frame.frame_id, frame.first) for frame in frames] == [(1, True), (2, False), (3, False)]
    assert [(frame.index, frame.name, frame.seconds) for frame in frames] == [
        (0, "0", 0),
        (1, "1", 0.25),
        (2, "2", 0.5),
    ]
    for image, frame in zip(images, frames, strict=True):
        assert frame.pixels is image.pixels
        resized, scale = resize(image.pixels, 60, 80)
        assert frame.scale == scale == 80 / 44  # 44 * 2 would exceed 80
        assert frame.image.equal(to_tensor(resized, means))


def test_network_frames_reads_no_further_than_asked(tmp_path):
    taken = []

    def images():
        for number in range(5):
            taken.append(number)
            yield SourceFrame(str(number), np.zeros((8, 8, 3), np.uint8))

    frames = network_frames(images(), Preprocessing(8, 8, (0.0, 0.0, 0.0)))
    next(frames)
    assert taken == [0]


def test_pixels_are_left_out_on_request():
    images = [SourceFrame("0", np.zeros((8, 8, 3), np.uint8))]
    (frame,) = network_frames(images, Preprocessing(8, 8, (0.0, 0.0, 0.0)), keep_pixels=False)
    assert frame.pixels is None


@pytest.mark.parametrize("kind", ["array", "list", "tuple", "generator"])
def test_arrays_are_frames_in_their_order(kind):
    arrays = np.random.RandomState(0).randint(0, 256, (3, 8, 12, 3)).astype(np.uint8)
    given = {"array": arrays, "list": list(arrays), "tuple": tuple(arrays), "generator": (a for a in arrays)}[kind]
    source = open_frames(given)
    assert (source.fps, source.length) == (None, None if kind == "generator" else 3)
    assert source.repeatable == (kind != "generator")
    read = list(source)
    assert [frame.name for frame in read] == ["000000", "000001", "000002"]
    assert all(np.array_equal(frame.pixels, array) for frame, array in zip(read, arrays, strict=True))
    if source.repeatable:
        assert all(np.array_equal(frame.pixels, array) for frame, array in zip(source, arrays, strict=True))


def test_rgb_arrays_are_turned_into_bgr():
    arrays = np.random.RandomState(0).randint(0, 256, (2, 8, 12, 3)).astype(np.uint8)
    turned = [frame.pixels for frame in open_frames(list(arrays[..., ::-1]), rgb=True)]
    assert all(np.array_equal(*pair) for pair in zip(turned, arrays, strict=True))


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (np.zeros((8, 12), np.uint8), r"frame 1: must be a \(H, W, 3\) uint8 array, not \(8, 12\) of uint8"),
        (np.zeros((8, 12, 4), np.uint8), r"frame 1: .* not \(8, 12, 4\) of uint8"),
        (np.zeros((8, 12, 3), np.float32), r"frame 1: .* not \(8, 12, 3\) of float32"),
        (np.zeros((0, 12, 3), np.uint8), r"frame 1: is empty, \(0, 12, 3\)"),
        ("b.png", "frame 1: .* not str"),
    ],
)
def test_a_wrong_array_is_named(wrong, message):
    frames = iter(open_frames([np.zeros((8, 12, 3), np.uint8), wrong]))
    next(frames)
    with pytest.raises(SourceError, match=message):
        next(frames)


def test_a_source_that_is_open_stays_as_it_is(tmp_path):
    _write_images(tmp_path, ["0.png"])
    source = open_frames(tmp_path)
    assert open_frames(source) is source
