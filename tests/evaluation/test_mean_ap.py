"""AP against the recordings of the originals and against the rules written out plainly."""

import itertools

import numpy as np
import pytest

from lib.evaluation.mean_ap import (
    MOTION_RANGES,
    ObjectRange,
    average_precision,
    mean_ap,
    overlap_thresholds,
)
from lib.evaluation.mean_ap_reference import box_iou, mean_ap_reference, read_results_reference
from lib.evaluation.motion import motion_from_file
from lib.evaluation.results_file import DetectionTable, read_results
from tests.evaluation.plain_rules import make_truth

MOTIONS = [(0.0, 1.0), (0.0, 0.7), (0.7, 0.9), (0.9, 1.0)]
AREAS = [(0.0, 1e10), (0.0, 50.0**2), (50.0**2, 150.0**2), (150.0**2, 1e10)]


def table(rows):
    rows = np.array(rows, np.float64).reshape(-1, 7)
    return DetectionTable(rows[:, 0].astype(np.int32), rows[:, 1].astype(np.int16), rows[:, 2], rows[:, 3:])


@pytest.mark.parametrize("scores", ["unique", "ties"])
def test_every_motion_and_area_range_has_the_recorded_ap(golden, golden_dir, scores):
    recorded = golden("eval_public")
    gt = recorded["gt"]
    objects = np.column_stack((gt[:, 2] - 1, gt[:, 3:8], np.full(len(gt), -1)))
    truth = make_truth(objects, [int(recorded["frames"][0])], 30)
    motion = motion_from_file(golden_dir / "eval_public_motion_iou.mat", truth)
    np.testing.assert_array_equal(motion.values, gt[:, 8])
    detections = read_results(golden_dir / f"eval_public_dets_{scores}.txt", truth.num_frames, 30)
    ranges = [ObjectRange("", *pair) for pair in itertools.product(MOTIONS, AREAS)]

    results = mean_ap(truth, detections, motion.values, ranges, motion.zero_entries)

    expected = recorded[f"{scores}_ap_motion_stable_sort"].reshape(16, 30)
    expected = np.where(expected < 0, np.nan, expected)
    np.testing.assert_allclose([result.ap for result in results], expected, rtol=0, atol=1e-9)
    np.testing.assert_allclose(results[0].ap, recorded[f"{scores}_ap_stable_sort"], rtol=0, atol=1e-9)
    assert results[0].mean_ap == pytest.approx(np.nanmean(expected[0]), abs=1e-12)
    rows = read_results_reference(golden_dir / f"eval_public_dets_{scores}.txt")
    plain = mean_ap_reference(truth, rows, motion.values, ranges, zero_entries=motion.zero_entries)
    np.testing.assert_allclose(plain, expected, rtol=0, atol=1e-9)


def random_case(seed):
    """Objects and detections of a few small videos: frames and classes without objects, tiny boxes, equal scores."""
    rng = np.random.RandomState(seed)
    videos, classes = [int(n) for n in rng.randint(1, 9, rng.randint(1, 5))], 4

    def boxes(n):
        corner = rng.randint(0, 150, (n, 2))
        return np.hstack((corner, corner + rng.randint(0, rng.choice([4, 30, 120]), (n, 2)))).astype(np.float64)

    objects, rows = [], []
    for frame in range(sum(videos)):
        n = rng.choice([0, 1, 2, 5])
        own = boxes(n)
        labels = rng.randint(1, classes, n)  # class 4 has none
        objects += [(frame, label, *box, track) for track, (label, box) in enumerate(zip(labels, own, strict=True))]
        near = np.repeat(own, 3, axis=0) + rng.randint(-3, 4, (3 * n, 4))
        near[:, 2:] = np.maximum(near[:, 2:], near[:, :2])
        stray = boxes(rng.randint(0, 4))
        guesses = np.concatenate((np.repeat(labels, 3), rng.randint(1, classes + 1, len(stray))))
        guesses[rng.rand(len(guesses)) < 0.2] = rng.randint(1, classes + 1)
        scores = rng.randint(0, rng.choice([4, 10000]), len(guesses)) / 1e4
        rows += [(frame, g, s, *box) for g, s, box in zip(guesses, scores, np.vstack((near, stray)), strict=True)]
    rows = [rows[i] for i in rng.permutation(len(rows))] if seed % 2 else rows
    motion = rng.choice([0.0, 0.3, 0.7, 0.8, 0.9, 1.0, rng.rand()], len(objects))
    return make_truth(objects, videos, classes), rows, motion


