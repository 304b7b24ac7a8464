"""A demo with a stand-in model, through the same loop as the scripts': files, order, laziness, errors."""

from __future__ import annotations

import csv
import json
import os
import signal
import weakref

import cv2
import numpy as np
import pytest
import torch
from torch import nn

from lib.config import load_config
from lib.data.classes import Classes
from lib.data.transforms import ImageError
from lib.data.video import FrameSource, SourceError, SourceFrame, open_frames
from lib.engine.demo import DemoOutput, DemoSettings, JSONDetections
from lib.engine.run import Method
from lib.models.postprocess import RawDetections
from lib.video_detector import VideoDetector
from lib.visualize.annotate import display_scale

CLASSES = Classes(("red ball", "car"), ("n1", "n2"))
CFG = load_config(None, ["SCALES=[[24, 64]]", "network.PIXEL_MEANS=[0, 0, 0]"])


class Brightness(nn.Module):
    """Answers `lag` frames late, with a sure box that starts at the frame's brightness and an unsure one.

    seen: is called with the number of each frame. batches: what `begin_clip` was asked for.
    """

    def __init__(self, lag=0, seen=lambda number: None):
        super().__init__()
        self.place = nn.Parameter(torch.zeros(1))
        self.lag, self.seen, self.batches, self.waiting = lag, seen, [], []

    def begin_clip(self, batch_images=1, inside=False):
        self.batches.append(batch_images)
        self.waiting = []
        return self

    def add(self, frame):
        self.seen(frame.index)
        self.waiting.append(frame)
        return [self.answer(self.waiting.pop(0))] if len(self.waiting) > self.lag else []

    def close(self):
        rest, self.waiting = self.waiting, []
        return [self.answer(frame) for frame in rest]

    @staticmethod
    def answer(frame):
        value = float(frame.image.mean())
        boxes = torch.tensor([[[value, 2, value + 9, 20], [0, 0, 5, 5]]])
        return RawDetections([frame], boxes, torch.tensor([[[0.1, 0, 0.9], [0.7, 0.3, 0]]]))


def made_up(count, alive=None, fps=10.0):
    """`count` frames whose pixels all are the frame's number; `alive` collects weak references to the images."""

    def read():
        for number in range(count):
            image = np.full((48, 64, 3), number, np.uint8)
            if alive is not None:
                alive.append(weakref.ref(image))
            frame = SourceFrame(f"{number}.png", image, number / 10)
            del image
            yield frame
            del frame

    return FrameSource("made-up frames", fps, count, read)


def run(tmp_path, model, source, limit=0, batch_images=1, **settings):
    settings = DemoSettings(tmp_path / "out", **settings)
    source = open_frames(source)
    threshold = min(settings.min_score, settings.file_score)
    method = Method("brightness", Brightness, score_threshold=1e-3)
    detector = VideoDetector(model, CFG, CLASSES, method, score_threshold=threshold, batch_images=batch_images)
    with DemoOutput(settings, source, detector.class_names, detector.device, limit) as output:
        for frame, found in detector(source, limit=limit, timing=output.timing):
            output.add(frame, found)
    return output.summary


def listing(tmp_path):
    return json.loads((tmp_path / "out" / "detections.json").read_text(encoding="utf-8"))


def files(tmp_path):
    return sorted(str(path.relative_to(tmp_path / "out")) for path in (tmp_path / "out").rglob("*") if path.is_file())


@pytest.mark.parametrize("lag", [0, 1, 4, 50])
def test_every_frame_meets_its_own_detections(tmp_path, lag):
    summary = run(tmp_path, Brightness(lag), made_up(14))
    listed = listing(tmp_path)
    assert [(frame["index"], frame["name"]) for frame in listed["frames"]] == [(i, f"{i}.png") for i in range(14)]
    for number, frame in enumerate(listed["frames"]):
        assert frame["boxes"] == [[number, 2, number + 9, 20]]
        assert (frame["scores"], frame["labels"], frame["label_names"]) == ([0.9], [2], ["car"])
        assert (frame["width"], frame["height"], frame["seconds"]) == (64, 48, number / 10)
    assert (listed["source"], listed["fps"], listed["min_score"]) == ("made-up frames", 10, 0.7)
    assert listed["class_names"] == ["red ball", "car"]
    assert listed["summary"]["frames"] == summary.frames == summary.boxes == 14
    capture = cv2.VideoCapture(str(tmp_path / "out" / "demo.mp4"))
    assert round(capture.get(cv2.CAP_PROP_FRAME_COUNT)) == 14
    assert capture.get(cv2.CAP_PROP_FPS) == pytest.approx(10)
    capture.release()
    assert files(tmp_path) == ["contact_sheet.png", "demo.mp4", "detections.csv", "detections.json"]
    assert sorted(path.name for path in summary.files) == files(tmp_path)


