"""Seq-NMS against the recordings of the original and against its readable version."""

import sys
import threading

import numpy as np
import pytest
import torch

from lib.evaluation import seq_nms as module
from lib.evaluation.results_file import DetectionTable
from lib.evaluation.seq_nms import (
    SeqNMS,
    seq_nms,
    seq_nms_answers,
    seq_nms_table,
    seq_nms_video,
    seq_nms_videos,
    split_videos,
)
from lib.evaluation.seq_nms_reference import seq_nms_reference
from lib.structures import Detections, Frame


def table(rows):
    """Rows (frame, label, x1, y1, x2, y2, score) as columns."""
    rows = np.array(rows, np.float64).reshape(-1, 7)
    return DetectionTable(rows[:, 0].astype(np.int32), rows[:, 1].astype(np.int16), rows[:, 6], rows[:, 2:6])


def rows_of(found):
    return np.column_stack((found.frames, found.labels, found.boxes, found.scores))


def in_any_order(rows):
    return rows[np.lexsort(rows.T[::-1])]


@pytest.mark.parametrize(("recorded_name", "nms"), [("seqnms_out", None), ("seqnms_out_nms03", 0.3)])
@pytest.mark.parametrize("workers", [1, 3])
def test_results_are_the_recorded_ones(golden, recorded_name, nms, workers):
    recorded = golden("eval_public")

    def cumulated(rows):
        """(video, frame in it, ...) -> (frame in the image set, ...)"""
        return np.column_stack((first[rows[:, 0].astype(int)] + rows[:, 1], rows[:, 2:]))

    given = recorded["seqnms_in"]
    lengths = np.array([given[given[:, 0] == v, 1].max() + 1 for v in range(8)], int)
    first = np.cumsum(lengths) - lengths
    videos = np.repeat(np.arange(8), lengths)
    found = rows_of(seq_nms_table(table(cumulated(given)), videos, SeqNMS(nms=nms), workers))
    wanted = cumulated(recorded[recorded_name])
    assert 0 < len(wanted) < len(given)
    np.testing.assert_allclose(in_any_order(found), in_any_order(wanted), rtol=0, atol=1e-9)


def random_video(rng, lengths, coarse):
    """Boxes of a few drifting objects and of none; `coarse` ones coincide and tie. Lists by frame."""
    centres = rng.uniform(20, 180, (4, 2))
    boxes, scores = [], []
    for n in lengths:
        centres += rng.normal(0, 4, centres.shape)
        at = centres[rng.integers(0, 4, n)] + rng.normal(0, 5, (n, 2))
        at = np.where(rng.random((n, 1)) < 0.3, rng.uniform(0, 200, (n, 2)), at)
        half = rng.uniform(10, 30, (n, 2))
        frame = np.hstack((at - half, at + half))
        score = rng.random(n) ** 3
        boxes.append(np.round(frame / 12) * 12 if coarse else frame)
        scores.append(np.round(score * 5) / 5 if coarse else score)
    return boxes, scores


def assert_same_as_reference(boxes, scores, rules=SeqNMS()):  # noqa: B008 (frozen)
    frames = np.repeat(np.arange(len(boxes)), [len(s) for s in scores])
    kept, found = seq_nms(frames, np.concatenate(boxes), np.concatenate(scores), rules)
    wanted_kept, wanted = seq_nms_reference(boxes, scores, rules.link, rules.suppress, rules.stop)
    mask = np.concatenate([np.isin(np.arange(len(s)), k) for s, k in zip(scores, wanted_kept, strict=True)])
    np.testing.assert_array_equal(kept, mask)
    np.testing.assert_array_equal(found[kept], np.concatenate(wanted)[mask])
    return kept, found


