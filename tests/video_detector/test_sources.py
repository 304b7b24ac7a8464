"""The Python API: the same detections from every kind of source, streaming; what is no source is named."""

from __future__ import annotations

import gc
import random
import threading
import weakref

import cv2
import numpy as np
import pytest
import torch

from lib import load_detector
from lib.data.transforms import ImageError
from lib.data.video import SourceError, open_frames
from tests.models.small_checkpoints import clip
from tests.video_detector.comparison import ALL, LENGTH, assert_equal, write_images

SOURCES = {
    "folder": lambda folder, images, paths: folder,
    "text": lambda folder, images, paths: str(folder),
    "pattern": lambda folder, images, paths: f"{folder}/*.png",
    "shuffled paths": lambda folder, images, paths: random.Random(1).sample(paths, len(paths)),
    "list": lambda folder, images, paths: images,
    "array": lambda folder, images, paths: np.stack(images),
    "generator": lambda folder, images, paths: (image for image in images),
    "open source": lambda folder, images, paths: open_frames(folder),
}


@ALL
def test_every_source_gives_the_same_as_the_inference_loop(detectors, expected, tmp_path, method):
    images = clip(LENGTH)
    paths = write_images(tmp_path / "clip", images)
    wanted = expected(method)
    for kind, source in SOURCES.items():
        answers = list(detectors[method](source(tmp_path / "clip", images, paths)))
        assert_equal(answers, wanted)
        for i, (frame, _) in enumerate(answers):
            assert np.array_equal(frame.pixels, images[i]), kind
            assert frame.name == (f"{i:06d}" if kind in ("list", "array", "generator") else f"frame{i}.png")
            assert (frame.first, frame.inside, frame.seconds) == (i == 0, None, None)
    turned = [np.ascontiguousarray(image[:, :, ::-1]) for image in images]
    assert_equal(detectors[method](turned, rgb=True), wanted)
    assert_equal(detectors[method](np.stack(images)[..., ::-1], rgb=True), wanted)


@ALL
def test_a_video_file_is_its_frames(detectors, tmp_path, method):
    path = tmp_path / "clip.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"MJPG"), 8.0, (128, 96))
    for image in clip(LENGTH):
        writer.write(image)
    writer.release()
    capture, decoded = cv2.VideoCapture(str(path)), []
    while (read := capture.read())[0]:
        decoded.append(read[1])
    assert len(decoded) == LENGTH
    answers = list(detectors[method](path))
    assert_equal(answers, detectors[method](decoded), found_something=False)
    assert [frame.seconds for frame, _ in answers] == pytest.approx([i / 8 for i in range(LENGTH)])
    assert [frame.name for frame, _ in answers] == [f"{i:06d}" for i in range(LENGTH)]


def test_answers_stream_and_an_abandoned_video_stops_its_threads(detectors):
    closed = []

    def endless():
        try:
            while True:
                yield from clip(3)
        finally:
            closed.append(True)

    threads = threading.active_count()
    answers = detectors["rfcn"](endless())
    assert [next(answers)[0].index for _ in range(5)] == [0, 1, 2, 3, 4]
    answers.close()
    assert closed == [True]
    assert threading.active_count() == threads


@ALL
def test_memory_does_not_grow_with_the_video(checkpoint, method):
    """At any moment only the frames live that the window covers, that are read ahead, and that are in hand."""
    detector = load_detector(checkpoint(method), device="cpu", overrides=["SCALES=[[32, 32]]"])
    alive, answered, most = [], [], 0

    def images():
        for i in range(300):
            image = np.full((32, 32, 3), 100 + i % 20, np.uint8)
            alive.append(weakref.ref(image))
            yield image
            del image

    for frame, _ in detector(images()):
        assert frame.index == len(answered)
        answered.append(frame.index)
        most = max(most, sum(reference() is not None for reference in alive))
    assert len(answered) == len(alive) == 300
    window = {"rfcn": 1, "dff": 2, "fgfa": 5}[method]  # the key frame is kept, too
    assert most <= window + 5 + 4  # 1 + 4 read ahead; in the hands of generator, reader, loop and caller
    del frame
    gc.collect()
    assert sum(reference() is not None for reference in alive) == 0


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (np.zeros((96, 128), np.uint8), r"frame 2: must be a \(H, W, 3\) uint8 array, not \(96, 128\) of uint8"),
        (np.zeros((96, 128, 3)), r"frame 2: .* of float64"),
        (torch.zeros(96, 128, 3, dtype=torch.uint8), "frame 2: .* not Tensor"),
        (None, "frame 2: .* not NoneType"),
    ],
)
def test_a_wrong_array_is_named(detectors, wrong, message):
    with pytest.raises(SourceError, match=message):
        list(detectors["rfcn"]([*clip(2), wrong]))
    live = detectors["rfcn"].live()
    for image in clip(2):
        live.add(image)
    with pytest.raises(SourceError, match=message):
        live.add(wrong)
    assert len(live.add(clip(1)[0])) == 1, "and the video goes on"


def test_an_image_that_cannot_be_read_is_named(detectors, tmp_path):
    paths = write_images(tmp_path / "clip", clip(4))
    paths[2].write_bytes(b"no image")
    answers = detectors["rfcn"](tmp_path / "clip")
    assert next(answers)[0].index == 0
    with pytest.raises(ImageError, match=r"frame2\.png"):
        list(answers)


@pytest.mark.parametrize(
    ("source", "message"), [("nowhere.mp4", "no such file or folder"), ([], "empty"), (7, "not frames")]
)
def test_a_source_that_is_none_is_named(detectors, source, message):
    with pytest.raises(SourceError, match=message):
        list(detectors["rfcn"](source))
