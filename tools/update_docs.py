"""Write the parts of the documentation that are made from data: tables of results and docs/configuration.md.

A table of results stands in a Markdown file between `<!-- results: NAME -->` and `<!-- end of results -->`; its rows
are those of experiments/*/results/*.yaml whose `table` is NAME. `<!-- means: NAME -->` in place of the first makes one
row of all seeds of a method: mean, lowest and highest. docs/configuration.md is made from lib/config/keys.py.
With --check nothing is written, and the exit status is 1 where a file is out of date.

Example: python tools/update_docs.py
Example: python tools/update_docs.py --check
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from lib.command_line import run_script
from lib.config.keys import SECTIONS
from lib.config.load import keys
from lib.config.originals import IGNORED
from lib.config.values import Key
from lib.errors import InputError
from lib.evaluation.result_rows import RANGES, ResultRow, read_rows
from lib.files import read_text, write_text

ROOT = Path(__file__).resolve().parents[1]
METHODS = ("rfcn", "dff", "fgfa")  # in the order of their rows
CONFIGURATION = "docs/configuration.md"
_TABLE = re.compile(r"(<!-- (results|means): ([\w-]+) -->\n)(.*?)(<!-- end of results -->)", re.DOTALL)
_UNBOUNDED = 2**31 - 1  # the upper bound of whole numbers that have no other
_READ_OTHERWISE = {  # what lib.config.load accepts besides lib.config.originals.IGNORED
    "gpus": ("numbers", "one update sums the gradients of as many batches: it sets TRAIN.BATCHES_PER_UPDATE"),
    "network.NUM_ANCHORS": ("one number", "the number of ANCHOR_RATIOS times that of ANCHOR_SCALES"),
}
_INTRODUCTION = """\
A configuration is a YAML file (`--cfg`), changed by presets (`--preset FILE`) and by `KEY=VALUE` on the command line,
`TRAIN.lr=1e-3` for example. A key that is not given has its default; the defaults are the originals' settings for
ImageNet VID. The names are those of the originals, whose YAML files load as they are. Origin: keys that are `original`
have the originals' meaning; `ours` are additional."""


class DocsError(InputError):
    """Documentation that cannot be updated; the message names the file and what is missing."""


def results_table(rows: Sequence[ResultRow]) -> str:
    """Rows as a Markdown table, AP in per cent; columns of seed and time only where they say something."""
    seeds = len({row.seed for row in rows}) > 1
    timed = any(row.ms_per_frame is not None for row in rows)
    titles = ["method", *(["seed"] if seeds else []), *RANGES, *(["ms a frame"] if timed else [])]
    lines = [_line(titles), "|" + "---|" * len(titles)]
    for row in rows:
        means = ["-" if value is None else f"{100 * value:.1f}" for value in row.map.values()]
        speed = [] if not timed else ["" if row.ms_per_frame is None else f"{row.ms_per_frame:.1f}"]
        lines.append(_line([row.method, *([str(row.seed)] if seeds else []), *means, *speed]))
    return "\n".join(lines) + "\n"


def means_table(rows: Sequence[ResultRow]) -> str:
    """Rows that differ in their seed alone as one line of a Markdown table: mean (lowest to highest), in per cent."""
    lines = [_line(["method", "seeds", *RANGES]), "|" + "---|" * (2 + len(RANGES))]
    for method in dict.fromkeys(row.method for row in rows):
        mine = [row for row in rows if row.method == method]
        cells = [_spread([row.map[name] for row in mine]) for name in RANGES]
        lines.append(_line([method, ", ".join(str(row.seed) for row in mine), *cells]))
    return "\n".join(lines) + "\n"


def _spread(values: Sequence[float | None]) -> str:
    known = [100 * value for value in values if value is not None]
    if len(known) < len(values) or not known:
        return "-"
    return f"{sum(known) / len(known):.1f} ({min(known):.1f} to {max(known):.1f})"


def with_tables(path: Path, rows: Sequence[ResultRow]) -> str:
    """The text of a Markdown file, with its tables of results made anew. Raises DocsError."""

    def filled(found: re.Match) -> str:
        begin, form, name, _, end = found.groups()
        mine = [row for row in rows if row.table == name]
        if not mine:
            raise DocsError(f"{path}: table '{name}' has no row in experiments/*/results")
        return f"{begin}{means_table(mine) if form == 'means' else results_table(mine)}{end}"

    text = read_text(path, DocsError, "give the folder of the repository")
    if text.count("<!-- results: ") + text.count("<!-- means: ") != len(_TABLE.findall(text)):
        raise DocsError(f"{path}: a table of results without '<!-- end of results -->'")
    return _TABLE.sub(filled, text)


