"""COCO's AP against its rules written out plainly."""

import numpy as np
import pytest

from lib.evaluation.coco_ap import MAX_DETECTIONS, coco_ap
from lib.evaluation.results_file import DetectionTable
from tests.evaluation.plain_rules import make_truth


def table(rows):
    rows = np.array(rows, np.float64).reshape(-1, 7)
    return DetectionTable(rows[:, 0].astype(np.int32), rows[:, 1].astype(np.int16), rows[:, 2], rows[:, 3:])


def iou(a, b):
    width, height = min(a[2], b[2]) - max(a[0], b[0]) + 1, min(a[3], b[3]) - max(a[1], b[1]) + 1
    shared = max(width, 0) * max(height, 0)
    return shared / (sum((x2 - x1 + 1) * (y2 - y1 + 1) for x1, y1, x2, y2 in (a, b)) - shared)


def plain_coco_ap(truth, rows, label, threshold):
    """Each detection of a frame, best first, takes the free object with the largest IoU, of equal ones the last."""
    outcomes, objects = [], int((truth.labels == label).sum())
    for frame in range(truth.num_frames):
        free = [i for i in range(truth.offsets[frame], truth.offsets[frame + 1]) if truth.labels[i] == label]
        mine = sorted((row for row in rows if row[0] == frame and row[1] == label), key=lambda row: -row[2])
        for row in mine[:MAX_DETECTIONS]:
            best = max(free, key=lambda i: (iou(row[3:], truth.boxes[i]), i), default=None)
            hit = best is not None and iou(row[3:], truth.boxes[best]) >= min(threshold, 1 - 1e-10)
            if hit:
                free.remove(best)
            outcomes.append((row[2], hit))
    outcomes.sort(key=lambda outcome: -outcome[0])
    found = np.cumsum([hit for _, hit in outcomes])
    recall = found / objects
    precision = found / np.arange(1, len(outcomes) + 1)
    return np.mean([max(precision[recall >= r], default=0.0) for r in np.linspace(0, 1, 101)])


@pytest.mark.parametrize("seed", range(8))
def test_agrees_with_the_rules_written_plainly(seed):
    rng = np.random.RandomState(seed)
    objects, rows = [], []
    for frame in range(12):
        for track in range(rng.choice([0, 1, 3])):
            corner, label = rng.randint(0, 150, 2), rng.randint(1, 4)
            box = np.array([*corner, *(corner + rng.randint(3, 80, 2))], float)
            objects.append((frame, label, *box, track))
            for _ in range(rng.randint(0, 4)):
                guess = box + np.round(rng.normal(0, 5, 4), 2)
                guess[2:] = np.maximum(guess[2:], guess[:2])
                rows.append((frame, rng.choice([label, label, 1, 2, 3]), rng.randint(0, 30) / 30, *guess))
        for _ in range(rng.randint(0, 3)):
            corner = rng.randint(0, 150, 2)
            rows.append((frame, rng.randint(1, 4), rng.randint(0, 30) / 30, *corner, *(corner + 20)))
    truth = make_truth(objects, [5, 7], 4)  # class 4 has no object
    found = coco_ap(truth, table(rows))
    there = sorted(set(truth.labels.tolist()))
    assert len(there) > 1
    for label in there:
        plain = [plain_coco_ap(truth, rows, label, t) for t in np.linspace(0.5, 0.95, 10)]
        assert found.ap50[label - 1] == pytest.approx(plain[0], abs=1e-12)
        assert found.ap[label - 1] == pytest.approx(np.mean(plain), abs=1e-12)
    np.testing.assert_array_equal(np.flatnonzero(~np.isnan(found.ap50)) + 1, there)
    assert found.mean_ap == pytest.approx(np.mean(found.ap[np.array(there) - 1]))


def test_nothing_found_and_nothing_there():
    truth = make_truth([(0, 1, 0, 0, 9, 9, 0)], [2], 2)
    found = coco_ap(truth, table([]))
    np.testing.assert_array_equal(found.ap, [0, np.nan])
    assert np.isnan(coco_ap(make_truth([], [2], 1), table([(0, 1, 0.5, 0, 0, 9, 9)])).mean_ap50)


def test_only_a_hundred_detections_of_a_class_in_an_image_count():
    truth = make_truth([(0, 1, 0, 0, 9, 9, 0)], [1], 1)
    stray = [(0, 1, 0.9, 50 + i, 50, 60 + i, 60) for i in range(MAX_DETECTIONS)]
    assert coco_ap(truth, table([*stray, (0, 1, 0.5, 0, 0, 9, 9)])).ap50[0] == 0
    assert coco_ap(truth, table([*stray[1:], (0, 1, 0.5, 0, 0, 9, 9)])).ap50[0] == pytest.approx(1 / MAX_DETECTIONS)