@pytest.mark.parametrize("coarse", [False, True])
@pytest.mark.parametrize("seed", range(12))
def test_random_videos_give_what_the_reference_gives(seed, coarse):
    rng = np.random.default_rng([seed, coarse])
    lengths = rng.integers(0, 30, rng.integers(1, 14))
    lengths[rng.random(len(lengths)) < 0.1] = 0
    lengths[0] += 1
    assert_same_as_reference(*random_video(rng, lengths, coarse))


@pytest.mark.parametrize("count", [63, 64, 65, 130])
def test_frames_around_a_whole_machine_word_of_boxes(count):
    rng = np.random.default_rng(count)
    kept, _ = assert_same_as_reference(*random_video(rng, [count, count + 1, 3, count], False))
    assert 0 < kept.sum() < len(kept)


@pytest.mark.parametrize(
    "rules", [SeqNMS(link=0.2), SeqNMS(link=0.9), SeqNMS(suppress=0.8), SeqNMS(suppress=1.5), SeqNMS(stop=1.0)]
)
def test_other_thresholds(rules):
    rng = np.random.default_rng(7)
    _, found = assert_same_as_reference(*random_video(rng, [20] * 8, True), rules)
    _, usual = assert_same_as_reference(*random_video(np.random.default_rng(7), [20] * 8, True))
    assert not np.array_equal(found, usual)


def test_overlaps_of_exactly_the_thresholds_count():
    # The first box and the last share half of the first; the second is 0.3 of the first and apart from the last
    boxes = [np.array([[0, 0, 9, 9], [0, 7, 9, 9.0]]), np.array([[0, 0, 9, 4.0]])]
    kept, scores = assert_same_as_reference(boxes, [np.array([0.8, 0.9]), np.array([0.4])])
    assert kept.tolist() == [True, False, True]
    np.testing.assert_allclose(scores[kept], 0.6)


def test_boxes_turned_inside_out_link_to_nothing():
    rng = np.random.default_rng(3)
    boxes, scores = random_video(rng, [12] * 6, True)
    for frame in boxes:
        frame[:4] = frame[:4][:, [2, 1, 0, 3]]
        frame[4:6] = frame[4:6][:, [2, 3, 0, 1]]
    assert_same_as_reference(boxes, scores)


def test_what_remains_without_links_is_neither_rescored_nor_suppressed():
    boxes = np.array([[0, 0, 9, 9], [1, 0, 10, 9], [100, 0, 109, 9], [200, 0, 209, 9.0]])
    kept, scores = seq_nms(np.array([0, 0, 1, 1]), boxes, [0.5, 0.4, 0.3, 0.2])
    assert kept.all()
    np.testing.assert_array_equal(scores, [0.5, 0.4, 0.3, 0.2])


def test_only_consecutive_frames_are_linked():
    boxes, scores = np.tile([0, 0, 9, 9.0], (4, 1)), [0.9, 0.3, 0.5, 0.1]
    _, together = seq_nms(np.array([3, 4, 5, 6]), boxes, scores)
    np.testing.assert_allclose(together, 0.45)
    _, apart = seq_nms(np.array([3, 4, 6, 8]), boxes, scores)
    np.testing.assert_allclose(apart, [0.6, 0.6, 0.5, 0.1])


def test_nothing_in_nothing_out():
    kept, scores = seq_nms(np.zeros(0, int), np.zeros((0, 4)), np.zeros(0))
    assert kept.shape == scores.shape == (0,)
    assert len(seq_nms_table(table([]), np.zeros(5, int))) == 0
    assert len(seq_nms_table(table([]), np.zeros(0, int))) == 0


def random_table(rng, videos, classes):
    rows = []
    for frame in range(len(videos)):
        for label in range(1, classes + 1):
            n = int(rng.integers(0, 12))
            (boxes,), (scores,) = random_video(rng, [n], True)
            rows += [(frame, label, *box, score) for box, score in zip(boxes, scores, strict=True)]
    return table(rows)