def test_the_table_has_a_row_for_every_box(tmp_path):
    run(tmp_path, Brightness(), made_up(2), min_score=0.9, file_score=0.2)
    with open(tmp_path / "out" / "detections.csv", encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [list(row.values()) for row in rows] == [
        ["0", "0.png", "0.000", "1", "red ball", "0.3000", "0.00", "0.00", "5.00", "5.00"],
        ["0", "0.png", "0.000", "2", "car", "0.9000", "0.00", "2.00", "9.00", "20.00"],
        ["1", "1.png", "0.100", "1", "red ball", "0.3000", "0.00", "0.00", "5.00", "5.00"],
        ["1", "1.png", "0.100", "2", "car", "0.9000", "1.00", "2.00", "10.00", "20.00"],
    ]
    assert list(rows[0]) == ["index", "name", "seconds", "label", "class", "score", "x1", "y1", "x2", "y2"]


def test_what_is_written_and_what_is_drawn_have_thresholds_of_their_own(tmp_path):
    summary = run(tmp_path, Brightness(), made_up(3), min_score=0.7, file_score=0.2)
    assert summary.boxes == 3, "drawn"
    assert [len(frame["boxes"]) for frame in listing(tmp_path)["frames"]] == [2, 2, 2]


def test_memory_does_not_grow_with_the_video(tmp_path):
    """At any moment only as many originals live as the detector is late and the reader ahead, and those in hand."""
    alive, most = [], []
    model = Brightness(lag=3, seen=lambda _: most.append(sum(reference() is not None for reference in alive)))
    run(tmp_path, model, made_up(60, alive))
    assert len(alive) == 60
    assert 4 <= max(most) <= 3 + 5 + 4  # late, ahead (1 + 4), and in the hands of reader, loop and writer


def test_order_of_the_files_does_not_depend_on_the_listing(tmp_path):
    paths = []
    for number in (10, 9, 2, 1, 11):
        paths.append(tmp_path / f"f{number}.png")
        cv2.imwrite(str(paths[-1]), np.full((48, 64, 3), number, np.uint8))
    run(tmp_path, Brightness(), paths)
    assert [frame["boxes"][0][0] for frame in listing(tmp_path)["frames"]] == [1, 2, 9, 10, 11]
    assert {frame["seconds"] for frame in listing(tmp_path)["frames"]} == {None}


def test_limit_batch_score_and_rate(tmp_path):
    model = Brightness()
    choice = {"min_score": 0.2, "file_score": 0.2, "fps": 4.0, "clip": "a.webm"}
    summary = run(tmp_path, model, made_up(30), limit=5, batch_images=3, **choice)
    assert model.batches == [3]
    assert (summary.frames, summary.boxes, summary.timing.frames) == (5, 10, 5)
    assert summary.frames_wh == {(64, 48)}
    assert summary.network_wh == {(32, 24)}
    capture = cv2.VideoCapture(str(tmp_path / "out" / "a.webm"))
    assert capture.get(cv2.CAP_PROP_FPS) == pytest.approx(4)
    capture.release()
    for part in ("5 frames of 64 x 48", "network input 32 x 24", "data", "net", "post", "draw", "GiB", "a.webm"):
        assert part in summary.table()


def test_no_clip_and_a_picture_of_every_frame(tmp_path):
    run(tmp_path, Brightness(), made_up(3), clip="", pictures=True)
    pictures = [f"frames/{number}.jpg" for number in range(3)]
    assert files(tmp_path) == ["contact_sheet.png", "detections.csv", "detections.json", *pictures]
    assert cv2.imread(str(tmp_path / "out" / pictures[0])).shape == (480, 640, 3)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_video_and_keeps_what_is_there(tmp_path, number, capsys):
    before = signal.getsignal(number)
    model = Brightness(seen=lambda frame: os.kill(os.getpid(), number) if frame == 3 else None)
    summary = run(tmp_path, model, made_up(30))
    assert summary.frames == 4, "the frame in hand is finished"
    assert len(listing(tmp_path)["frames"]) == listing(tmp_path)["summary"]["frames"] == 4
    assert files(tmp_path) == ["contact_sheet.png", "demo.mp4", "detections.csv", "detections.json"]
    assert "interrupted: keeping the first 4 frames" in capsys.readouterr().out
    assert signal.getsignal(number) is before


def test_frames_of_several_sizes_are_said_to_be(tmp_path):
    frames = [np.zeros((*size, 3), np.uint8) for size in ((48, 64), (96, 128), (48, 64), (60, 70))]
    table = run(tmp_path, Brightness(), frames).table()
    assert "4 frames of 64 x 48 to 128 x 96 (network input 28 x 24 to 32 x 24)" in table


def test_an_interrupt_of_the_source_keeps_what_is_there(tmp_path):
    def read():
        yield from made_up(6)
        raise KeyboardInterrupt

    summary = run(tmp_path, Brightness(), FrameSource("camera:0", None, None, read))
    assert summary.frames == 6
    assert len(listing(tmp_path)["frames"]) == 6


def test_an_interrupt_before_the_first_answer_leaves_nothing(tmp_path):
    def twice(_):
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, Brightness(lag=9, seen=twice), made_up(30))
    assert files(tmp_path) == []


