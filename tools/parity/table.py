"""The printed table of a comparison."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby

import torch

from tools.parity.rows import Row, worst

_MOST_FAILURES = 9  # of a set, beside its worst; --verbose shows all
_HEADER = ("set", "arrays", "worst of them", "max abs", "max rel", "tolerance", "")


def table(rows: Sequence[Row], verbose: bool = False) -> str:
    """One line for each set, with its worst array and those that fail; all of them if `verbose`. Then the sum."""
    lines = [_HEADER]
    for name, group in groupby(rows, key=lambda row: row.set):
        own = list(group)
        first = worst(own)
        lines.append((name, str(len(own)), *_cells(first)))
        others = [row for row in own if row is not first and (verbose or not row.passed)]
        shown = others if verbose else others[:_MOST_FAILURES]
        lines += [("", "", *_cells(row)) for row in shown]
        if len(shown) < len(others):
            lines.append(("", "", f"and {len(others) - len(shown)} more that fail", "", "", "", ""))
    widths = [max(len(line[column]) for line in lines) for column in range(len(_HEADER) - 1)]
    text = [
        "  ".join(f"{cell:<{width}}" for cell, width in zip(line, [*widths, 0], strict=True)).rstrip() for line in lines
    ]
    failed = sum(not row.passed for row in rows)
    summary = f"{len(rows)} arrays of {len({row.set for row in rows})} sets: "
    summary += f"{failed} FAILED" if failed else "all within their tolerances"
    return "\n".join([*text, f"{summary} (torch {torch.__version__}, {torch.get_num_threads()} threads)"])


def _cells(row: Row) -> tuple[str, str, str, str, str]:
    limit = "exact" if row.tolerance == 0 else f"{row.tolerance:.1e} {row.measure}"
    end = ("ok" if row.passed else "FAILED") + (f": {row.note}" if row.note else "")
    return row.array, _number(row.max_abs), _number(row.max_rel), limit, end


def _number(value: float | None) -> str:
    return "-" if value is None else "0" if value == 0 else f"{value:.1e}"
