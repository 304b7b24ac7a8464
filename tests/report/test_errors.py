"""Kinds of errors and their costs: by hand, and against the definitions written plainly."""

import numpy as np
import pytest

from lib.evaluation.mean_ap import MOTION_RANGES, mean_ap
from lib.evaluation.results_file import DetectionTable
from lib.report import pairs as pairs_module
from lib.report.errors import KINDS, TOTALS, error_costs, find_outcomes
from tests.evaluation.plain_rules import make_truth
from tests.report import plain
from tests.report.made_up import made_up_detections, made_up_truth


def table(rows):
    rows = np.array(rows, np.float64).reshape(-1, 7)
    return DetectionTable(rows[:, 0].astype(np.int32), rows[:, 1].astype(np.int16), rows[:, 2], rows[:, 3:])


A, B = (0, 0, 99, 99), (200, 0, 299, 99)  # a class 1 and a class 2 object in frame 0; frame 1 has none
TRUTH = make_truth([(0, 1, *A, 0), (0, 2, *B, 1)], [2], 3)


@pytest.mark.parametrize(
    ("row", "kind"),
    [
        ((0, 1, 0.9, 0, 0, 99, 89), plain.CORRECT),
        ((0, 1, 0.5, 2, 0, 101, 99), plain.DUPLICATE),
        ((0, 2, 0.9, *A), plain.CLASSIFICATION),
        ((0, 3, 0.9, *A), plain.CLASSIFICATION),
        ((0, 1, 0.9, 0, 0, 99, 39), plain.LOCALISATION),
        ((0, 1, 0.9, 0, 0, 99, 9), plain.LOCALISATION),  # an IoU of exactly 0.1
        ((0, 2, 0.9, 0, 0, 99, 9), plain.BACKGROUND),  # and the same of another class
        ((0, 2, 0.9, 0, 0, 99, 39), plain.BOTH),
        ((0, 1, 0.9, 150, 150, 180, 180), plain.BACKGROUND),
        ((1, 1, 0.9, *A), plain.BACKGROUND),
    ],
)
def test_each_kind(row, kind):
    rows = table([(0, 1, 0.8, *A), row]) if kind == plain.DUPLICATE else table([row])
    assert find_outcomes(TRUTH, rows).kind[-1] == kind


def test_an_object_of_its_class_nearby_comes_before_the_wrong_class():
    truth = make_truth([(0, 1, *A, 0), (0, 2, 0, 0, 99, 35, 1)], [1], 2)
    outcomes = find_outcomes(truth, table([(0, 1, 0.9, 0, 0, 99, 34)]))
    assert outcomes.kind[0] == plain.LOCALISATION
    assert outcomes.object[0] == 0


def test_small_objects_are_reached_with_less_overlap():
    truth = make_truth([(0, 1, 0, 0, 9, 9, 0)], [1], 1)  # its threshold is 0.25
    assert find_outcomes(truth, table([(0, 1, 0.9, 0, 0, 9, 2)])).kind[0] == plain.CORRECT
    assert find_outcomes(truth, table([(0, 1, 0.9, 0, 0, 9, 1)])).kind[0] == plain.LOCALISATION


def test_costs_of_one_error_each():
    costs = error_costs(TRUTH, rows := table([(0, 2, 0.9, *A)]), find_outcomes(TRUTH, rows))
    np.testing.assert_array_equal(costs.ap, [0, 0, np.nan])
    np.testing.assert_array_equal(costs.of_class("classification"), [1, 0, np.nan])
    assert costs.mean("classification") == 0.5
    # Class 1 has nothing else to find; of class 2 the only object is missed, so that nothing is left to find
    np.testing.assert_array_equal(costs.of_class("missed"), [0, 1, np.nan])


def test_the_highest_scoring_error_finds_the_object_and_the_others_go():
    truth = make_truth([(0, 1, *A, 0)], [1], 1)
    short, shorter = (0, 0, 99, 39), (0, 0, 99, 29)
    rows = table([(0, 1, 0.7, *shorter), (0, 1, 0.9, *short), (0, 1, 0.8, 300, 300, 340, 340)])
    costs = error_costs(truth, rows, find_outcomes(truth, rows))
    assert costs.fixed["localisation"][0] == 1.0  # found at 0.9, before the stray
    truth = make_truth([(0, 1, *A, 0), (0, 1, 500, 500, 600, 600, 0)], [1], 1)
    rows = table([(0, 1, 0.95, *short), (0, 1, 0.9, *A)])
    costs = error_costs(truth, rows, find_outcomes(truth, rows))
    assert costs.ap[0] == 0.25
    assert costs.fixed["localisation"][0] == 0.5  # found already, so the error only goes


@pytest.mark.parametrize("seed", range(12))
def test_agrees_with_the_definitions_written_plainly(seed, monkeypatch):
    monkeypatch.setattr(pairs_module, "_CHUNK", [5, 10**6][seed % 2])
    truth = made_up_truth(seed)
    detections = made_up_detections(truth, seed, jitter=0.12, swapped=0.3, again=0.4, decimals=1 + seed % 3)
    outcomes = find_outcomes(truth, detections)
    expected = plain.outcomes(truth, detections)
    assert list(zip(outcomes.kind.tolist(), outcomes.object.tolist(), strict=True)) == expected

    costs = error_costs(truth, detections, outcomes)
    overall = mean_ap(truth, detections, ranges=MOTION_RANGES[:1])[0]
    np.testing.assert_array_equal(costs.ap, overall.ap)
    plain_kinds = (plain.CLASSIFICATION, plain.LOCALISATION, plain.BOTH, plain.DUPLICATE, plain.BACKGROUND)
    named = dict(zip((*KINDS, *TOTALS), (*plain_kinds, "missed", "false positives", "not found"), strict=True))
    for kind, plainly in named.items():
        for k in np.flatnonzero(~np.isnan(overall.ap)).tolist():
            aps = costs.fixed[kind][k], plain.fixed_ap(truth, detections, plainly, k + 1)
            assert aps[0] == pytest.approx(aps[1], abs=1e-12), (kind, k)
        assert np.isnan(costs.fixed[kind][np.isnan(overall.ap)]).all()

    meant = {i for kind, i in expected if kind in (plain.CORRECT, plain.CLASSIFICATION, plain.LOCALISATION)}
    counts = [sum(kind == wanted for kind, _ in expected) for wanted in plain_kinds]
    assert outcomes.counts(len(truth.labels)).tolist() == [*counts, len(truth.labels) - len(meant)]


def test_the_random_cases_have_every_kind():
    kinds = set()
    for seed in range(12):
        truth = made_up_truth(seed)
        kinds.update(find_outcomes(truth, made_up_detections(truth, seed, 0.12, swapped=0.3, again=0.4)).kind.tolist())
    assert kinds == set(range(6))


def test_without_detections_everything_is_missed():
    costs = error_costs(TRUTH, table([]), outcomes := find_outcomes(TRUTH, table([])))
    assert outcomes.counts(2).tolist() == [0, 0, 0, 0, 0, 2]
    assert costs.mean("missed") == 1.0
    assert costs.mean("duplicate") == 0.0


def test_without_objects_there_is_no_ap():
    truth = make_truth([], [2], 2)
    costs = error_costs(truth, rows := table([(1, 1, 0.5, *A)]), find_outcomes(truth, rows))
    assert np.isnan(costs.ap).all()
    assert np.isnan(costs.mean("missed"))
