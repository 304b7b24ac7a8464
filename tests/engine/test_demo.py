"""A demo run with stand-in detectors: files, order, laziness, errors."""

from __future__ import annotations

import json
from collections import deque

import cv2
import numpy as np
import pytest
import torch

from lib.data.transforms import ImageError, Preprocessing
from lib.data.video import FrameSource, open_frames
from lib.engine.demo import DetectionsFile, display_scale, run_demo
from lib.structures import Detections

NAMES = ["red_ball", "car"]
PREPROCESS = Preprocessing(24, 64, (0.0, 0.0, 0.0))


class BrightnessDetector:
    """Answers `lag` frames late, with a sure box that starts at the frame's brightness and an unsure one."""

    def __init__(self, lag=0):
        self.lag, self.batches = lag, []

    def detect(self, frames, postprocess, batch_images=1):
        self.batches.append(batch_images)
        waiting = deque()
        for frame in frames:
            waiting.append(frame)
            if len(waiting) > self.lag:
                yield self._answer(waiting.popleft())
        while waiting:
            yield self._answer(waiting.popleft())

    @staticmethod
    def _answer(frame):
        value = float(frame.image.mean())
        boxes = torch.tensor([[value, 2, value + 9, 20], [0, 0, 5, 5]])
        return Detections(boxes, torch.tensor([0.9, 0.3]), torch.tensor([2, 1]))


def _source(count, alive=None):
    """`count` frames whose pixels all are the frame's number; `alive` collects weak references to the images."""
    import weakref

    def read():
        for number in range(count):
            image = np.full((48, 64, 3), number, np.uint8)
            if alive is not None:
                alive.append(weakref.ref(image))
            yield f"{number}.png", image
            del image

    return FrameSource("made-up frames", 10.0, count, read)


def _run(tmp_path, model, source, **arguments):
    return run_demo(model, source, PREPROCESS, None, NAMES, tmp_path / "out", **arguments)


@pytest.mark.parametrize("lag", [0, 1, 4, 50])
def test_every_frame_meets_its_own_detections(tmp_path, lag):
    summary = _run(tmp_path, BrightnessDetector(lag), _source(14))
    listing = json.loads((tmp_path / "out" / "detections.json").read_text(encoding="utf-8"))
    assert [frame["name"] for frame in listing["frames"]] == [f"{number}.png" for number in range(14)]
    for number, frame in enumerate(listing["frames"]):
        assert frame["boxes"] == [[number, 2, number + 9, 20]]
        assert (frame["scores"], frame["labels"], frame["label_names"]) == ([0.9], [2], ["car"])
        assert (frame["width"], frame["height"]) == (64, 48)
    assert listing["class_names"] == NAMES
    assert listing["summary"]["frames"] == summary.frames == summary.boxes == 14
    capture = cv2.VideoCapture(str(tmp_path / "out" / "demo.mp4"))
    assert round(capture.get(cv2.CAP_PROP_FRAME_COUNT)) == 14
    assert capture.get(cv2.CAP_PROP_FPS) == pytest.approx(10)
    capture.release()
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "contact_sheet.png",
        "demo.mp4",
        "detections.json",
    ]


def test_memory_does_not_grow_with_the_video(tmp_path):
    """At any moment only as many originals live as the detector is late, and the few that are in hand."""
    alive, most = [], 0

    class Watcher(BrightnessDetector):
        def detect(self, frames, postprocess):
            nonlocal most
            for answer in super().detect(frames, postprocess):
                most = max(most, sum(reference() is not None for reference in alive))
                yield answer

    _run(tmp_path, Watcher(lag=3), _source(40, alive))
    assert len(alive) == 40
    assert 4 <= most <= 6


def test_order_of_the_files_does_not_depend_on_the_listing(tmp_path):
    paths = []
    for number in (10, 9, 2, 1, 11):
        paths.append(tmp_path / f"f{number}.png")
        cv2.imwrite(str(paths[-1]), np.full((48, 64, 3), number, np.uint8))
    _run(tmp_path, BrightnessDetector(), paths)
    frames = json.loads((tmp_path / "out" / "detections.json").read_text())["frames"]
    assert [frame["boxes"][0][0] for frame in frames] == [1, 2, 9, 10, 11]


