"""The matching of the report is that of AP."""

import numpy as np
import pytest

from lib.evaluation.mean_ap import MOTION_RANGES, average_precision, by_class, mean_ap, overlap_thresholds
from lib.report import pairs as module
from lib.report.pairs import Pairs
from tests.evaluation.test_mean_ap import random_case, table


@pytest.mark.parametrize("seed", range(12))
def test_pairs_find_the_objects_that_ap_counts(seed, monkeypatch):
    truth, rows, _ = random_case(seed)
    monkeypatch.setattr(module, "_CHUNK", [1, 7, 10**6][seed % 3])
    detections = table(rows).sorted_by_frame()
    parts = list(Pairs.chunks(truth, detections))
    thresholds = overlap_thresholds(truth.boxes)
    matched = np.concatenate([np.zeros(0, int), *(part.match(truth, detections, thresholds) for part in parts)])
    assert len(np.unique(matched[matched >= 0])) == (matched >= 0).sum(), "an object is found once"
    expected = mean_ap(truth, detections, ranges=MOTION_RANGES[:1])[0].ap
    for label, mine in by_class(detections, len(truth.class_names)):
        objects = (truth.labels == label).sum()
        if objects:
            ap = average_precision(matched[mine] >= 0, 1.0 * (matched[mine] < 0), objects)
            assert ap == pytest.approx(expected[label - 1], abs=1e-12)