def test_a_model_that_miscounts_leaves_nothing(tmp_path):
    class Silent(Brightness):
        def close(self):
            return []

    with pytest.raises(RuntimeError, match="left 2 frames of a clip without an answer"):
        run(tmp_path, Silent(lag=2), made_up(5))
    assert files(tmp_path) == []


def test_damaged_frame_is_named_and_nothing_is_left(tmp_path):
    for number in range(4):
        cv2.imwrite(str(tmp_path / f"{number}.png"), np.zeros((48, 64, 3), np.uint8))
    (tmp_path / "2.png").write_bytes(b"damaged")
    with pytest.raises(ImageError, match=r"2\.png"):
        run(tmp_path, Brightness(), open_frames(tmp_path))
    assert files(tmp_path) == []


def test_frames_that_are_gone_cannot_be_drawn(tmp_path):
    """Those of a camera, with Seq-NMS."""
    camera = FrameSource("camera:0", None, None, lambda: iter(made_up(4)), repeatable=False)
    cfg = load_config(None, ["SCALES=[[24, 64]]", "network.PIXEL_MEANS=[0, 0, 0]", "TEST.SEQ_NMS=true"])
    detector = VideoDetector(Brightness(), cfg, CLASSES, Method("brightness", Brightness, score_threshold=1e-3))
    settings = DemoSettings(tmp_path / "out")

    def draw():
        with DemoOutput(settings, camera, detector.class_names, detector.device) as output:
            for frame, found in detector(camera, limit=4):
                output.add(frame, found)

    with pytest.raises(SourceError, match="camera:0: Seq-NMS answers when the video is over.*TEST.SEQ_NMS=false"):
        draw()
    assert files(tmp_path) == []


@pytest.mark.parametrize(
    ("longest", "scale"), [(320, 2.0), (500, 2.0), (100, 7.0), (640, 1.0), (1280, 1.0), (1920, 2 / 3)]
)
def test_display_scale(longest, scale):
    assert display_scale(np.zeros((longest // 2, longest, 3), np.uint8)) == pytest.approx(scale)


def test_detections_file_keeps_the_old_one_on_an_error(tmp_path):
    path = tmp_path / "detections.json"
    path.write_text("old")
    with pytest.raises(KeyError), JSONDetections(path, {"class_names": ["a"]}, ["background", "a"]):
        raise KeyError("stop")
    assert path.read_text() == "old"
    assert [file.name for file in tmp_path.iterdir()] == ["detections.json"]
