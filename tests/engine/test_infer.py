"""Running a detector over videos: one result per frame under the right id, errors and reading ahead."""

import threading
from dataclasses import dataclass

import pytest
import torch
from lib.engine.infer import detect_videos, read_ahead

from lib.structures import Detections, Frame


@dataclass
class Clip:
    name: str
    first_frame_id: int
    length: int


def frames_of(clip):
    for i in range(clip.length):
        yield Frame(torch.full((3, 2, 2), float(clip.first_frame_id + i)), 1.0, clip.first_frame_id + i, first=i == 0)


class Echo(torch.nn.Module):
    """Answers each frame `lag` frames late with one box whose score is the frame's brightness."""

    def __init__(self, lag=0, forget=0):
        super().__init__()
        self.lag, self.forget = lag, forget

    def detect(self, frames, postprocess, batch_images):
        waiting = []
        for frame in frames:
            waiting.append(frame)
            if len(waiting) > self.lag:
                yield self._answer(waiting.pop(0))
        for frame in waiting[self.forget :]:
            yield self._answer(frame)

    @staticmethod
    def _answer(frame):
        return Detections(torch.zeros(1, 4), frame.image[0, :1, 0], torch.ones(1, dtype=torch.int64))


@pytest.mark.parametrize("lag", [0, 1, 3])
def test_every_frame_gets_its_own_result(lag):
    clips = [Clip("a", 1, 1), Clip("b", 2, 5), Clip("c", 7, 4)]
    written, ended, done = {}, [], []

    def write(frame_id, found):
        written[frame_id] = found.scores.item()

    def end_video():
        ended.append(len(written))

    def after_video(count):
        assert len(ended) == count
        done.append((count, len(written)))

    timing = detect_videos(Echo(lag), clips, frames_of, None, write, 2, end_video, after_video)
    assert ended == [1, 6, 10]
    assert done == [(1, 1), (2, 6), (3, 10)]
    assert written == {i: float(i) for i in range(1, 11)}
    assert list(written) == list(range(1, 11))
    assert timing.frames == 10
    assert "10 frames" in timing.summary()


def test_a_detector_that_leaves_a_frame_out_is_an_error():
    with pytest.raises(RuntimeError, match="video b: 4 results for 5 frames"):
        detect_videos(Echo(lag=2, forget=1), [Clip("b", 1, 5)], frames_of, None, lambda *_: None)


def test_read_ahead_keeps_the_order_and_passes_errors_on():
    def items():
        yield from range(5)
        raise OSError("frame 5 is broken")

    got = []
    with pytest.raises(OSError, match="frame 5"):
        got.extend(read_ahead(items(), depth=2))
    reader = read_ahead(items(), depth=2)
    assert [next(reader) for _ in range(5)] == [0, 1, 2, 3, 4]
    with pytest.raises(OSError, match="frame 5"):
        next(reader)


def test_read_ahead_is_bounded_and_stops_with_its_reader():
    produced = []
    before = threading.active_count()

    def items():
        for i in range(1000):
            produced.append(i)
            yield i

    reader = read_ahead(items(), depth=3)
    assert next(reader) == 0
    reader.close()
    assert threading.active_count() == before
    assert len(produced) <= 6
