"""The picture of accuracy against time per frame, as in the papers' figures: one line for each way to detect."""

from __future__ import annotations

import io
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from matplotlib.axes import Axes
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from lib.errors import InputError
from lib.report.theme import LIGHT, POINTS, drawing_style, figure

PANELS = {"all": "mAP of all objects (%)", "fast": "mAP of fast objects (%)"}
_MARKERS = "osD^vP*X"


@dataclass(frozen=True)
class Point:
    """One setting of a method, measured with one trained model or more.

    curve: the line that it belongs to. label: what is written beside it. values: its configuration values.
    weights: SHA-256 of each model's file. maps: for each model the mean AP from 0 to 1 by range of motion, None where
    there is no object. ms_per_frame: for each model. frames_per_key_frame: for each model, None without key frames.
    """

    curve: str
    label: str
    values: tuple[str, ...]
    weights: tuple[str, ...]
    maps: tuple[Mapping[str, float | None], ...]
    ms_per_frame: tuple[float, ...]
    frames_per_key_frame: tuple[float, ...] | None = None

    @property
    def ms(self) -> float:
        """Milliseconds per frame, the mean over the models."""
        return statistics.fmean(self.ms_per_frame)

    def mean_ap(self, motion: str) -> float | None:
        """Mean AP in per cent, the mean over the models; None where no model has one."""
        known = self._known(motion)
        return statistics.fmean(known) if known else None

    def reach(self, motion: str) -> tuple[float, float]:
        """How far below and above `mean_ap` the single models lie."""
        known = self._known(motion)
        return statistics.fmean(known) - min(known), max(known) - statistics.fmean(known)

    def _known(self, motion: str) -> list[float]:
        return [100 * each[motion] for each in self.maps if each[motion] is not None]

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @staticmethod
    def of_json(row: Any, path: str) -> Point:
        """What `to_json` gave, from the file `path`. Raises InputError."""
        try:
            keys = row["frames_per_key_frame"]
            return Point(
                str(row["curve"]),
                str(row["label"]),
                tuple(row["values"]),
                tuple(row["weights"]),
                tuple({name: each[name] for name in PANELS} | dict(each) for each in row["maps"]),
                tuple(float(ms) for ms in row["ms_per_frame"]),
                None if keys is None else tuple(float(number) for number in keys),
            )
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise InputError(f"{path}: not what tools/speed_accuracy.py --json wrote ({error!r})") from error


def draw_speed_accuracy(points: Sequence[Point], title: str, suffix: str = "png") -> bytes:
    """A picture with one panel for each of `PANELS`: mean AP over milliseconds per frame on a logarithmic axis.

    Points of one curve are joined in the order given; bars show the range over several models. suffix: "png", "svg" or
    "pdf".
    """
    curves: dict[str, list[Point]] = {}
    for point in points:
        curves.setdefault(point.curve, []).append(point)
    with drawing_style(LIGHT):
        made = figure(1180, 600)
        for axes, (motion, name) in zip(made.subplots(1, len(PANELS)), PANELS.items(), strict=True):
            for number, (curve, of_curve) in enumerate(curves.items()):
                colour = LIGHT.run(number) if number < len(LIGHT.runs) else LIGHT.ink
                _draw_curve(axes, of_curve, motion, colour, _MARKERS[number % len(_MARKERS)], curve)
            axes.set_title(name)
            axes.set_xlabel("ms per frame (logarithmic)")
            _label_times(axes, [point.ms for point in points])
        handles, names = made.axes[0].get_legend_handles_labels()
        made.legend(handles, names, loc="outside lower center", ncols=4)
        made.suptitle(title, fontsize=12 * POINTS, color=LIGHT.quiet, x=0.01, ha="left")
        file = io.BytesIO()
        made.savefig(file, format=suffix)
    return file.getvalue()


def _draw_curve(axes: Axes, points: Sequence[Point], motion: str, colour: str, marker: str, name: str) -> None:
    known = [point for point in points if point.mean_ap(motion) is not None]
    times, heights = [point.ms for point in known], [point.mean_ap(motion) for point in known]
    bars = [list(side) for side in zip(*(point.reach(motion) for point in known), strict=True)]
    several = any(len(point.maps) > 1 for point in known)
    axes.errorbar(
        times,
        heights,
        yerr=bars if several else None,
        color=colour,
        marker=marker,
        markersize=4.5,
        linewidth=1.4,
        elinewidth=0.7,
        capsize=0,
        label=name,
    )
    for point, time, height in zip(known, times, heights, strict=True):
        axes.annotate(
            point.label, (time, height), (3, -9), textcoords="offset points", fontsize=8.5 * POINTS, color=colour
        )


def _label_times(axes: Axes, times: Sequence[float]) -> None:
    """A logarithmic axis with round numbers from 1, 1.5, 2, 3, 5, 7 and their multiples by ten."""
    axes.set_xscale("log")
    low, high = min(times) / 1.08, max(times) * 1.12
    steps = [step * 10**power for power in range(-3, 6) for step in (1, 1.5, 2, 3, 5, 7)]
    axes.xaxis.set_major_locator(FixedLocator([step for step in steps if low <= step <= high]))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.set_xlim(low, high)