def plain_nms(boxes, scores, threshold):
    """Indices of the kept boxes by descending score, of equal ones the first; IoU above `threshold` drops."""
    order, kept = sorted(range(len(scores)), key=lambda i: -scores[i]), []
    while order:
        best = order.pop(0)
        kept.append(best)
        left, top = np.maximum(boxes[best, :2], boxes[:, :2]).T
        right, bottom = np.minimum(boxes[best, 2:], boxes[:, 2:]).T
        shared = np.maximum(right - left + 1, 0) * np.maximum(bottom - top + 1, 0)
        areas = np.prod(boxes[:, 2:] - boxes[:, :2] + 1, axis=1)
        order = [i for i in order if shared[i] / (areas[i] + areas[best] - shared[i]) <= threshold]
    return kept


def plain_table(given, videos, classes, nms):
    """Rows of what every class of every video gives on its own, by frame, class and descending score."""
    rows = []
    for video in np.unique(videos):
        frames = np.flatnonzero(videos == video)
        for label in range(1, classes + 1):
            of_frame = [(given.frames == t) & (given.labels == label) for t in frames]
            boxes = [given.boxes[mask] for mask in of_frame]
            kept, scores = seq_nms_reference(boxes, [given.scores[mask] for mask in of_frame])
            for t, b, k, s in zip(frames, boxes, kept, scores, strict=True):
                rows += [(t, label, *b[k][i], s[k][i]) for i in plain_nms(b[k], s[k], nms)]
    return np.array(sorted(rows, key=lambda row: row[:2]))


@pytest.mark.parametrize("nms", [0.3, 0.5, 0.0])
def test_table_is_every_class_of_every_video_on_its_own_in_order(nms):
    rng = np.random.default_rng(11)
    videos = np.repeat([0, 1, 2, 3], [5, 1, 7, 2])
    given = random_table(rng, videos, 3)
    wanted = plain_table(given, videos, 3, nms)
    found = rows_of(seq_nms_table(given, videos, SeqNMS(nms=nms)))
    np.testing.assert_array_equal(found, wanted)


def test_any_number_of_workers_gives_the_same_rows_in_the_same_order():
    rng = np.random.default_rng(12)
    videos = np.repeat(np.arange(9), 3)
    given = random_table(rng, videos, 2)
    one, four = (seq_nms_table(given, videos, workers=n) for n in (1, 4))
    np.testing.assert_array_equal(rows_of(one), rows_of(four))


def test_frames_of_the_table_may_come_in_any_order():
    rng = np.random.default_rng(13)
    videos = np.repeat([0, 1], [6, 5])
    given = random_table(rng, videos, 2)
    turned = given[np.argsort(-given.frames, kind="stable")]
    np.testing.assert_array_equal(rows_of(seq_nms_table(turned, videos)), rows_of(seq_nms_table(given, videos)))


@pytest.mark.parametrize("workers", [1, 2])
def test_videos_are_read_no_further_than_needed(workers):
    read = []

    def videos():
        for number in range(10):
            read.append(number)
            yield table([(number, 1, 0, 0, 9, 9, 0.5)])

    found = seq_nms_videos(videos(), workers=workers)
    for number in range(10):
        assert next(found).frames.tolist() == [number]
        assert len(read) <= min(number + workers + 1, 10)


def test_other_threads_run_while_the_compiled_loops_do(monkeypatch):
    beats, stop, during = [0], threading.Event(), []
    compiled = module._seq_nms.rescore

    def beat():
        while not stop.wait(1e-3):
            beats[0] += 1

    def counted(*arguments):
        before = beats[0]
        for _ in range(50):
            compiled(*arguments)
        during.append(beats[0] - before)

    monkeypatch.setattr(module._seq_nms, "rescore", counted)
    interval = sys.getswitchinterval()
    sys.setswitchinterval(60)  # so that only a released GIL lets another thread in
    heart = threading.Thread(target=beat)
    heart.start()
    try:
        boxes, scores = random_video(np.random.default_rng(5), [200] * 40, False)
        seq_nms(np.repeat(np.arange(40), 200), np.concatenate(boxes), np.concatenate(scores))
    finally:
        stop.set()
        heart.join()
        sys.setswitchinterval(interval)
    assert during[0] > 0


