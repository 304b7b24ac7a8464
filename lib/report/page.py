"""The report as one HTML file that needs nothing else: pictures, style and script are inside it."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from lib.report import sections
from lib.report.analysis import Analysis
from lib.report.sections import Subject
from lib.report.style import SCRIPT, STYLE
from lib.report.tables import text

SECTIONS: tuple[tuple[str, str, Callable[[Subject, Sequence[Analysis]], str]], ...] = (
    ("classes", "Classes", sections.classes),
    ("ranges", "Motion and size", sections.ranges),
    ("curves", "Precision and recall", sections.curves),
    ("errors", "Errors", sections.errors),
    ("confusion", "Confusion", sections.confusion),
    ("scores", "Scores", sections.scores),
    ("clips", "Clips", sections.clips),
)


def make_page(
    subject: Subject, runs: Sequence[Analysis], made: str, progress: Callable[[str], None] = lambda section: None
) -> str:
    """The whole page; its pictures are in `subject.album` afterwards.

    made: when and with what, for the foot of the page. progress: called with the name of each section that is begun.
    """
    parts, links = [], ['<li><a href="#summary">Summary</a></li>']
    for anchor, heading, build in SECTIONS:
        progress(heading)
        links.append(f'<li><a href="#{anchor}">{heading}</a></li>')
        parts.append(f'<section id="{anchor}"><h2>{heading}</h2>{build(subject, runs)}</section>')
    title = _title(runs)
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{text(title)}</title>
<style>{STYLE}</style>
</head>
<body>
<header id="summary">
<h1>{text(title)}</h1>
<p class="lede">{text(_lede(subject))}</p>
{sections.summary(subject, runs)}
</header>
<nav><ul>{"".join(links)}</ul></nav>
<main>
{"".join(parts)}
</main>
<footer><section><p>{text(made)}</p></section></footer>
<script>{SCRIPT}</script>
</body>
</html>
"""


def _title(runs: Sequence[Analysis]) -> str:
    names = [run.name for run in runs]
    return f"Report on {names[0]}" if len(names) == 1 else " · ".join(names)


def _lede(subject: Subject) -> str:
    truth = subject.truth
    evaluated = len(set(truth.videos.tolist()))
    return (
        f"{subject.image_set}: {evaluated:,} clips, {truth.num_frames:,} frames, {len(truth.labels):,} objects of "
        f"{len(truth.class_names)} classes." + (f" {subject.part}" if subject.part else "")
    )
