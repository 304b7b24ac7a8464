"""Colours of the report and matplotlib's style, for a light and a dark page. A run has one colour everywhere."""

from __future__ import annotations

import io
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import dataclass

import matplotlib
from matplotlib import font_manager
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

_FONTS = ("Inter", "Helvetica Neue", "Arial", "Liberation Sans", "DejaVu Sans")
_DPI = 192  # twice what the page shows, for fine screens and paper
POINTS = 0.75  # points in a pixel of the page


@dataclass(frozen=True)
class Theme:
    """Colours of one page. runs: of the first, second, ... run; also different in lightness."""

    name: str
    page: str
    ink: str
    quiet: str
    line: str
    good: str
    bad: str
    runs: tuple[str, ...]

    def run(self, index: int) -> str:
        return self.runs[index % len(self.runs)]


LIGHT = Theme(
    "light",
    page="#ffffff",
    ink="#1c2430",
    quiet="#667080",
    line="#dfe3e9",
    good="#23805a",
    bad="#b8432f",
    runs=("#2b63b0", "#e08a2e", "#1f8f83", "#8d5bb5", "#b23a63", "#6d7a2f"),
)
DARK = Theme(
    "dark",
    page="#161a21",
    ink="#e6e9ee",
    quiet="#98a2b0",
    line="#2e3541",
    good="#5fc596",
    bad="#f0836c",
    runs=("#74a7f0", "#f2ad5c", "#55c7b8", "#c49be6", "#ee86a8", "#bccb6e"),
)
THEMES = (LIGHT, DARK)


@contextmanager
def drawing_style(theme: Theme):
    """Set matplotlib's style to the page's for the block."""
    known = {font.name for font in font_manager.fontManager.ttflist}
    settings = {
        "font.family": next((name for name in _FONTS if name in known), "sans-serif"),
        "font.size": 11.5 * POINTS,
        "text.color": theme.ink,
        "axes.labelcolor": theme.quiet,
        "axes.titlesize": 12 * POINTS,
        "axes.titleweight": "bold",
        "axes.titlelocation": "left",
        "axes.titlecolor": theme.ink,
        "axes.facecolor": theme.page,
        "axes.edgecolor": theme.line,
        "axes.linewidth": 0.8,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.axisbelow": True,
        "axes.grid": True,
        "grid.color": theme.line,
        "grid.linewidth": 0.6,
        "xtick.color": theme.line,
        "ytick.color": theme.line,
        "xtick.labelcolor": theme.quiet,
        "ytick.labelcolor": theme.quiet,
        "xtick.major.size": 0,
        "ytick.major.size": 0,
        "figure.facecolor": theme.page,
        "savefig.facecolor": theme.page,
        "legend.frameon": False,
        "text.parse_math": False,  # a dollar in a run's name is a dollar
    }
    with matplotlib.rc_context(settings):
        yield


def figure(width: float, height: float) -> Figure:
    """An empty figure of that many pixels on the page, laid out so that nothing is cut off."""
    made = Figure(figsize=(width / 96, height / 96), dpi=_DPI, layout="constrained")
    FigureCanvasAgg(made)
    return made


def render(draw: Callable[[Theme], Figure]) -> dict[str, bytes]:
    """The PNG that `draw` makes in each of `THEMES`, by the theme's name."""
    pictures = {}
    for theme in THEMES:
        with drawing_style(theme):
            file = io.BytesIO()
            draw(theme).savefig(file, format="png")
        pictures[theme.name] = file.getvalue()
    return pictures