def test_input_is_left_as_it_was():
    video = table([(0, 1, 0, 0, 9, 9, 0.9), (1, 1, 0, 0, 9, 9, 0.1)])
    found = seq_nms_video(video)
    np.testing.assert_allclose(found.scores, 0.5)
    assert video.scores.tolist() == [0.9, 0.1]
    assert (found.frames.dtype, found.labels.dtype) == (video.frames.dtype, video.labels.dtype)


@pytest.mark.parametrize(
    ("frames", "boxes", "scores", "message"),
    [
        ([0, 1], np.zeros((2, 4)), [0.1], r"\(2,\), \(2, 4\) and \(1,\)"),
        ([0], np.zeros((1, 5)), [0.1], r"\(1, 5\)"),
        ([1, 0], np.zeros((2, 4)), [0.1, 0.2], "ascending frame"),
        ([0, 1], np.zeros((2, 4)), [0.1, np.nan], "finite"),
        ([0], np.full((1, 4), np.inf), [0.1], "finite"),
    ],
)
def test_wrong_input_is_refused(frames, boxes, scores, message):
    with pytest.raises(ValueError, match=message):
        seq_nms(np.array(frames), boxes, scores)


def test_frames_beyond_the_image_set_are_refused():
    with pytest.raises(ValueError, match="frames 0 to 7 of an image set that has frames 0 to 4"):
        list(split_videos(table([(7, 1, 0, 0, 9, 9, 0.5), (0, 1, 0, 0, 9, 9, 0.5)]), np.zeros(5, int)))


@pytest.mark.parametrize("wrong", [{"link": 0.0}, {"suppress": -1.0}, {"stop": 0.0}, {"nms": -0.1}, {"stop": np.nan}])
def test_rules_that_make_no_sense_are_refused(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        SeqNMS(**wrong)


def random_answers(rng, lengths):
    """(frame, detections) of videos of these lengths, as an inference loop yields them."""
    for length in lengths:
        for index in range(length):
            corner = torch.from_numpy(rng.uniform(0, 40, (12, 2))).float()
            found = Detections(
                torch.cat((corner, corner + 30), dim=1),
                torch.from_numpy(rng.uniform(0, 1, 12)).float(),
                torch.from_numpy(rng.integers(1, 3, 12)),
            )
            yield Frame(torch.zeros(3, 4, 4), 1.0, index=index, first=index == 0), found


def test_answers_of_an_inference_loop_are_rescored_as_the_whole_table_is():
    lengths = [5, 1, 4]
    answers = list(random_answers(np.random.default_rng(0), lengths))
    tables = [DetectionTable.of_frame(frame_id, found) for frame_id, (_, found) in enumerate(answers, 1)]
    wanted = seq_nms_table(DetectionTable.cat(tables), np.repeat(np.arange(3), lengths))
    rescored = list(seq_nms_answers(answers))
    assert all(frame is before for (frame, _), (before, _) in zip(rescored, answers, strict=True))
    found = DetectionTable.cat(
        [DetectionTable.of_frame(i, detections) for i, (_, detections) in enumerate(rescored, 1)]
    )
    np.testing.assert_array_equal(rows_of(found), rows_of(wanted))
    assert 0 < len(found) < 12 * sum(lengths)


def test_answers_come_as_soon_as_their_video_is_over():
    given, lengths = [], [3, 2, 2]

    def watched():
        for answer in random_answers(np.random.default_rng(1), lengths):
            given.append(answer)
            yield answer

    rescored = seq_nms_answers(watched())
    assert [next(rescored)[0].index for _ in range(3)] == [0, 1, 2]
    assert len(given) == 4  # the first frame of the second video shows that the first is over
    assert len(list(rescored)) == 4
    assert list(seq_nms_answers([])) == []
