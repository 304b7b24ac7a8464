"""The report's charts: each takes the runs' analyses and a theme, and returns a matplotlib figure."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap, to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.ticker import FuncFormatter, MaxNLocator

from lib.evaluation.mean_ap import RangeResult
from lib.report.analysis import RECALLS, SCORE_BINS, Analysis
from lib.report.errors import KINDS
from lib.report.theme import POINTS, Theme, figure

HALF, FULL = 560, 1144  # pixels of the page
_FEWEST_IN_A_BIN = 10  # detections whose share of correct ones says something
_LEGEND_LETTERS = 80  # in one row above a chart of half the page


def _tick(value: float, _: int) -> str:
    """A share in per cent, with as many digits as tell neighbouring ticks apart."""
    return f"{round(100 * value, 6):g}"


_PER_CENT = FuncFormatter(_tick)


def class_ap(runs: Sequence[Analysis], class_names: Sequence[str], order: np.ndarray, theme: Theme) -> Figure:
    """Bars of AP, one group of bars for each class that has objects, in `order`."""
    return _bars_by_class(runs, [run.ap for run in runs], class_names, order, theme, "AP (%)", (0, 1.0))


def class_difference(runs: Sequence[Analysis], class_names: Sequence[str], order: np.ndarray, theme: Theme) -> Figure:
    """Bars of the difference in AP of each further run from the first."""
    values = [run.ap - runs[0].ap for run in runs[1:]]
    largest = max(0.02, float(np.nanmax(np.abs(values), initial=0.0)))
    limits = (-1.3 * largest, 1.3 * largest)
    shown = _bars_by_class(
        runs, [None, *values], class_names, order, theme, "difference in AP (points)", limits, "+.1f"
    )
    shown.axes[0].axvline(0, color=theme.quiet, linewidth=0.8)
    return shown


def _bars_by_class(
    runs: Sequence[Analysis],
    values: Sequence[np.ndarray | None],
    class_names: Sequence[str],
    order: np.ndarray,
    theme: Theme,
    label: str,
    limits: tuple[float, float],
    form: str = ".1f",
) -> Figure:
    drawn = [i for i, value in enumerate(values) if value is not None]
    group = 24 if len(runs) == 1 else 12 * len(runs) + 9  # the same for APs and differences: the charts stand abreast
    thickness = min(15, (group - 9) / len(drawn))
    shown = figure(HALF, max(160, group * len(order) + 80))
    axes = shown.add_subplot()
    y = np.arange(len(order), dtype=float)
    for place, i in enumerate(drawn):
        at = y + (place - (len(drawn) - 1) / 2) * thickness / group
        widths = values[i][order]
        axes.barh(at, widths, height=0.86 * thickness / group, color=theme.run(i))
        for height, width in zip(at, widths, strict=True):
            left = width < 0
            offset = (-3 if left else 3, -0.3)
            axes.annotate(
                format(100 * width, form),
                (width, height),
                offset,
                textcoords="offset points",
                ha="right" if left else "left",
                va="center",
                fontsize=10 * POINTS,
                color=theme.quiet,
            )
    axes.set_yticks(y, [class_names[k].replace("_", " ") for k in order])
    axes.tick_params(axis="y", labelcolor=theme.ink)
    axes.set_ylim(len(order) - 0.4, -0.6)
    axes.set_xlim(limits[0], limits[1] * (1.08 if limits[0] == 0 else 1))
    axes.xaxis.set_major_formatter(_PER_CENT)
    axes.xaxis.set_major_locator(MaxNLocator(6))
    axes.set_xlabel(label)
    axes.grid(axis="y", visible=False)
    axes.spines[["left", "bottom"]].set_visible(False)
    if len(runs) > 1:
        _legend(shown, [(runs[i].name, theme.run(i)) for i in drawn], theme)
    return shown


def range_ap(runs: Sequence[Analysis], results: Sequence[Sequence[RangeResult]], theme: Theme) -> Figure:
    """Columns of mean AP, a group for each range. results: of each run, the same ranges."""
    shown = figure(HALF, 300)
    axes = shown.add_subplot()
    x = np.arange(len(results[0]), dtype=float)
    width = min(0.32, (0.8 if len(runs) < 4 else 0.88) / len(runs))
    font = 10.5 if len(runs) < 4 else 8.5  # so that the numbers of neighbouring columns stay apart
    for i, own in enumerate(results):
        at = x + (i - (len(runs) - 1) / 2) * width
        heights = np.array([result.mean_ap for result in own])
        axes.bar(at, heights, 0.9 * width, color=theme.run(i))
        for place, height in zip(at, heights, strict=True):
            text = "no objects" if math.isnan(height) else f"{100 * height:.1f}"
            base = (place, 0 if math.isnan(height) else height)
            style = {"ha": "center", "fontsize": font * POINTS, "color": theme.ink}
            axes.annotate(text, base, (0, 2.5), textcoords="offset points", **style)
    objects = [int(result.objects.sum()) for result in results[0]]
    names = [f"{result.range.name}\n{count:,} objects" for result, count in zip(results[0], objects, strict=True)]
    axes.set_xticks(x, names)
    axes.tick_params(axis="x", labelcolor=theme.ink)
    axes.set_xlim(-0.6, len(x) - 0.4)
    axes.set_ylim(0, 1.0)
    axes.yaxis.set_major_formatter(_PER_CENT)
    axes.set_ylabel("mean AP (%)")
    axes.grid(axis="x", visible=False)
    axes.spines["left"].set_visible(False)
    _run_legend(shown, runs, theme)
    return shown


def mean_curve(runs: Sequence[Analysis], theme: Theme) -> Figure:
    """Precision against recall, the mean over classes, a line for each run."""
    shown = figure(HALF, 380)
    axes = shown.add_subplot()
    for i, run in enumerate(runs):
        axes.plot(RECALLS, run.mean_precision(), color=theme.run(i), linewidth=1.8)
    _unit_axes(axes, "recall (%)", "precision (%), mean over classes")
    _legend(shown, [(f"{run.name}  {_per_cent(run.mean_ap)}", theme.run(i)) for i, run in enumerate(runs)], theme)
    return shown


def class_curves(runs: Sequence[Analysis], class_names: Sequence[str], order: np.ndarray, theme: Theme) -> Figure:
    """Precision against recall in a small panel for each class in `order`."""
    columns = min(6, max(1, len(order)))
    rows = max(1, -(-len(order) // columns))
    shown = figure(FULL, 60 + rows * 172)
    panels = np.atleast_1d(shown.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)).ravel()
    for panel, k in zip(panels, order, strict=False):
        for i, run in enumerate(runs):
            reached = run.precision[k] > 0
            panel.plot(RECALLS[reached], run.precision[k][reached], color=theme.run(i), linewidth=1.4)
        aps = " / ".join(_per_cent(run.ap[k]) for run in runs) if len(runs) <= 3 else _per_cent(runs[0].ap[k])
        panel.set_title(class_names[k].replace("_", " "), pad=14)
        panel.text(
            0, 1.02, f"AP {aps}", transform=panel.transAxes, va="bottom", fontsize=10 * POINTS, color=theme.quiet
        )
        _unit_axes(panel, "", "")
    for panel in panels[len(order) :]:
        panel.set_visible(False)
    for panel in panels[max(0, len(order) - columns) : len(order)]:  # the lowest of each column
        panel.tick_params(labelbottom=True)
    shown.supxlabel("recall (%)", fontsize=11 * POINTS, color=theme.quiet)
    shown.supylabel("precision (%)", fontsize=11 * POINTS, color=theme.quiet)
    _run_legend(shown, runs, theme)
    return shown


def error_costs(runs: Sequence[Analysis], theme: Theme) -> Figure:
    """Bars of the mean AP that each type of error costs."""
    thickness = 18 if len(runs) == 1 else 13
    group = thickness * len(runs) + 14
    shown = figure(HALF, group * len(KINDS) + 90)
    axes = shown.add_subplot()
    y = np.arange(len(KINDS), dtype=float)
    largest = 0.01
    for i, run in enumerate(runs):
        at = y + (i - (len(runs) - 1) / 2) * thickness / group
        values = np.nan_to_num([run.costs.mean(kind) for kind in KINDS])
        largest = max(largest, float(values.max()))
        axes.barh(at, values, height=0.86 * thickness / group, color=theme.run(i))
        for height, value in zip(at, values, strict=True):
            style = {"va": "center", "fontsize": 10.5 * POINTS, "color": theme.quiet}
            axes.annotate(f"{100 * value:.1f}", (max(value, 0), height), (3, -0.3), textcoords="offset points", **style)
    axes.set_yticks(y, KINDS)
    axes.tick_params(axis="y", labelcolor=theme.ink)
    axes.set_ylim(len(KINDS) - 0.4, -0.6)
    axes.set_xlim(0, 1.14 * largest)
    axes.xaxis.set_major_formatter(_PER_CENT)
    axes.xaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 5, 10], integer=False, min_n_ticks=2))
    axes.set_xlabel("mean AP that this type of error costs (points)")
    axes.grid(axis="y", visible=False)
    axes.spines[["left", "bottom"]].set_visible(False)
    _run_legend(shown, runs, theme)
    return shown


def confusion(matrix: np.ndarray, class_names: Sequence[str], colour: str, theme: Theme) -> Figure:
    """(K + 1, K + 1) counts as a heat map; shares of each row, the last row is of stray detections."""
    names = [name.replace("_", " ") for name in class_names]
    cell = 40 if len(names) <= 12 else 30
    side = cell * len(matrix) + 150
    shown = figure(max(HALF, side), max(HALF, side) - 40)
    axes = shown.add_subplot()
    shares = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
    colours = LinearSegmentedColormap.from_list("", [theme.page, colour])
    axes.imshow(shares, cmap=colours, vmin=0, vmax=1, aspect="auto", interpolation="nearest")
    for (row, column), share in np.ndenumerate(shares):
        if round(100 * share) >= 1:
            ink = _readable(colours(share), theme)
            style = {"ha": "center", "va": "center", "fontsize": (10 if cell == 40 else 8) * POINTS, "color": ink}
            axes.text(column, row, f"{100 * share:.0f}", **style)
    ticks = np.arange(len(matrix))
    axes.set_xticks(ticks, [*names, "missed"], rotation=45, ha="left", rotation_mode="anchor")
    axes.set_yticks(ticks, [*names, "background"])
    axes.xaxis.tick_top()
    axes.xaxis.set_label_position("top")
    axes.tick_params(labelcolor=theme.ink, labelsize=10 * POINTS)
    axes.set_xlabel("detected class")
    axes.set_ylabel("true class")
    axes.grid(visible=False)
    axes.spines[:].set_visible(False)
    edge = len(names) - 0.5
    axes.axhline(edge, color=theme.quiet, linewidth=0.8)
    axes.axvline(edge, color=theme.quiet, linewidth=0.8)
    return shown


def score_histogram(run: Analysis, index: int, theme: Theme) -> Figure:
    """Numbers of correct and of other detections by score, on a logarithmic scale, with the operating point."""
    shown = figure(HALF, 300)
    axes = shown.add_subplot()
    style = {"edges": SCORE_BINS, "baseline": 0.7}
    axes.stairs(np.maximum(run.false_scores, 0.7), fill=True, color=theme.quiet, alpha=0.35, **style)
    axes.stairs(np.maximum(run.true_scores, 0.7), fill=True, color=theme.run(index), alpha=0.55, **style)
    axes.stairs(np.maximum(run.true_scores, 0.7), color=theme.run(index), linewidth=1.4, **style)
    axes.stairs(np.maximum(run.false_scores, 0.7), color=theme.quiet, linewidth=1.2, **style)
    axes.set_yscale("log")
    axes.set_ylim(0.7, 2.5 * max(10, run.true_scores.max(), run.false_scores.max()))
    axes.set_xlim(0, 1)
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    axes.tick_params(axis="y", which="minor", left=False)
    axes.grid(axis="x", visible=False)
    axes.set_xlabel("score")
    axes.set_ylabel("detections")
    if not math.isnan(run.point.score):
        axes.axvline(run.point.score, color=theme.ink, linewidth=1, linestyle=(0, (4, 3)))
        right = run.point.score > 0.6
        axes.annotate(
            f"best F1 at {run.point.score:.2f}",
            (run.point.score, 0.97),
            (-5 if right else 5, 0),
            xycoords=("data", "axes fraction"),
            textcoords="offset points",
            ha="right" if right else "left",
            va="top",
            color=theme.ink,
            fontsize=10.5 * POINTS,
        )
    _legend(shown, [(f"{run.name}: correct", theme.run(index)), ("false", theme.quiet)], theme)
    return shown


def reliability(runs: Sequence[Analysis], theme: Theme) -> Figure:
    """Share of correct detections by score; on the diagonal the scores are calibrated."""
    shown = figure(HALF, 380)
    axes = shown.add_subplot()
    axes.plot([0, 1], [0, 1], color=theme.line, linewidth=1.2, linestyle=(0, (4, 3)))
    for i, run in enumerate(runs):
        # Pairs of bins: single ones are too few to be smooth
        true, total = (x.reshape(-1, 2).sum(axis=1) for x in (run.true_scores, run.true_scores + run.false_scores))
        centres = (SCORE_BINS[:-1:2] + SCORE_BINS[2::2]) / 2
        known = total >= _FEWEST_IN_A_BIN
        share = true[known] / total[known]
        axes.plot(centres[known], share, color=theme.run(i), linewidth=1.6, marker="o", markersize=3)
    _unit_axes(axes, "score", "correct (%)")
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    _legend(shown, [(run.name, theme.run(i)) for i, run in enumerate(runs)], theme)
    return shown


def _readable(colour: tuple[float, ...], theme: Theme) -> str:
    """The ink or the page's colour, whichever has the larger contrast ratio (WCAG) to `colour`."""

    def luminance(rgb: Sequence[float]) -> float:
        linear = [value / 12.92 if value <= 0.04045 else ((value + 0.055) / 1.055) ** 2.4 for value in rgb[:3]]
        return float(np.dot(linear, (0.2126, 0.7152, 0.0722)))

    def contrast(other: str) -> float:
        low, high = sorted((luminance(colour), luminance(to_rgb(other))))
        return (high + 0.05) / (low + 0.05)

    return max((theme.ink, theme.page), key=contrast)


