"""The sections of the page, one function each: (report's subject, runs, album) -> HTML."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
from matplotlib.figure import Figure

from lib.report import charts
from lib.report.analysis import Analysis
from lib.report.clips import ReportVideo, choose_clips, clip_sheet, f1_of_videos
from lib.report.confusion import top_confusions
from lib.report.errors import KINDS, TOTALS
from lib.report.pictures import Album, Picture, figure, pair
from lib.report.tables import Cell, difference, number, per_cent, table, text, words
from lib.report.theme import Theme, render
from lib.structures import GroundTruth

_MOST_CLIPS_LISTED = 60
_FEW_CLASSES = 12  # whose confusion matrix takes half the page


@dataclass
class Subject:
    """The subject of the report.

    truth: of the evaluated frames. clips: all of the image set; `truth.videos` numbers them. image_set: its name and
    path. motion: the origin of the motion, in words. sizes: the meaning of small and large, in words. part: in words,
    if only a part of the image set was evaluated.
    """

    truth: GroundTruth
    clips: Sequence[ReportVideo]
    image_set: str
    motion: str
    sizes: str
    part: str = ""
    album: Album = field(default_factory=Album)

    @property
    def class_names(self) -> list[str]:
        return self.truth.class_names

    def chart(self, name: str, alt: str, draw: Callable[[Theme], Figure]) -> Picture:
        """The chart that `draw` makes, in the album too."""
        sizes = []

        def measured(theme: Theme) -> Figure:
            drawn = draw(theme)
            sizes.append(tuple(round(96 * side) for side in drawn.get_size_inches()))
            return drawn

        pictures = render(measured)
        return self.album.add(Picture(name, alt, pictures["light"], pictures["dark"], size=sizes[0]))


def _with_objects(runs: Sequence[Analysis]) -> np.ndarray:
    """Classes with objects, those that the first run does best on first."""
    order = np.argsort(-runs[0].ap, kind="stable")
    return order[~np.isnan(runs[0].ap[order])]


def classes(subject: Subject, runs: Sequence[Analysis]) -> str:
    """Bars of AP by class, the difference between runs, and every class's figures."""
    names, order = subject.class_names, _with_objects(runs)
    bars = subject.chart("class_ap", "Bars of AP for each class", lambda t: charts.class_ap(runs, names, order, t))
    note = "Area under the precision envelope at each point of the curve, by ImageNet VID's rules."
    left = figure(bars, note)
    if len(runs) == 1:
        return pair([left, f'<div class="fill">{_class_table(subject, runs)}</div>']) + _details(subject, runs)
    change = subject.chart(
        "class_difference",
        "Bars of the difference in AP between runs, for each class",
        lambda t: charts.class_difference(runs, names, order, t),
    )
    right = figure(change, f"AP of each further run less that of {runs[0].name}: to the right is better.")
    return pair([left, right]) + f'<div class="fill">{_class_table(subject, runs)}</div>' + _details(subject, runs)


def _class_table(subject: Subject, runs: Sequence[Analysis]) -> str:
    """AP by class: of a single run by motion too, of several with their difference from the first."""
    base, rest = runs[0], runs[1:]
    objects = base.motion[0].objects
    shown = [run.motion[0] for run in runs] if rest else base.motion
    headings = ["class", "objects", *(run.name for run in runs)] if rest else ["class", "objects"]
    headings += [f"{run.name} − {base.name}" for run in rest] or [result.range.name for result in shown]
    rows = [
        [
            words(name.replace("_", " ")),
            number(int(objects[k])),
            *(per_cent(result.ap[k]) for result in shown),
            *(difference(run.ap[k] - base.ap[k]) for run in rest),
        ]
        for k, name in enumerate(subject.class_names)
    ]
    last = [
        words("mean"),
        number(int(objects.sum())),
        *(per_cent(result.mean_ap) for result in shown),
        *(difference(run.mean_ap - base.mean_ap) for run in rest),
    ]
    return table(headings, rows, last) + "<p class=note>AP in per cent. Click a heading to sort.</p>"


def _details(subject: Subject, runs: Sequence[Analysis]) -> str:
    """A folded table for each run: AP of each class by motion and size, and the cost of each type of error."""
    parts = []
    for run in runs:
        results = [*run.motion, *run.sizes]
        shown = [result.range.name for result in run.motion] + [f"{result.range.name} size" for result in run.sizes]
        headings = ["class", *shown, *(f"−{kind}" for kind in KINDS)]
        rows = [
            [
                words(name.replace("_", " ")),
                *(per_cent(result.ap[k]) for result in results),
                *(per_cent(run.costs.of_class(kind)[k]) for kind in KINDS),
            ]
            for k, name in enumerate(subject.class_names)
        ]
        last = [
            words("mean"),
            *(per_cent(result.mean_ap) for result in results),
            *(per_cent(run.costs.mean(kind)) for kind in KINDS),
        ]
        parts.append(
            f"<details><summary>{text(run.name)}: every class by motion, size and type of error</summary>"
            f"{table(headings, rows, last)}<p class=note>AP in per cent; the last six columns are what AP would gain "
            "without this type of error.</p></details>"
        )
    return "".join(parts)


