"""HTML tables with sortable columns, and the escaping of all text in the page."""

from __future__ import annotations

import html
import math
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Cell:
    """What a table shows and what it sorts by. html: ready for the page, so escaped. numeric: aligned to the right."""

    html: str
    value: float | str
    numeric: bool = True
    style: str = ""  # a class of the style sheet


def text(value: object) -> str:
    """`value` with what HTML would take for markup escaped; good inside attributes too."""
    return html.escape(str(value), quote=True)


def words(value: object, style: str = "") -> Cell:
    """A cell of text; a dash where there is none."""
    shown = "" if value is None else str(value)
    return Cell(text(shown) or "–", shown, numeric=False, style=style)


def number(value: float | None, form: str = ",d", style: str = "") -> Cell:
    """A cell of a number; a dash for None and NaN, which sort below all numbers."""
    if value is None or math.isnan(value):
        return Cell("–", -math.inf, style=style)
    return Cell(format(value, form).replace("-", "−"), float(value), style=style)


def per_cent(value: float, style: str = "") -> Cell:
    """A share as a percentage with one decimal."""
    return number(100 * value, ".1f", style)


def difference(value: float) -> Cell:
    """A difference of two shares in points, its sign shown and coloured where it is a tenth or more."""
    style = "" if math.isnan(value) or abs(value) < 5e-4 else "up" if value > 0 else "down"
    return number(100 * value, "+.1f", style)


def table(headings: Sequence[str], rows: Sequence[Sequence[Cell]], last: Sequence[Cell] | None = None) -> str:
    """A table; `headings` are text, `last` is a row that stays at the bottom."""
    numeric = [cell.numeric for cell in (rows[0] if rows else last or [])] or [False] * len(headings)
    head = "".join(
        f'<th scope="col"{" class=n" if right else ""}><button type="button">{text(name)}</button></th>'
        for name, right in zip(headings, numeric, strict=True)
    )
    body = "\n".join(_row(row) for row in rows)
    foot = f"<tfoot>{_row(last)}</tfoot>" if last else ""
    return f'<div class="scroll"><table><thead><tr>{head}</tr></thead>\n<tbody>{body}</tbody>{foot}</table></div>'


def _row(cells: Sequence[Cell]) -> str:
    return "<tr>" + "".join(_cell(cell) for cell in cells) + "</tr>"


def _cell(cell: Cell) -> str:
    styles = " ".join(filter(None, ("n" if cell.numeric else "", cell.style)))
    return f'<td{f""" class="{styles}" """.rstrip() if styles else ""} data-v="{text(cell.value)}">{cell.html}</td>'