def test_limit_batch_score_and_rate(tmp_path, capsys):
    model = BrightnessDetector()
    summary = _run(tmp_path, model, _source(30), limit=5, batch_images=3, min_score=0.2, fps=4.0, video_name="a.webm")
    assert model.batches == [3]
    assert (summary.frames, summary.boxes) == (5, 10)
    assert (summary.warm_up.frames, summary.steady.frames) == (3, 2)
    assert summary.frame_wh == (64, 48)
    assert summary.network_wh == (32, 24)
    capture = cv2.VideoCapture(str(tmp_path / "out" / "a.webm"))
    assert capture.get(cv2.CAP_PROP_FPS) == pytest.approx(4)
    capture.release()
    printed = capsys.readouterr().out
    for part in ("5 frames of 64 x 48", "network input 32 x 24", "warm-up", "data", "net", "draw", "GiB", "a.webm"):
        assert part in printed


def test_times_are_kept_apart(tmp_path, monkeypatch):
    """A clock that only the stand-ins move: reading takes 1 s a frame, detecting 10 s."""
    now = [0.0]
    monkeypatch.setattr("time.perf_counter", lambda: now[0])

    def read():
        for name, image in _source(6):
            now[0] += 1
            yield name, image

    class Slow(BrightnessDetector):
        def detect(self, frames, postprocess):
            for answer in super().detect(frames, postprocess):
                now[0] += 10
                yield answer

    summary = _run(tmp_path, Slow(), FrameSource("made-up", None, None, read))
    assert (summary.warm_up.frames, summary.steady.frames) == (2, 4)
    assert (summary.warm_up.data, summary.warm_up.net) == (2, 20)
    assert (summary.steady.data, summary.steady.net, summary.steady.draw) == (4, 40, 0)
    assert summary.steady.milliseconds() == {"data": 1000, "net": 10000, "draw": 0, "total": 11000}


def test_interrupt_keeps_what_is_there(tmp_path):
    def read():
        yield from _source(6)
        raise KeyboardInterrupt

    summary = _run(tmp_path, BrightnessDetector(), FrameSource("camera:0", None, None, read))
    assert summary.frames == 6
    assert len(json.loads((tmp_path / "out" / "detections.json").read_text())["frames"]) == 6


class Silent:
    def detect(self, frames, postprocess):
        for number, frame in enumerate(frames):
            if number != 2:
                yield BrightnessDetector._answer(frame)


class Talkative:
    def detect(self, frames, postprocess):
        for frame in frames:
            yield BrightnessDetector._answer(frame)
            yield BrightnessDetector._answer(frame)


@pytest.mark.parametrize(
    ("model", "message"),
    [(Silent(), "left 1 frames without a result"), (Talkative(), "more results than it was given")],
)
def test_detector_that_miscounts(tmp_path, model, message):
    with pytest.raises(RuntimeError, match=message):
        _run(tmp_path, model, _source(5))
    assert not any((tmp_path / "out").iterdir())


def test_damaged_frame_is_named_and_nothing_is_left(tmp_path):
    for number in range(4):
        cv2.imwrite(str(tmp_path / f"{number}.png"), np.zeros((48, 64, 3), np.uint8))
    (tmp_path / "2.png").write_bytes(b"damaged")
    with pytest.raises(ImageError, match=r"2\.png"):
        _run(tmp_path, BrightnessDetector(), open_frames(tmp_path))
    assert not any((tmp_path / "out").iterdir())


@pytest.mark.parametrize(
    ("longest", "scale"), [(320, 2.0), (500, 2.0), (100, 7.0), (640, 1.0), (1280, 1.0), (1920, 2 / 3)]
)
def test_display_scale(longest, scale):
    assert display_scale(np.zeros((longest // 2, longest, 3), np.uint8)) == pytest.approx(scale)


def test_detections_file_keeps_the_old_one_on_an_error(tmp_path):
    path = tmp_path / "detections.json"
    path.write_text("old")
    with pytest.raises(KeyError), DetectionsFile(path, {"class_names": NAMES}):
        raise KeyError("stop")
    assert path.read_text() == "old"
    assert [file.name for file in tmp_path.iterdir()] == ["detections.json"]
