"""The inference loop: every frame is answered once, in order, in a clip of its own; timing, Seq-NMS, reading ahead."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field

import pytest
import torch

from lib.config import load_config
from lib.engine.inference import LiveDetection, Timing, detect_frames, read_ahead, with_seq_nms
from lib.models.postprocess import PostProcess, RawDetections
from lib.structures import Detections, Frame

EVERYTHING = PostProcess(score_threshold=0.0, nms_threshold=None, max_per_image=None)


def clip_of(length, first_id=1, size=(2, 2), video=""):
    """Frames whose brightness is a hundredth of their frame id."""
    for i in range(length):
        image = torch.full((3, *size), (first_id + i) / 100)
        yield Frame(image, 1.0, first_id + i, first=i == 0, index=i, name=f"{i}.png", video=video, pixels=object())


@dataclass
class Echo:
    """A model that answers each frame `lag` frames late with one box whose score is the frame's brightness.

    forget: frames at the end of a clip without an answer. backwards: answers of a clip's end in the wrong order.
    """

    lag: int = 0
    forget: int = 0
    backwards: bool = False
    clips: list = field(default_factory=list)  # of each clip: batch_images, inside, frame ids

    def begin_clip(self, batch_images=1, inside=False):
        self.clips.append((batch_images, inside, []))
        return EchoClip(self, self.clips[-1][2])


@dataclass
class EchoClip:
    model: Echo
    ids: list
    waiting: list = field(default_factory=list)

    def add(self, frame):
        assert not torch.is_grad_enabled()
        self.ids.append(frame.frame_id)
        self.waiting.append(frame)
        return [self.answer(self.waiting.pop(0))] if len(self.waiting) > self.model.lag else []

    def close(self):
        rest = self.waiting[self.model.forget :]
        return [self.answer(frame) for frame in (reversed(rest) if self.model.backwards else rest)]

    @staticmethod
    def answer(frame):
        score = frame.image[0, 0, 0].item()
        return RawDetections([frame], torch.zeros(1, 1, 4), torch.tensor([[[1 - score, score]]]))


def ids_and_scores(answers):
    return [(frame.frame_id, pytest.approx(found.scores.item())) for frame, found in answers]


@pytest.mark.parametrize("lag", [0, 1, 3, 20])
def test_every_frame_gets_its_own_answer_under_its_own_name(lag):
    model, timing = Echo(lag), Timing()
    frames = [*clip_of(1), *clip_of(5, 2, video="b"), *clip_of(4, 7)]
    answers = list(detect_frames(model, iter(frames), EVERYTHING, 3, inside=True, timing=timing))
    assert ids_and_scores(answers) == [(i, pytest.approx(i / 100)) for i in range(1, 11)]
    assert model.clips == [(3, True, [1]), (3, True, [2, 3, 4, 5, 6]), (3, True, [7, 8, 9, 10])]
    for (frame, _), given in zip(answers, frames, strict=True):
        for name in ("index", "name", "video", "first", "pixels"):
            assert getattr(frame, name) is getattr(given, name)
        assert frame.image.numel() == 0, "the network's input is not held"
        assert torch.equal(frame.im_info, given.im_info)
    assert timing.frames == 10
    assert "10 frames" in timing.summary()
    assert torch.is_grad_enabled()


def test_another_size_begins_a_new_clip_and_another_scale_does_not():
    model = Echo(lag=2)
    frames = [*clip_of(3), *clip_of(2, 4, size=(2, 3))]
    frames[3].first = False
    frames.append(Frame(torch.full((3, 2, 3), 0.06), 0.5, 6, index=5))
    assert ids_and_scores(detect_frames(model, frames, EVERYTHING)) == [
        (i, pytest.approx(i / 100)) for i in range(1, 7)
    ]
    assert [ids for *_, ids in model.clips] == [[1, 2, 3], [4, 5, 6]]


def test_answers_come_as_soon_as_the_model_has_them():
    taken = []

    def frames():
        for frame in [*clip_of(4), *clip_of(2, 5)]:
            taken.append(frame.frame_id)
            yield frame

    arrived = [(frame.frame_id, taken[-1]) for frame, _ in detect_frames(Echo(lag=1), frames(), EVERYTHING)]
    assert arrived == [(1, 2), (2, 3), (3, 4), (4, 5), (5, 6), (6, 6)]


def test_a_batch_is_answered_frame_by_frame():
    class Together(Echo):
        def begin_clip(self, batch_images=1, inside=False):
            return self

        def add(self, frame):
            self.clips.append(frame)
            return []

        def close(self):
            raws = [EchoClip.answer(frame) for frame in self.clips]
            boxes, probabilities = (torch.cat([getattr(r, n) for r in raws]) for n in ("boxes", "probabilities"))
            return [RawDetections(self.clips, boxes, probabilities)]

    answers = list(detect_frames(Together(), clip_of(4), EVERYTHING))
    assert ids_and_scores(answers) == [(i, pytest.approx(i / 100)) for i in range(1, 5)]


class Talkative(Echo):
    def begin_clip(self, batch_images=1, inside=False):
        clip = super().begin_clip(batch_images, inside)
        add = clip.add
        clip.add = lambda frame: add(frame) * 2
        return clip


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (Echo(lag=2, forget=1), "answered frame 4, which was not the next one"),
        (Echo(lag=2, forget=2), "left 2 frames of a clip without an answer"),
        (Echo(lag=2, backwards=True), "answered frame 4, which was not the next one"),
        (Talkative(), "answered frame 0, which was not the next one"),
    ],
)
def test_a_model_that_miscounts_is_an_error(model, message):
    with pytest.raises(RuntimeError, match=message):
        list(detect_frames(model, clip_of(5), EVERYTHING))


def test_nothing_in_gives_nothing_out():
    model = Echo()
    assert list(detect_frames(model, [], EVERYTHING)) == []
    assert model.clips == []


@pytest.mark.parametrize("lag", [0, 2])
def test_frames_that_are_handed_over_get_the_same_answers(lag):
    frames = [*clip_of(3), *clip_of(4, 4)]
    expected = ids_and_scores(detect_frames(Echo(lag), frames, EVERYTHING))
    live = LiveDetection(Echo(lag), EVERYTHING)
    answers = [live.add(frame) for frame in frames]
    assert [len(ready) for ready in answers] == ([1] * 7 if lag == 0 else [0, 0, 1, 2, 0, 1, 1])
    assert ids_and_scores([*sum(answers, []), *live.close()]) == expected
    assert live.close() == []
    assert live.timing.frames == 7
    again = [*live.add(frames[1]), *live.close()]  # not marked as the first of a video, but it is
    assert ids_and_scores(again) == [(2, pytest.approx(0.02))]


def test_the_time_is_kept_apart(monkeypatch):
    """A clock that only the stand-ins move: 1 s to read a frame, 10 s in the network, 100 s after it."""
    now = [0.0]
    monkeypatch.setattr("time.perf_counter", lambda: now[0])

    def passes(seconds, value=None):
        now[0] += seconds
        return value

    class Slow(Echo):
        def begin_clip(self, batch_images=1, inside=False):
            clip = super().begin_clip(batch_images, inside)
            add = clip.add
            clip.add = lambda frame: passes(10, add(frame))
            return clip

    timing, frames = Timing(), (passes(1, frame) for frame in clip_of(6))
    for _ in detect_frames(Slow(), frames, lambda raw: passes(100, EVERYTHING(raw)), timing=timing):
        now[0] += 1000  # what the caller does is not the detector's
    assert (timing.frames, timing.data, timing.net, timing.post) == (6, 6, 60, 600)
    assert timing.milliseconds() == {"data": 1000, "net": 10000, "post": 100000}
    assert timing.ms_per_frame == 110000
    assert timing.to_json() == {"frames": 6, "ms_per_frame": 110000, "ms": timing.milliseconds()}


def found(score):
    return Detections(torch.tensor([[0.0, 0, 9, 9]]), torch.tensor([score]), torch.tensor([1]))


def test_seq_nms_only_where_the_configuration_asks():
    frames = list(clip_of(3))
    pulled = []

    def answers():
        for frame, score in zip(frames, (0.2, 0.5, 0.8), strict=True):
            pulled.append(frame.frame_id)
            yield frame, found(score)

    plain = with_seq_nms(answers(), load_config(None))
    assert next(plain)[1].scores.item() == pytest.approx(0.2)
    assert pulled == [1], "without Seq-NMS nothing waits"
    pulled.clear()
    rescored = with_seq_nms(answers(), load_config(None, ["TEST.SEQ_NMS=true"]))
    first = next(rescored)
    assert pulled == [1, 2, 3], "the video has to be over"
    assert [frame.frame_id for frame, _ in (first, *rescored)] == [1, 2, 3]
    # One box in the same place in all frames is one track, whose boxes all get the mean score
    assert first[1].scores.item() == pytest.approx(0.5)


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


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit, MemoryError])
def test_no_error_of_the_source_leaves_the_reader_waiting(error):
    def items():
        yield 0
        raise error

    with pytest.raises(error):
        list(read_ahead(items(), depth=2))


def test_read_ahead_is_bounded_and_stops_with_its_reader():
    produced, closed = [], []
    before = threading.active_count()

    def items():
        try:
            for i in range(1000):
                produced.append(i)
                yield i
        finally:
            closed.append(True)

    reader = read_ahead(items(), depth=3)
    assert next(reader) == 0
    reader.close()
    assert threading.active_count() == before
    assert len(produced) <= 6
    assert closed == [True]
