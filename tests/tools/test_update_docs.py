"""tools/update_docs.py: README, docs and the data that they are made from agree; outdated files are named."""

import re
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from lib.config import load_config
from lib.config.keys import SECTIONS
from lib.config.load import keys
from lib.config.originals import IGNORED
from lib.config.values import choice, entries, flag, integer, number, text
from lib.errors import InputError
from lib.evaluation.result_rows import RANGES, ResultRow, RowError, read_row, read_rows, write_row
from tools import update_docs as tool

ROOT = Path(__file__).resolve().parents[2]
ROW = ResultRow(
    method="FGFA | all",
    table="mine",
    config="configs/fgfa/a.yaml",
    commit="123456789012",
    seed=3,
    map={"all": 0.12345, "slow": None, "medium": 1.0, "fast": 0.0},
    ms_per_frame=12.34,
    weights_sha256="ab12",
    note="50 % quieter: “yes”",
)


def test_the_repository_is_up_to_date():
    assert tool.main(["--check"]) == 0


def test_every_key_is_documented_once():
    lines = (ROOT / tool.CONFIGURATION).read_text(encoding="utf-8").splitlines()
    first = [match[1] for line in lines if (match := re.match(r"\| `([\w.]+)` \|", line))]
    own = [name for name, _ in keys(SECTIONS)]
    assert first[: len(own)] == own
    assert set(first[len(own) :]) == set(IGNORED) | {"gpus", "network.NUM_ANCHORS"}


def test_the_originals_keys_are_accepted_with_the_values_that_are_documented(tmp_path):
    lines = (ROOT / tool.CONFIGURATION).read_text(encoding="utf-8").partition("without a use here")[2].splitlines()
    rows = [re.match(r"\| `([\w.]+)` \| `?(.*?)`? \|", line) for line in lines]
    values = {row[1]: row[2] for row in rows if row}
    special = {"any value": "17", "numbers": "'0,1'", "one number": "9"}
    for name, value in values.items():
        override = special.get(value, value)
        load_config(None, [f"{name}={override}"])
        if value not in special:
            with pytest.raises(InputError, match=name.replace(".", r"\.")):
                load_config(None, [f"{name}=17"])
    assert len(values) > 10


@pytest.mark.parametrize(
    ("key", "words"),
    [
        (flag(True, ""), "true or false"),
        (integer(1, ""), "whole number, from 0"),
        (integer(1, "", least=1, most=9), "whole number, 1 to 9"),
        (number(1.0, ""), "number"),
        (number(1.0, "", above=0.0), "number, above 0"),
        (number(1.0, "", above=0.0, most=2.0), "number, above 0, up to 2"),
        (number(1.0, "", most=0.5), "number, up to 0.5"),
        (text("", ""), "text"),
        (choice("a", ("a", "b"), ""), "one of `a`, `b`"),
        (entries([1.0] * 4, number(1.0, "", least=0.0), (4, 4), ""), "list of 4, each a number, from 0"),
        (entries([1.0], number(1.0, ""), (1, 64), ""), "list of 1 to 64, each a number"),
    ],
)
def test_type_and_range_in_words(key, words):
    assert tool.kind(key) == words


@pytest.fixture
def repository(tmp_path):
    """A small repository with a table of one row."""
    (tmp_path / "docs").mkdir()
    (tmp_path / "README.md").write_text("Before\n<!-- results: mine -->\nold\n<!-- end of results -->\nAfter\n")
    write_row(tmp_path / "experiments" / "fgfa" / "results" / "a.yaml", ROW)
    return tmp_path


def test_tables_are_filled_and_outdated_ones_are_named(repository, capsys):
    assert tool.main(["--root", str(repository), "--check"]) == 1
    assert f"{repository / 'README.md'}: out of date" in capsys.readouterr().out
    assert "old" in (repository / "README.md").read_text()
    assert tool.main(["--root", str(repository)]) == 0
    assert (repository / "README.md").read_text().splitlines() == [
        "Before",
        "<!-- results: mine -->",
        "| method | all | slow | medium | fast | ms a frame |",
        "|---|---|---|---|---|---|",
        r"| FGFA \| all | 12.3 | - | 100.0 | 0.0 | 12.3 |",
        "<!-- end of results -->",
        "After",
    ]
    assert tool.main(["--root", str(repository), "--check"]) == 0
    row = repository / "experiments" / "fgfa" / "results" / "a.yaml"
    row.write_text(row.read_text().replace("0.12345", "0.22"))
    assert tool.main(["--root", str(repository), "--check"]) == 1


