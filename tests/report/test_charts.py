"""Charts: ticks that can be told apart, legends in one row, no share of a handful of detections."""

import dataclasses

import numpy as np
import pytest

from lib.report import charts
from lib.report.analysis import SCORE_BINS, Analysis, analyse, size_ranges
from lib.report.errors import KINDS
from lib.report.provenance import Provenance
from lib.report.theme import LIGHT
from tests.report.made_up import made_up_detections, made_up_truth


@pytest.fixture(scope="module")
def run() -> Analysis:
    truth = made_up_truth(1)
    detections = made_up_detections(truth, 1)
    return analyse("R-FCN", "a.txt", Provenance(), truth, detections, None, size_ranges(truth)[0])


def labels(axis):
    axis.figure.canvas.draw()
    return [label.get_text() for label in axis.get_ticklabels() if label.get_text()]


@pytest.mark.parametrize("largest", [0.0004, 0.004, 0.012, 0.03, 0.2, 0.9])
def test_ticks_of_error_costs_are_all_different_and_right(run, largest):
    fixed = {kind: run.costs.ap + largest * (i + 1) / len(KINDS) for i, kind in enumerate(KINDS)}
    costs = dataclasses.replace(run.costs, fixed=run.costs.fixed | fixed)
    axes = charts.error_costs([dataclasses.replace(run, costs=costs)], LIGHT).axes[0]
    found = labels(axes.xaxis)
    assert len(found) == len(set(found)) >= 2
    np.testing.assert_allclose([float(text) / 100 for text in found], axes.get_xticks()[: len(found)], atol=1e-9)


@pytest.mark.parametrize(("names", "rows"), [(("R-FCN", "DFF", "FGFA", "FGFA + Seq-NMS"), 1), (["long " * 6] * 4, 2)])
def test_a_legend_of_four_names_is_one_row_where_it_fits(run, names, rows):
    runs = [dataclasses.replace(run, name=name) for name in names]
    shown = charts.range_ap(runs, [own.sizes for own in runs], LIGHT)
    shown.canvas.draw()
    boxes = [text.get_window_extent() for text in shown.legends[0].get_texts()]
    assert len({round(box.y0) for box in boxes}) == rows
    assert max(box.x1 for box in boxes) <= shown.bbox.x1


def test_bins_with_few_detections_have_no_share(run):
    true, false = np.zeros((2, len(SCORE_BINS) - 1), np.int64)
    true[0], false[0] = 3, 7  # ten detections in the first pair of bins
    true[20] = 9
    true[38] = 40
    axes = charts.reliability([dataclasses.replace(run, true_scores=true, false_scores=false)], LIGHT).axes[0]
    x, y = axes.lines[1].get_data()
    np.testing.assert_allclose(x, [0.025, 0.975])
    np.testing.assert_allclose(y, [0.3, 1.0])