def _unit_axes(axes: Axes, x_label: str, y_label: str) -> None:
    axes.set_xlim(0, 1)
    axes.set_ylim(0, 1.02)
    axes.set_xticks([0, 0.25, 0.5, 0.75, 1] if x_label else [0, 0.5, 1])
    axes.set_yticks([0, 0.25, 0.5, 0.75, 1] if y_label else [0, 0.5, 1])
    axes.xaxis.set_major_formatter(_PER_CENT)
    axes.yaxis.set_major_formatter(_PER_CENT)
    axes.set_xlabel(x_label)
    axes.set_ylabel(y_label)


def _run_legend(shown: Figure, runs: Sequence[Analysis], theme: Theme) -> None:
    if len(runs) > 1:
        _legend(shown, [(run.name, theme.run(i)) for i, run in enumerate(runs)], theme)


def _legend(shown: Figure, entries: Sequence[tuple[str, str]], theme: Theme) -> None:
    """Names with a patch of their colour above the figure."""
    patches = [Patch(color=colour, linewidth=0) for _, colour in entries]
    lengths = [len(name) + 4 for name, _ in entries]
    fitting = max(1, _LEGEND_LETTERS // max(lengths))
    shown.legend(
        patches,
        [name for name, _ in entries],
        loc="outside upper left",
        ncols=len(entries) if sum(lengths) <= _LEGEND_LETTERS else fitting,
        fontsize=11 * POINTS,
        labelcolor=theme.ink,
        handlelength=0.9,
        handleheight=0.9,
        handletextpad=0.5,
        columnspacing=1.6,
        borderpad=0.2,
    )


def _per_cent(value: float) -> str:
    return "–" if math.isnan(value) else f"{100 * value:.1f}"
