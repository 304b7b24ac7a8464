"""docs/rules.md: citations name sections that it has, and what it names itself, files and keys, exists."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from lib.config import default_config

ROOT = Path(__file__).resolve().parents[1]
RULES = ROOT / "docs" / "rules.md"
TEXT = RULES.read_text(encoding="utf-8")
SECTIONS = [int(number) for number in re.findall(r"^## (\d+)\. ", TEXT, re.MULTILINE)]

FOLDERS = ("configs", "csrc", "data", "dff", "docs", "experiments", "fgfa", "lib", "model", "rfcn", "tests", "tools")
SUFFIXES = {".py", ".pyx", ".h", ".cpp", ".cu", ".sh", ".yaml", ".toml", ".md"}
CITATION = re.compile(r"docs/rules\.md, sections? (\d+(?:(?:, | and | to )\d+)*)")


def _texts() -> dict[str, str]:
    """Name -> text of the sources and documents, each in one line, so that a citation may be wrapped.

    Of data/ and model/ only what git keeps there, their README; this file quotes wrong citations.
    """
    paths = [path for folder in FOLDERS if folder not in ("data", "model") for path in (ROOT / folder).rglob("*")]
    paths += [*ROOT.glob("*"), ROOT / "data" / "README.md", ROOT / "model" / "README.md"]
    wanted = (path for path in sorted(paths) if path.suffix in SUFFIXES and path != Path(__file__).resolve())
    return {str(path.relative_to(ROOT)): one_line(path.read_text(encoding="utf-8")) for path in wanted}


def one_line(text: str) -> str:
    """`text` without its line breaks and the comment signs after them."""
    return re.sub(r"\s*\n\s*(?:#+|//+)?\s*", " ", text)


def cited_sections(text: str) -> list[int]:
    """The sections of docs/rules.md that `text`, in one line, cites; of a range its ends."""
    return [int(number) for numbers in CITATION.findall(text) for number in re.findall(r"\d+", numbers)]


def cites_a_spec(text: str) -> bool:
    return re.search(r"\bspec\.? sections?\b", text, re.IGNORECASE) is not None


TEXTS = _texts()


def test_sections_are_numbered_from_1_to_8():
    assert list(range(1, 9)) == SECTIONS


def test_sources_were_found():
    assert {"lib/boxes.py", "lib/evaluation/_seq_nms.pyx", "csrc/nms.h", "docs/architecture.md"} <= TEXTS.keys()


def test_nothing_cites_a_spec():
    assert [name for name, text in TEXTS.items() if cites_a_spec(text)] == []


def test_cited_sections_exist():
    cited = {name: cited_sections(text) for name, text in TEXTS.items()}
    assert sum(map(len, cited.values())) >= 40
    assert {name: numbers for name, numbers in cited.items() if not set(numbers) <= set(SECTIONS)} == {}


@pytest.mark.parametrize(
    ("text", "sections"),
    [
        ("(docs/rules.md, section 2)", [2]),
        ("docs/rules.md, sections 3 and 6.", [3, 6]),
        ("docs/rules.md, sections 1 to 3", [1, 3]),
        ("docs/rules.md, section 1; R-FCN paper, section 9", [1]),
        ("    # by docs/rules.md,\n    # section 12, in float64", [12]),
        ("// see docs/rules.md, section\n// 4", [4]),
        ("docs/rules.md", []),
    ],
)
def test_citations_are_read(text, sections):
    assert cited_sections(one_line(text)) == sections


@pytest.mark.parametrize("text", ["(spec section 2)", "Spec sections 1 to 3", "# as in spec\n    # section 5"])
def test_a_spec_is_noticed(text):
    assert cites_a_spec(one_line(text))
    assert not cites_a_spec("inspect section 2 of the specification, docs/rules.md, section 2")


@pytest.mark.parametrize("path", sorted(set(re.findall(rf"`((?:{'|'.join(FOLDERS)})/[\w./-]+)", TEXT))))
def test_files_that_the_rules_name_exist(path):
    assert (ROOT / path).exists()


@pytest.mark.parametrize("target", sorted(set(re.findall(r"\]\(([^)#:]+)\)", TEXT))))
def test_files_that_the_rules_link_to_exist(target):
    assert (RULES.parent / target).exists()


@pytest.mark.parametrize("key", sorted(set(re.findall(r"`((?:default|network|dataset|TRAIN|TEST)\.\w+)`", TEXT))))
def test_keys_that_the_rules_name_exist(key):
    section, name = key.split(".")
    assert name in default_config()[section]
