"""docs/robustness.md names tests that exist, and every kind of hostile input."""

from __future__ import annotations

import re
from pathlib import Path

from tools.fuzzing.kinds import KINDS

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "robustness.md").read_text(encoding="utf-8")


def test_the_tests_that_it_names_are_there():
    named = re.findall(r"`(tests/[\w/]+\.py)::(test_\w+)`", PAGE)
    assert len(named) > 30
    sources = {path: (ROOT / path).read_text(encoding="utf-8") for path, _ in named}
    assert [f"{path}::{name}" for path, name in named if f"def {name}(" not in sources[path]] == []


def test_its_table_has_every_kind_and_adds_up():
    rows = re.findall(r"^\| `?(\w+)`? \| .+? \| ([\d,]+) \| ([\d,]+) \| ([\d,]+) \| ([\d,]+) \|$", PAGE, re.MULTILINE)
    counts = {kind: [int(number.replace(",", "")) for number in numbers] for kind, *numbers in rows}
    total = counts.pop("all")
    assert counts.keys() == KINDS.keys()
    assert [sum(column) for column in zip(*counts.values(), strict=True)] == total
    assert all(inputs == sum(rest) for inputs, *rest in counts.values())