def ranges(subject: Subject, runs: Sequence[Analysis]) -> str:
    """Columns of mean AP by motion and by size."""
    by_motion = subject.chart(
        "motion_ap", "Columns of mean AP by motion", lambda t: charts.range_ap(runs, [run.motion for run in runs], t)
    )
    by_size = subject.chart(
        "size_ap", "Columns of mean AP by size", lambda t: charts.range_ap(runs, [run.sizes for run in runs], t)
    )
    rule = "Motion IoU, the mean IoU of an object with itself up to ten frames away: slow from 0.9, fast up to 0.7"
    known = f"{rule}. Motion {subject.motion}." if len(runs[0].motion) > 1 else f"Motion is {subject.motion}."
    return pair(
        [
            figure(by_motion, known),
            figure(
                by_size, f"By the area of the object: {subject.sizes}. The mean is over the classes that have such."
            ),
        ]
    )


def curves(subject: Subject, runs: Sequence[Analysis]) -> str:
    """Precision and recall: the mean curve, one panel for each class, and the reliability of scores."""
    names, order = subject.class_names, _with_objects(runs)
    mean = subject.chart("mean_curve", "Mean precision against recall", lambda t: charts.mean_curve(runs, t))
    trust = subject.chart("reliability", "Share of correct detections by score", lambda t: charts.reliability(runs, t))
    each = subject.chart(
        "class_curves",
        "Precision against recall for each class",
        lambda t: charts.class_curves(runs, names, order, t),
    )
    return pair(
        [
            figure(
                mean,
                "The best precision at this recall or a higher one, mean over the classes; beside the name "
                "the mean AP, the area below.",
            ),
            figure(
                trust,
                "Share of correct detections by score. On the dashed line scores are calibrated; above it they are too "
                "low, below it too high. Bins of fewer than 10 detections are left out.",
            ),
        ]
    ) + figure(each, "The same for each class, best first. A curve ends at the recall that its run reaches.", wide=True)


def errors(subject: Subject, runs: Sequence[Analysis]) -> str:
    """The cost and the number of each type of error."""
    costs = subject.chart("error_costs", "Mean AP that each type of error costs", lambda t: charts.error_costs(runs, t))
    headings = ["type of error", *(f"{run.name}: {what}" for run in runs for what in ("AP cost", "number"))]
    rows = []
    for place, kind in enumerate((*KINDS, *TOTALS)):
        cells = [words(kind)]
        for run in runs:
            count = number(int(run.errors[place])) if place < len(KINDS) else words("")
            cells += [per_cent(run.costs.mean(kind)), Cell(count.html, count.value)]
        rows.append(cells)
    counted = (
        f'<div class="fill">{table(headings, rows)}</div><p class=note>AP cost: points by which mean AP would rise if '
        "errors of this type alone were fixed; costs do not add up. Number: at the score threshold of the best F1.</p>"
    )
    note = "AP gained by fixing each type of error alone, at all scores; the longest bar has the most to gain."
    return pair([figure(costs, note), _error_terms()]) + counted


_ERROR_TERMS = (
    (
        "correct",
        "takes a free object of its class and reaches its threshold: an IoU of 0.5, for an object of w by h "
        "pixels at most w h / ((w + 10) (h + 10)). Higher-scoring detections match first.",
    ),
    (
        "localisation",
        "has an IoU of 0.1 or more with an object of its class, and reaches none of them. Fixed: it finds that object.",
    ),
    ("classification", "reaches an object of another class. Fixed: it gets that class and finds the object."),
    ("duplicate", "reaches an object of its class that a higher-scoring detection has found. Fixed: it is removed."),
    ("background", "has an IoU of at most 0.1 with every object. Fixed: it is removed."),
    ("both", "any other: near an object of another class, with wrong class and wrong box. Fixed: it is removed."),
    (
        "missed",
        "an object that no detection finds and that is not the object of a localisation or classification error. "
        "Fixed: it no longer counts. A class without any object left has an AP of 100.",
    ),
)


def _error_terms() -> str:
    terms = "".join(f"<dt>{text(term)}</dt><dd>{text(meaning)}</dd>" for term, meaning in _ERROR_TERMS)
    return (
        f"<dl class=terms>{terms}</dl><p class=note>The first type that fits, in TIDE's order (Bolya et al., 2020). "
        "Where several errors would find the same object, the highest-scoring one does and the others are removed.</p>"
    )