@pytest.mark.parametrize("seed", range(40))
def test_agrees_with_the_rules_written_plainly(seed):
    truth, rows, motion = random_case(seed)
    ranges = [ObjectRange("", motion, area) for motion in MOTIONS for area in ((0.0, 1e10), (0.0, 400.0))]

    results = mean_ap(truth, table(rows), motion, ranges)

    expected = mean_ap_reference(truth, np.array(rows, np.float64).reshape(-1, 7), motion, ranges)
    for result, aps in zip(results, expected, strict=True):
        np.testing.assert_allclose(result.ap, aps, rtol=0, atol=1e-12, err_msg=str(result.range))


def test_no_detection_is_an_ap_of_zero_and_no_object_is_none():
    truth = make_truth([(0, 1, 0, 0, 9, 9, 0)], [2], 2)
    for result, ap in zip(mean_ap(truth, table([]), np.array([0.8])), (0, np.nan, 0, np.nan), strict=True):
        np.testing.assert_array_equal(result.ap, [ap, np.nan])
        np.testing.assert_equal(result.mean_ap, ap)


def test_frames_without_any_object_in_the_set():
    results = mean_ap(make_truth([], [3], 2), table([(1, 1, 0.5, 0, 0, 9, 9)]), np.zeros(0))
    assert all(np.isnan(result.ap).all() for result in results)


def test_equal_scores_keep_the_order_of_frames_then_of_the_file():
    truth = make_truth([(0, 1, 0, 0, 99, 99, 0), (1, 1, 0, 0, 99, 99, 0)], [2], 1)
    good, stray = (0, 0, 99, 99), (200, 200, 299, 299)
    first = [(1, 1, 0.5, *good), (1, 1, 0.5, *stray), (0, 1, 0.5, *good)]
    last = [(1, 1, 0.5, *stray), (0, 1, 0.5, *good), (1, 1, 0.5, *good)]
    everything = MOTION_RANGES[:1]
    assert mean_ap(truth, table(first), ranges=everything)[0].ap[0] == 1.0
    assert mean_ap(truth, table(last), ranges=everything)[0].ap[0] == pytest.approx(0.5 + 0.5 * 2 / 3)


def test_a_detection_whose_best_object_is_matched_takes_the_next_best():
    a, b, c = (0, 0, 99, 99), (0, 20, 99, 119), (0, 40, 99, 139)
    truth = make_truth([(0, 1, *box, track) for track, box in enumerate((a, b, c))], [1], 1)
    chain = [(0, 1, 0.9, *a), (0, 1, 0.8, 0, 2, 99, 101), (0, 1, 0.7, 0, 17, 99, 116)]
    assert box_iou(chain[1][3:], a) > box_iou(chain[1][3:], b) > 0.5
    assert mean_ap(truth, table(chain), ranges=MOTION_RANGES[:1])[0].ap[0] == 1.0


def test_small_objects_ask_for_less_overlap():
    # 10 x 10 pixels: 100 / 400; 40 x 10: 400 / 1000; from 25 x 25 on (625 / 1225) the usual half
    boxes = np.array([[0, 0, 9, 9], [5, 5, 44, 14], [0, 0, 24, 24]], np.float64)
    np.testing.assert_allclose(overlap_thresholds(boxes), [0.25, 0.4, 0.5])


def test_precision_is_the_best_at_this_or_a_higher_recall():
    true = np.array([False, True, True, False, False, True])
    false = np.where(true, 0.0, [1, 0, 0, 0.25, 0, 0])  # an ignored detection has neither
    assert average_precision(true, false, 4) == pytest.approx((3 / 4.25 + 3 / 4.25 + 3 / 4.25) / 4)


def test_motion_of_another_length_is_refused():
    truth = make_truth([(0, 1, 0, 0, 9, 9, 0)], [1], 1)
    with pytest.raises(ValueError, match="for 1 objects"):
        mean_ap(truth, table([]), np.zeros(2))
    with pytest.raises(ValueError, match="need the motion IoU"):
        mean_ap(truth, table([]))
