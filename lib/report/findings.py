"""The main findings of a report in a few sentences."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from lib.report.analysis import Analysis
from lib.report.errors import KINDS

_NAMES = {"missed": "missed objects", "both": "detections with wrong class and box", "background": "false alarms"}


def findings(runs: Sequence[Analysis], class_names: Sequence[str]) -> list[str]:
    """Sentences, plain text; none where no class has objects."""
    if not (~np.isnan(runs[0].ap)).any():
        return []
    best = runs[int(np.argmax([run.mean_ap for run in runs]))]
    said = _comparison(runs, best, class_names) if len(runs) > 1 else []
    return [*said, _classes(best, class_names, len(runs) > 1), *_motion(best), _errors(best)]


def _comparison(runs: Sequence[Analysis], best: Analysis, class_names: Sequence[str]) -> list[str]:
    others = ", ".join(f"{run.name} {_points(run.mean_ap)}" for run in runs if run is not best)
    said = [f"{best.name} has the highest mean AP, {_points(best.mean_ap)} ({others})."]
    base = runs[0] if best is not runs[0] else max(runs[1:], key=lambda run: run.mean_ap)
    change = best.ap - base.ap
    most, least = int(np.nanargmax(change)), int(np.nanargmin(change))
    ranges = [
        f"{now.range.name} {100 * (now.mean_ap - then.mean_ap):+.1f}"
        for now, then in zip(best.motion[1:], base.motion[1:], strict=True)
        if not np.isnan(now.mean_ap)
    ]
    by_motion = f"; by motion: {', '.join(ranges)}" if ranges else ""
    said.append(
        f"Against {base.name}, points of AP: best on {_name(class_names[most])} ({_signed(change[most])}), worst on "
        f"{_name(class_names[least])} ({_signed(change[least])}){_signs(by_motion)}."
    )
    return said


def _classes(run: Analysis, class_names: Sequence[str], several: bool) -> str:
    order = [int(k) for k in np.argsort(run.ap) if not np.isnan(run.ap[k])]
    low, high = ([f"{_name(class_names[k])} {_points(run.ap[k])}" for k in part] for part in (order[:3], order[:-4:-1]))
    prefix = f"{run.name}: weakest" if several else "Weakest"
    if len(order) < 6:
        return f"{prefix} class {low[0]}, strongest {high[0]}."
    return f"{prefix} classes {', '.join(low)}; strongest {', '.join(high)}."


def _motion(run: Analysis) -> list[str]:
    known = {result.range.name: result.mean_ap for result in run.motion if not np.isnan(result.mean_ap)}
    if not {"slow", "fast"} <= set(known):
        return []
    gap = known["slow"] - known["fast"]
    way = "below" if gap >= 0 else "above"
    return [f"Fast objects: AP {_points(known['fast'])}, {abs(100 * gap):.1f} points {way} slow ones."]


def _errors(run: Analysis) -> str:
    ranked = sorted(KINDS, key=lambda kind: -run.costs.mean(kind))[:2]
    costs = [f"{_NAMES.get(kind, f'{kind} errors')} ({_points(run.costs.mean(kind))} points)" for kind in ranked]
    return f"What costs most AP: {costs[0]}, then {costs[1]}."


def _name(class_name: str) -> str:
    return class_name.replace("_", " ")


def _points(value: float) -> str:
    return f"{100 * value:.1f}"


def _signed(value: float) -> str:
    return _signs(f"{100 * value:+.1f}")


def _signs(words: str) -> str:
    return words.replace("-", "−")