def test_rows_stand_by_seed_then_method(repository):
    for method, name, seed in (("fgfa", "b", 0), ("rfcn", "a", 3), ("dff", "a", 0), ("rfcn", "c", 0)):
        path = repository / "experiments" / method / "results" / f"{name}.yaml"
        write_row(path, replace(ROW, method=f"{method} {name} {seed}", seed=seed))
    rows = read_rows(repository / "experiments", tool.METHODS)
    assert [row.method for row in rows] == ["rfcn c 0", "dff a 0", "fgfa b 0", "rfcn a 3", "FGFA | all"]
    table = tool.results_table([replace(row, ms_per_frame=None) for row in rows])
    assert table.splitlines()[0] == "| method | seed | all | slow | medium | fast |"


def test_the_mean_over_seeds_stands_with_lowest_and_highest(repository):
    folder = repository / "experiments" / "fgfa" / "results"
    other = {"all": 0.2, "slow": 0.5, "medium": 0.5, "fast": 0.015}
    write_row(folder / "b.yaml", replace(ROW, seed=4, map=other))
    write_row(folder / "c.yaml", replace(ROW, seed=5, map=other, method="DFF"))
    page = repository / "README.md"
    page.write_text("<!-- means: mine -->\n<!-- end of results -->\n")
    assert tool.main(["--root", str(repository)]) == 0
    assert page.read_text().splitlines()[1:-1] == [
        "| method | seeds | all | slow | medium | fast |",
        "|---|---|---|---|---|---|",
        r"| FGFA \| all | 3, 4 | 16.2 (12.3 to 20.0) | - | 75.0 (50.0 to 100.0) | 0.8 (0.0 to 1.5) |",
        "| DFF | 5 | 20.0 (20.0 to 20.0) | 50.0 (50.0 to 50.0) | 50.0 (50.0 to 50.0) | 1.5 (1.5 to 1.5) |",
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("<!-- results: mine -->\n", "without '<!-- end of results -->'"),
        ("<!-- results: none -->\n<!-- end of results -->", "table 'none' has no row"),
        ("no table", "no file has a table 'mine'"),
    ],
)
def test_tables_without_rows_and_rows_without_a_table(repository, text, message):
    (repository / "README.md").write_text(text)
    with pytest.raises(InputError, match=message):
        tool.main(["--root", str(repository)])
    assert (repository / "README.md").read_text() == text


def test_a_row_comes_back_as_it_was(repository):
    assert read_row(repository / "experiments" / "fgfa" / "results" / "a.yaml") == ROW


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("seed: 3", "sed: 3", "unknown key 'sed'"),
        ("method: FGFA | all", "", "'method' must be given"),
        (
            "commit: '123456789012'",
            "commit: 123456789012",
            "'commit' must be a text or null; put it in quotation marks",
        ),
        ("seed: 3", "seed: three", "'seed' must be a whole number"),
        ("fast: 0.0", "fast: 86.6", "'map.fast' must be null or a number from 0 to 1, not 86.6"),
        ("fast: 0.0", "quick: 0.0", "'map' must have the keys all, slow, medium, fast"),
        ("ms_per_frame: 12.34", "ms_per_frame: .inf", "'ms_per_frame' must be null or a number above 0"),
        ("ms_per_frame: 12.34", "ms_per_frame: 0", "'ms_per_frame' must be null or a number above 0"),
    ],
)
def test_a_row_that_cannot_be_used_is_named(repository, old, new, message):
    path = repository / "experiments" / "fgfa" / "results" / "a.yaml"
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new))
    with pytest.raises(RowError, match=rf"a\.yaml: {re.escape(message)}"):
        read_row(path)


def test_the_published_rows_name_files_that_are_there():
    rows = read_rows(ROOT / "experiments", tool.METHODS)
    assert {row.table for row in rows} == {"quickstart", "flow-bounds", "demo-detectors", "fixed-flow"}
    for row in rows:
        assert tuple(row.map) == RANGES
        load_config(ROOT / row.config, presets=[ROOT / row.preset] if row.preset else [])


def test_nothing_is_written_where_a_file_cannot_be_read(repository):
    shutil.rmtree(repository / "docs")
    (repository / "README.md").unlink()
    with pytest.raises(InputError, match=r"README\.md: cannot be read"):
        tool.main(["--root", str(repository)])
    assert not (repository / "docs").exists()