def confusion(subject: Subject, runs: Sequence[Analysis]) -> str:
    """A heat map for each run, and the most frequent mistakes between two classes."""
    names = subject.class_names
    parts = []
    for i, run in enumerate(runs):
        picture = subject.chart(
            f"confusion_{i + 1}",
            f"Confusion matrix of {run.name}",
            lambda t, run=run, i=i: charts.confusion(run.confusion, names, t.run(i), t),
        )
        left, right = figure(picture, wide=len(names) > _FEW_CLASSES), _top_confusions(run, names)
        parts.append(
            f"<h3>{text(run.name)}</h3>" + (left + right if len(names) > _FEW_CLASSES else pair([left, right]))
        )
    note = (
        "<p class=note>Rows: true class; columns: detected class, in per cent of the row's objects. Matched by place "
        "alone, highest scores first, at the score threshold of the best F1. The last column: objects without a "
        "detection; the last row: detections without an object, in per cent of all such.</p>"
    )
    return note + "".join(parts)


def _top_confusions(run: Analysis, names: Sequence[str]) -> str:
    found = top_confusions(run.confusion, 10)
    if not found:
        return "<p class=note>No class is confused with another.</p>"
    rows = [
        [words(names[row].replace("_", " ")), words(names[column].replace("_", " ")), number(count), per_cent(share)]
        for row, column, count, share in found
    ]
    listed = table(["is", "detected as", "number", "% of its objects"], rows)
    return f"<p class=note>Most frequent mistakes between classes</p>{listed}"


def scores(subject: Subject, runs: Sequence[Analysis]) -> str:
    """Histograms of the scores of correct and of false detections, one for each run."""
    parts = []
    for i, run in enumerate(runs):
        picture = subject.chart(
            f"scores_{i + 1}",
            f"Scores of correct and false detections of {run.name}",
            lambda t, run=run, i=i: charts.score_histogram(run, i, t),
        )
        parts.append(figure(picture))
    note = (
        "<p class=note>Number of detections by score, on a logarithmic scale: correct ones in colour, false ones grey. "
        "The less the two overlap, the better a threshold separates them.</p>"
    )
    return note + pair(parts)


def clips(subject: Subject, runs: Sequence[Analysis]) -> str:
    """Pictures of the worst and best clips, of those where the runs differ, and a table of clips."""
    parts, drawn, absent = [], 0, 0
    first_frames = np.searchsorted(subject.truth.videos, np.arange(len(subject.clips)))
    for choice in choose_clips(runs):
        parts.append(f"<h3>{text(choice.heading)}</h3><p class=note>{text(choice.meaning)}</p>")
        for v in choice.videos:
            clip, first = subject.clips[v], int(first_frames[v])
            sheet, problem = clip_sheet(clip, runs, subject.truth, first)
            f1 = ", ".join(f"{run.name} {per_cent(f1_of_videos(run.videos)[v]).html}" for run in runs)
            caption = f"{clip.name}, {len(clip.images)} frames. F1, %: {f1}"
            if sheet is None:
                absent += 1
                parts.append(f"<p>{text(caption)}<br><span class=note>{text(problem)}</span></p>")
                continue
            drawn += 1
            picture = subject.album.add(Picture(f"clip_{drawn}", f"Frames of {clip.name}", sheet, kind="jpeg"))
            parts.append(figure(picture, caption, wide=True))
    note = (
        "<p class=note>F1 = 2 correct / (2 correct + false + not found), of detections at the score threshold. In the "
        "pictures objects are dashed and white, correct detections green, false ones red with the kind of their "
        "error.</p>"
    )
    missing = f"<p class=note>{absent} clips without a picture.</p>" if absent else ""
    return note + missing + "".join(parts) + _clip_table(subject, runs)


def _clip_table(subject: Subject, runs: Sequence[Analysis]) -> str:
    f1 = np.stack([f1_of_videos(run.videos) for run in runs])
    known = np.flatnonzero(~np.isnan(f1).all(axis=0))
    ranked = known[np.argsort(np.nanmean(f1[:, known], axis=0), kind="stable")][:_MOST_CLIPS_LISTED]
    headings = ["clip", "frames"]
    headings += [f"{run.name}: {what}" for run in runs for what in ("F1, %", "correct", "false", "not found")]
    rows = []
    for v in ranked.tolist():
        cells = [words(subject.clips[v].name), number(len(subject.clips[v].images))]
        for run, own in zip(runs, f1, strict=True):
            cells += [per_cent(own[v]), *(number(int(count)) for count in run.videos[v])]
        rows.append(cells)
    many = f"the {len(rows)} worst of {len(known)} clips" if len(rows) < len(known) else f"all {len(rows)} clips"
    return f"<details><summary>Figures of {many}</summary>{table(headings, rows)}</details>"
