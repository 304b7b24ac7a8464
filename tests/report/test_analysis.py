"""Curves, operating point, sizes, confusion and clips against plain loops."""

import math

import numpy as np
import pytest

from lib.evaluation.motion import motion_of
from lib.evaluation.results_file import DetectionTable
from lib.report.analysis import RECALLS, analyse, count_by_video, operating_point, precision_curves, size_ranges
from lib.report.clips import choose_clips, f1_of_videos
from lib.report.confusion import confusion_matrix, top_confusions
from lib.report.errors import CORRECT, find_outcomes
from lib.report.provenance import Provenance
from tests.evaluation.plain_rules import make_truth
from tests.report import plain
from tests.report.made_up import made_up_detections, made_up_truth

SEEDS = range(8)


def case(seed):
    truth = made_up_truth(seed)
    detections = made_up_detections(truth, seed, swapped=0.3, again=0.3, decimals=1 + seed % 3)
    return truth, detections, find_outcomes(truth, detections)


def analysed(truth, detections, name="run"):
    return analyse(name, "a.txt", Provenance(), truth, detections, motion_of(truth), size_ranges(truth)[0])


@pytest.mark.parametrize("seed", SEEDS)
def test_curves(seed):
    truth, detections, outcomes = case(seed)
    curves = precision_curves(truth, detections, outcomes.kind == CORRECT)
    for label in range(1, len(truth.class_names) + 1):
        objects = int((truth.labels == label).sum())
        if not objects:
            assert np.isnan(curves[label - 1]).all()
            continue
        rows = sorted(np.flatnonzero(detections.labels == label), key=lambda r: -detections.scores[r])
        points = plain.curve([bool(outcomes.kind[row] == CORRECT) for row in rows], objects)
        # At recall 0 the curve has the value of its first point
        expected = [plain.best_precision(points, max(recall, 1 / objects)) for recall in RECALLS]
        np.testing.assert_allclose(curves[label - 1], expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("seed", SEEDS)
def test_operating_point_has_the_best_f1(seed):
    truth, detections, outcomes = case(seed)
    correct, objects = outcomes.kind == CORRECT, len(truth.labels)
    point = operating_point(detections.scores, correct, objects)

    def f1(score):
        kept = detections.scores >= score
        return 2 * (correct & kept).sum() / (kept.sum() + objects)

    every = {score: f1(score) for score in set(detections.scores.tolist())}
    assert point.f1 == pytest.approx(max(every.values()))
    assert every[point.score] == pytest.approx(point.f1)
    kept = detections.scores >= point.score
    assert point.precision == pytest.approx(correct[kept].mean())
    assert point.recall == pytest.approx(correct[kept].sum() / objects)


def test_operating_point_of_nothing():
    for scores, correct, objects in (([], [], 3), ([0.5], [False], 3), ([0.5], [False], 0)):
        point = operating_point(np.array(scores, float), np.array(correct, bool), objects)
        assert math.isnan(point.score)
        assert math.isnan(point.f1)


@pytest.mark.parametrize("seed", SEEDS)
def test_confusion_matrix(seed):
    truth, detections, _ = case(seed)
    classes = len(truth.class_names)
    expected = np.zeros((classes + 1, classes + 1), int)
    # Matching by place alone keeps to one frame, so frame after frame gives what the whole table does
    met = plain.matches(truth, detections, any_class=True)
    for row in range(len(detections)):
        expected[truth.labels[met[row]] - 1 if row in met else classes, detections.labels[row] - 1] += 1
    for i in set(range(len(truth.labels))) - set(met.values()):
        expected[truth.labels[i] - 1, classes] += 1
    matrix = confusion_matrix(truth, detections)
    np.testing.assert_array_equal(matrix, expected)
    assert matrix[:-1].sum() == len(truth.labels)
    assert matrix[:, :-1].sum() == len(detections)


def test_top_confusions():
    matrix = np.array([[5, 2, 0, 3], [4, 1, 0, 0], [0, 0, 9, 0], [7, 0, 0, 0]])
    assert top_confusions(matrix, 5) == [(1, 0, 4, 0.8), (0, 1, 2, 0.2)]
    assert top_confusions(matrix, 1) == [(1, 0, 4, 0.8)]


@pytest.mark.parametrize("seed", SEEDS)
def test_counts_of_videos(seed):
    truth, detections, outcomes = case(seed)
    counts = count_by_video(truth, detections, outcomes)
    found = {int(i) for kind, i in zip(outcomes.kind, outcomes.object, strict=True) if kind == CORRECT}
    objects = truth.frame_of_object()
    for video in range(4):
        kinds = [k for k, f in zip(outcomes.kind, detections.frames, strict=True) if truth.videos[f] == video]
        own = [i for i in range(len(objects)) if truth.videos[objects[i]] == video]
        true = sum(k == CORRECT for k in kinds)
        assert counts[video].tolist() == [true, len(kinds) - true, sum(i not in found for i in own)]


def test_f1_of_videos():
    f1 = f1_of_videos(np.array([[0, 0, 0], [2, 1, 1], [0, 3, 0], [4, 0, 0]]))
    np.testing.assert_allclose(f1, [np.nan, 4 / 6, 0, 1])


def test_sizes_are_the_originals_where_they_divide_the_objects():
    sides = np.repeat([20, 100, 200], 5)
    ranges, said = size_ranges(make_truth([(0, 1, 0, 0, s - 1, s - 1, 0) for s in sides], [1], 1))
    assert [r.area for r in ranges] == [(0, 2500), (2500, 22500), (22500, 1e10)]
    assert "originals' borders" in said
    ranges, said = size_ranges(make_truth([(0, 1, 0, 0, s - 1, s - 1, 0) for s in range(10, 40)], [1], 1))
    assert [r.area for r in ranges] == [(0, 400), (400, 841), (841, 1e10)]  # sides up to 19, 29 and 39
    assert "third" in said


def test_an_analysis_agrees_with_itself():
    truth = made_up_truth(3)
    run = analysed(truth, made_up_detections(truth, 3))
    assert [r.range.name for r in run.motion] == ["all", "slow", "medium", "fast"]
    assert [r.range.name for r in run.sizes] == ["small", "medium", "large"]
    assert run.true_scores.sum() + run.false_scores.sum() == run.detections
    assert (run.shown.scores >= run.point.score).all()
    assert run.videos[:, 0].sum() / len(truth.labels) == pytest.approx(run.point.recall)
    np.testing.assert_array_equal(run.costs.ap, run.ap)


def test_clips_are_ranked_and_none_is_chosen_twice():
    truth = make_truth([(frame, 1, 0, 0, 99, 99, 0) for frame in range(8)], [1] * 8, 1)
    good, bad = (0, 0, 99, 99), (300, 300, 399, 399)

    def run(found, strays):
        rows = [(f, good) for f in found] + [(f, bad) for f in strays]
        rows.sort(key=lambda row: row[0])
        frames = np.array([f for f, _ in rows], np.int32)
        table = DetectionTable(
            frames, np.ones(len(rows), np.int16), np.full(len(rows), 0.9), np.array([b for _, b in rows], np.float64)
        )
        return analysed(truth, table)

    one = [run(found=[0, 1, 2, 3, 4, 5], strays=[5, 7])]
    worst, best = choose_clips(one, count=2)
    assert worst.videos == [7, 6]  # both without a correct one; the stray is one error more
    assert best.videos == [0, 1]
    two = [*one, run(found=[0, 1, 2, 3, 4, 6], strays=[5, 7])]
    differing, worst, best = choose_clips(two, count=2)
    assert differing.videos == [6, 5]
    assert worst.videos[0] == 7
    chosen = [v for choice in (differing, worst, best) for v in choice.videos]
    assert len(chosen) == len(set(chosen))
