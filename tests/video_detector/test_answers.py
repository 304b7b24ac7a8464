"""The Python API: what a detector answers, frame by frame, in batches, after Seq-NMS, and from the inside."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from lib import load_detector
from lib.data.transforms import Preprocessing
from lib.data.video import SourceError, SourceFrame, network_frames
from lib.engine.inference import Timing, detect_frames, with_seq_nms
from lib.models.build import build_postprocess
from tests.models.small import assert_same_detections
from tests.models.small_checkpoints import METHODS, clip, small_method_config
from tests.video_detector.comparison import ALL, LENGTH, SEQ_NMS, assert_equal, better_half, ready_model, write_images


@ALL
def test_frame_by_frame(detectors, expected, method):
    """FGFA answers two frames late, and every method exactly once."""
    live = detectors[method].live()
    answers = [live.add(image, seconds=i / 4) for i, image in enumerate(clip(LENGTH))]
    assert [len(ready) for ready in answers] == ([0, 0, 1, 1, 1, 1, 1] if method == "fgfa" else [1] * LENGTH)
    last = live.close()
    assert len(last) == (2 if method == "fgfa" else 0)
    answers = [*sum(answers, []), *last]
    assert_equal(answers, expected(method))
    assert [frame.seconds for frame, _ in answers] == [i / 4 for i in range(LENGTH)]
    assert live.close() == []


def test_a_causal_fgfa_answers_at_once(checkpoint):
    live = load_detector(checkpoint("fgfa"), device="cpu", overrides=["TEST.CAUSAL=true"]).live()
    assert [len(live.add(image)) for image in clip(4)] == [1, 1, 1, 1]


def test_a_video_is_computed_in_the_precision_of_its_detector(detectors):
    """Another detector in TF32 has allowed it for the whole process."""
    for begin in (lambda: next(detectors["rfcn"](clip(1))), detectors["rfcn"].live):
        torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = True
        begin()
        assert not torch.backends.cudnn.allow_tf32
        assert not torch.backends.cuda.matmul.allow_tf32


@ALL
def test_videos_do_not_know_of_each_other(detectors, expected, method):
    detector, one, other = detectors[method], clip(5), clip(4, seed=1)
    wanted = [expected(method, images) for images in (one, other)]
    assert_equal(detector(one), wanted[0])
    assert_equal(detector(other), wanted[1])
    both = [], []
    for pair in zip(detector(one), detector(other), strict=False):  # by turns
        for answers, answer in zip(both, pair, strict=True):
            answers.append(answer)
    assert_equal(both[0], wanted[0][: len(both[0])])
    assert_equal(both[1], wanted[1])
    next(detector(one))  # left at its first frame
    assert_equal(detector(other), wanted[1])
    live = detector.live()
    for images, answers in zip((one, other), wanted, strict=True):
        assert_equal([*sum((live.add(image) for image in images), []), *live.close()], answers)


@ALL
def test_a_change_of_size_begins_anew(detectors, expected, method):
    parts = [clip(3), clip(3, seed=1, height=80, width=112), clip(2, seed=2)]
    answers = list(detectors[method](sum(parts, [])))
    wanted = [answer for part in parts for answer in expected(method, part)]
    for (frame, found), (_, other) in zip(answers, wanted, strict=True):
        assert torch.equal(found.boxes, other.boxes)
        assert frame.first == (frame.index == 0)


@ALL
def test_inside(detectors, method):
    answers = list(detectors[method](clip(LENGTH), inside=True))
    assert_equal(answers, detectors[method](clip(LENGTH)))
    for i, (frame, _) in enumerate(answers):
        inside = frame.inside
        assert inside.features.shape == (32, 6, 8)
        if method == "rfcn":
            assert inside.references == []
            assert inside.flow is inside.weights is inside.scale is None
        elif method == "dff":
            key = i - i % 3
            assert inside.references == ([] if i == key else [key])
            assert (inside.flow is None) == (inside.scale is None) == (i == key)
            assert inside.weights is None
            if i != key:
                assert (inside.flow.shape, inside.scale.shape) == ((1, 2, 6, 8), (32, 6, 8))
        else:
            assert sorted(inside.references) == list(range(max(0, i - 2), min(LENGTH, i + 3)))
            count = len(inside.references)
            assert inside.flow.shape == (count, 2, 6, 8)
            torch.testing.assert_close(inside.weights.sum(dim=0), torch.ones(6, 8))
            assert (inside.weights > 0).all()
    live = detectors[method].live(inside=True)
    answers = [*sum((live.add(image) for image in clip(2)), []), *live.close()]
    assert all(frame.inside.features.shape == (32, 6, 8) for frame, _ in answers)


@ALL
def test_seq_nms_answers_when_the_video_is_over(checkpoint, tmp_path, method):
    images = clip(LENGTH)
    write_images(tmp_path / "clip", images)
    cfg = small_method_config(method, SEQ_NMS)
    raw = build_postprocess(cfg, METHODS[method].score_threshold)
    sources = (SourceFrame("", image) for image in images)
    frames = network_frames(sources, Preprocessing.from_config(cfg))
    rescored = list(with_seq_nms(detect_frames(ready_model(method), frames, raw), cfg))
    threshold, wanted = better_half(rescored)
    detector = load_detector(checkpoint(method), device="cpu", overrides=[SEQ_NMS], score_threshold=threshold)
    answers = list(detector(tmp_path / "clip"))
    assert_equal(answers, wanted)
    assert all(np.array_equal(frame.pixels, image) for (frame, _), image in zip(answers, images, strict=True))
    assert [frame.name for frame, _ in answers] == [f"frame{i}.png" for i in range(LENGTH)]

    taken = []

    def counted():
        for image in images:
            taken.append(1)
            yield image

    answers = detector(counted(), limit=LENGTH)
    first = next(answers)
    assert len(taken) == LENGTH
    rest = [first, *answers]
    assert_equal(rest, wanted)
    assert all(frame.pixels is None for frame, _ in rest), "they can be had only once"
    assert all(np.array_equal(frame.pixels, image) for (frame, _), image in zip(detector(images), images, strict=True))


def test_seq_nms_needs_an_end(checkpoint):
    detector = load_detector(checkpoint("rfcn"), device="cpu", overrides=[SEQ_NMS])
    with pytest.raises(SourceError, match="this one has no known end; give a limit, or TEST.SEQ_NMS=false"):
        next(detector(image for image in clip(2)))
    with pytest.raises(SourceError, match="not live; set TEST.SEQ_NMS=false"):
        detector.live()


@ALL
@pytest.mark.parametrize("batch_images", [2, 16])
def test_a_batch_gives_the_same(checkpoint, expected, method, batch_images):
    detector = load_detector(checkpoint(method), device="cpu", batch_images=batch_images)
    answers = list(detector(clip(LENGTH)))
    assert [frame.index for frame, _ in answers] == list(range(LENGTH))
    assert_same_detections([found for _, found in answers], [found for _, found in expected(method)])


@ALL
def test_limit_and_timing(detectors, expected, method):
    timing = Timing()
    answers = list(detectors[method](clip(LENGTH), limit=4, timing=timing))
    assert_equal(answers, expected(method, clip(LENGTH)[:4]))
    assert timing.frames == 4
    assert timing.net > 0
    list(detectors[method](clip(2), timing=timing))
    assert timing.frames == 6
