"""The pairs of the report, and the matching of AP that it shares, against both written one detection at a time."""

import numpy as np
import pytest

from lib.evaluation.mean_ap import find_objects
from lib.evaluation.results_file import DetectionTable
from lib.report import pairs as module
from lib.report.pairs import Pairs
from tests.report import plain
from tests.report.made_up import made_up_detections, made_up_truth


@pytest.mark.parametrize("any_class", [False, True])
@pytest.mark.parametrize("seed", range(12))
def test_every_detection_finds_the_object_of_the_plain_rules(seed, any_class):
    truth = made_up_truth(seed)
    detections = made_up_detections(truth, seed, jitter=0.12, swapped=0.3, again=0.6, decimals=1 + seed % 3)
    expected = plain.matches(truth, detections, any_class)
    found = find_objects(truth, detections, any_class)
    assert {row: i for row, i in enumerate(found.tolist()) if i >= 0} == expected
    assert len(expected) > 0


def test_the_random_cases_find_other_objects_where_the_class_is_free():
    truth = made_up_truth(1)
    detections = made_up_detections(truth, 1, jitter=0.12, swapped=0.3, again=0.6)
    assert not np.array_equal(find_objects(truth, detections), find_objects(truth, detections, any_class=True))


def test_nothing_finds_nothing():
    truth = made_up_truth(0)
    none = made_up_detections(truth, 0)[:0]
    assert find_objects(truth, none).shape == (0,)
    last_frame = DetectionTable(np.array([19]), np.array([1]), np.array([0.5]), np.array([[500.0, 500, 510, 510]]))
    assert find_objects(truth, last_frame).tolist() == [-1]


@pytest.mark.parametrize("chunk", [1, 7, 10**6])
def test_chunks_hold_every_pair_once(monkeypatch, chunk):
    monkeypatch.setattr(module, "_CHUNK", chunk)
    truth = made_up_truth(3)
    detections = made_up_detections(truth, 3)
    found = []
    for pairs in Pairs.chunks(truth, detections):
        found += zip((pairs.rows.start + pairs.detection).tolist(), pairs.object.tolist(), pairs.iou, strict=True)
    expected = [
        (row, i, pytest.approx(plain.iou(detections.boxes[row], truth.boxes[i]), abs=1e-12))
        for row, frame in enumerate(detections.frames)
        for i in range(truth.offsets[frame], truth.offsets[frame + 1])
    ]
    assert found == expected
