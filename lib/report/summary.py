"""The top of the page: a tile for each run, the main findings, and a table of the runs."""

from __future__ import annotations

from collections.abc import Sequence

from lib.report.analysis import Analysis
from lib.report.findings import findings
from lib.report.sections import Subject
from lib.report.tables import Cell, number, per_cent, table, text, words


def summary(subject: Subject, runs: Sequence[Analysis]) -> str:
    """A tile for each run, the main findings, and where each run comes from."""
    tiles = "".join(_tile(run, i) for i, run in enumerate(runs))
    said = "".join(f"<li>{text(sentence)}</li>" for sentence in findings(runs, subject.class_names))
    return (
        f'<div class="tiles">{tiles}</div>'
        f"<h3>Main findings</h3><ul class=findings>{said or '<li>No class has objects: there is no AP.</li>'}</ul>"
        f"{_runs_table(runs)}"
    )


def _tile(run: Analysis, index: int) -> str:
    ms = run.provenance.ms_per_frame
    facts = [(result.range.name, per_cent(result.mean_ap).html) for result in run.motion[1:]]
    how = "in turns" if run.provenance.in_turns else "its own test"  # which may have had the machine for itself or not
    facts += [(f"ms a frame, {how}", f"{ms:.1f}")] if ms is not None else []
    listed = "".join(f"<div><dt>{text(name)}</dt><dd>{value}</dd></div>" for name, value in facts)
    share = f"<p class=note>{100 * run.done:.0f} % of the image set done</p>" if run.done < 1 else ""
    return (
        f'<div class="tile" style="--run:var(--run{index % 6})"><div class="name">{text(run.name)}</div>'
        f'<div class="big">{per_cent(run.mean_ap).html}<small>mean AP, %</small></div>'
        f"{f'<dl>{listed}</dl>' if listed else ''}{share}</div>"
    )


def _runs_table(runs: Sequence[Analysis]) -> str:
    partial = any(run.done < 1 for run in runs)
    headings = ["run", "configuration", "commit", "seed", "detections", "frames with any"]
    headings += [*(["done, %"] if partial else []), "threshold*", "precision, %", "recall, %", "F1, %"]
    rows = []
    for i, run in enumerate(runs):
        known, point = run.provenance, run.point
        rows.append(
            [
                _named(run, i),
                words(known.config, "wrap"),
                words(known.commit),
                words(known.seed),
                number(run.detections),
                number(run.frames_found),
                *([per_cent(run.done)] if partial else []),
                number(point.score, ".2f"),
                *map(per_cent, (point.precision, point.recall, point.f1)),
            ]
        )
    files = "".join(f"<dt>{text(run.name)}</dt><dd><code>{text(run.file)}</code></dd>" for run in runs)
    return (
        f'<div class="fill">{table(headings, rows)}</div>'
        f"<details><summary>Results files</summary><dl class=terms>{files}</dl></details>"
        "<p class=note>* The score threshold with the best F1, all classes together. Counts, the confusion matrix and "
        "the clips are of detections that reach it; AP needs no threshold.</p>"
    )


def _named(run: Analysis, index: int) -> Cell:
    return Cell(
        f'<span class="dot" style="--run:var(--run{index % 6})"></span>{text(run.name)}', run.name, numeric=False
    )