def configuration() -> str:
    """docs/configuration.md: every key by section, and the keys of the originals that are none here."""
    parts = [
        "# Configuration keys",
        "<!-- Made by tools/update_docs.py from lib/config/keys.py; change that file. -->",
        _INTRODUCTION,
    ]
    top = [(name, entry) for name, entry in SECTIONS.items() if isinstance(entry, Key)]
    parts.append(_section("Top level", top))
    for name, entry in SECTIONS.items():
        if not isinstance(entry, Key):
            parts.append(_section(f"`{name}`", list(keys(entry, f"{name}."))))
    parts += [
        "## Keys of the originals without a use here",
        "They are accepted in YAML files. A value that asks for something else than what this code does is an error.",
        "\n".join([_line(["key", "accepted", "reason"]), "|---|---|---|", *_originals()]),
    ]
    return "\n\n".join(parts) + "\n"


def _section(title: str, entries: Sequence[tuple[str, Key]]) -> str:
    rows = [
        _line([f"`{name}`", kind(key), f"`{_shown(key.default)}`", key.meaning, "original" if key.original else "ours"])
        for name, key in entries
    ]
    head = [_line(["key", "type and range", "default", "meaning", "origin"]), "|---|---|---|---|---|"]
    return "\n".join([f"## {title}", "", *head, *rows])


def _originals() -> Iterator[str]:
    entries = dict(_READ_OTHERWISE)
    for name, fixed in IGNORED.items():
        accepted = "any value" if fixed.implemented is None else f"`{_shown(fixed.implemented[0])}`"
        entries[name] = (accepted, fixed.reason)
    for name, (accepted, reason) in sorted(entries.items()):
        yield _line([f"`{name}`", accepted, reason])


def kind(key: Key) -> str:
    """Type and range of a key, such as "whole number, 1 to 4096"."""
    if key.choices:
        return "one of " + ", ".join(f"`{choice}`" for choice in key.choices)
    if key.item is not None:
        least, most = key.length or (0, _UNBOUNDED)
        return f"list of {_bounds(least, most)}, each a {kind(key.item)}"
    words = {bool: "true or false", int: "whole number", float: "number", str: "text"}[type(key.default)]
    if key.above is not None:
        return f"{words}, above {key.above:g}" + (f", up to {key.most:g}" if key.most is not None else "")
    bounds = _bounds(key.least, key.most) if isinstance(key.default, (int, float)) else key.rule
    return ", ".join(filter(None, (words, bounds)))


def _bounds(least: float | None, most: float | None) -> str:
    low, high = ("" if value is None else f"{value:.12g}" for value in (least, None if most == _UNBOUNDED else most))
    if low and high:
        return low if low == high else f"{low} to {high}"
    return f"from {low}" if low else f"up to {high}" if high else ""


def _shown(value: object) -> str:
    """A value as YAML has it."""
    if isinstance(value, bool):
        return str(value).lower()
    return '""' if value == "" else str(value)


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def updated(root: Path) -> dict[Path, str]:
    """Every file that is made, or has a part that is made, and its text: README files and docs. Raises InputError."""
    rows = read_rows(root / "experiments", METHODS)
    pages = (root / "README.md", *sorted(root.glob("*/README.md")), *sorted((root / "docs").glob("*.md")))
    texts = {path: with_tables(path, rows) for path in pages}
    shown = {name for text in texts.values() for _, _, name, _, _ in _TABLE.findall(text)}
    if lost := sorted({row.table for row in rows if row.table} - shown):
        raise DocsError(f"{root}: no file has a table '{lost[0]}', which rows in experiments/*/results belong to")
    return texts | {root / CONFIGURATION: configuration()}


def parse_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="write nothing; exit with status 1 for an outdated file")
    parser.add_argument("--root", type=Path, default=ROOT, metavar="DIR", help="default: the repository of this tool")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    """0, or 1 where --check finds an outdated file. Raises InputError."""
    args = parse_arguments(arguments)
    outdated = [
        (path, text)
        for path, text in updated(args.root).items()
        if not path.is_file() or path.read_text(encoding="utf-8") != text
    ]
    for path, text in outdated:
        if args.check:
            print(f"{path}: out of date; run tools/update_docs.py")
        else:
            write_text(path, text)
            print(f"{path}: written")
    return 1 if outdated and args.check else 0


if __name__ == "__main__":
    run_script(main)
