"""Published results as data: one YAML file for each row of a table, `experiments/<method>/results/*.yaml`."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import yaml

from lib.config.yaml_text import read_yaml
from lib.errors import InputError
from lib.files import write_text

RANGES = ("all", "slow", "medium", "fast")
_HEADER = "# A row of a table of results; tools/update_docs.py puts it into the README.\n"


class RowError(InputError):
    """A row of results that cannot be used; the message names the file and the key."""


@dataclass(frozen=True)
class ResultRow:
    """The result of one test, and what is needed to repeat it; None for what is unknown.

    method: its name in the table. table: the table that the row belongs to; "": none. config, preset: YAML files.
    commit: of the code. seed: of the training. dataset: folder name and image set. map: mean AP of all, slow, medium
    and fast objects, 0 to 1; None without objects. ms_per_frame: of computation, without reading. weights_sha256: of
    the checkpoint. note: what a reader must know.
    """

    method: str
    table: str = ""
    config: str | None = None
    preset: str | None = None
    commit: str | None = None
    seed: int | None = None
    hardware: str | None = None
    dataset: str | None = None
    map: dict[str, float | None] | None = None
    ms_per_frame: float | None = None
    weights_sha256: str | None = None
    note: str | None = None


def write_row(path: str | os.PathLike, row: ResultRow) -> None:
    """Write `row` as YAML, every number exact. Raises OutputError."""
    text = yaml.safe_dump(asdict(row), sort_keys=False, allow_unicode=True, width=110)
    write_text(path, _HEADER + text)


def read_row(path: str | os.PathLike) -> ResultRow:
    """The row in a YAML file. Raises RowError."""
    content = read_yaml(path, RowError)
    known = {field.name for field in fields(ResultRow)}
    if strangers := sorted(map(str, set(content) - known)):
        raise RowError(f"{path}: unknown key '{strangers[0]}'; known: {', '.join(sorted(known))}")
    for name, wanted in (("method", str), ("table", str), ("map", dict)):
        if not isinstance(content.get(name, "" if name == "table" else None), wanted):
            raise RowError(f"{path}: '{name}' must be given, as a {wanted.__name__}")
    for name in ("config", "preset", "commit", "hardware", "dataset", "weights_sha256", "note"):
        if not isinstance(content.get(name), (str, type(None))):
            raise RowError(f"{path}: '{name}' must be a text or null; put it in quotation marks")
    if not isinstance(content.get("seed"), (int, type(None))):
        raise RowError(f"{path}: 'seed' must be a whole number or null")
    _check_numbers(path, content)
    return ResultRow(**content)


def _check_numbers(path: str | os.PathLike, content: dict[str, Any]) -> None:
    means = content["map"]
    if tuple(means) != RANGES:
        raise RowError(f"{path}: 'map' must have the keys {', '.join(RANGES)}, in this order")
    for name, value in means.items():
        if value is not None and not (_is_number(value) and 0 <= value <= 1):
            raise RowError(f"{path}: 'map.{name}' must be null or a number from 0 to 1, not {value!r}")
    speed = content.get("ms_per_frame")
    if speed is not None and not (_is_number(speed) and 0 < speed < math.inf):
        raise RowError(f"{path}: 'ms_per_frame' must be null or a number above 0, not {speed!r}")


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def read_rows(experiments: Path, methods: Sequence[str]) -> list[ResultRow]:
    """All rows below `experiments`: by seed, then by folder in the order of `methods`, then by file name.

    Raises RowError.
    """
    rows = [
        (row.seed if row.seed is not None else -1, place, path.name, row)
        for place, method in enumerate(methods)
        for path in (experiments / method / "results").glob("*.yaml")
        for row in [read_row(path)]
    ]
    return [row for *_, row in sorted(rows, key=lambda entry: entry[:3])]
