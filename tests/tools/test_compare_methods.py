"""Rows of tested methods: what is read, what speed is compared with, and what a file of rows keeps."""

import json

import pytest

from tools.compare_methods import main


def leave_run(folder, ms, **means):
    folder.mkdir()
    motion = [{"name": name, "range": [0, 1], "ap": [], "mean_ap": value} for name, value in means.items()]
    (folder / "evaluation.json").write_text(json.dumps({"motion": motion, "mean_ap": means["all"]}))
    (folder / "timing.json").write_text(json.dumps({"frames": 9, "ms_per_frame": ms, "ms_waiting_for_data": 0.1}))
    return str(folder)


@pytest.fixture
def runs(tmp_path):
    slow = leave_run(tmp_path / "a", 12.0, all=0.5, fast=0.25, medium=0.5, slow=0.75)
    quick = leave_run(tmp_path / "b", 3.0, all=0.4, fast=None, medium=0.3, slow=0.6)
    return [f"R-FCN={slow}", f"DFF={quick}"]


def test_rows_have_ap_by_motion_time_and_speed_up(runs, tmp_path, capsys):
    file = tmp_path / "out" / "results.json"
    assert main([*runs, "--seed", "3", "--json", str(file)]) == 0
    first, second = json.loads(file.read_text())
    assert first == {
        "method": "R-FCN",
        "seed": 3,
        "map": {"all": 0.5, "slow": 0.75, "medium": 0.5, "fast": 0.25},
        "ms_per_frame": 12.0,
        "speedup_over_rfcn": 1.0,
    }
    assert (second["map"]["fast"], second["speedup_over_rfcn"]) == (None, 4.0)
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert lines[0] == ["AP", "(%)", "all", "slow", "medium", "fast", "ms/frame", "speed-up"]
    assert lines[1:] == [
        ["R-FCN", "50.0", "75.0", "50.0", "25.0", "12.0", "1.00x"],
        ["DFF", "40.0", "60.0", "30.0", "-", "3.0", "4.00x"],
    ]


def test_a_file_keeps_other_seeds_and_replaces_the_same(runs, tmp_path):
    file = tmp_path / "results.json"
    for seed in ("0", "1", "0"):
        main([*runs, "--seed", seed, "--json", str(file)])
    assert [(row["method"], row["seed"]) for row in json.loads(file.read_text())] == [
        ("R-FCN", 1),
        ("DFF", 1),
        ("R-FCN", 0),
        ("DFF", 0),
    ]


def test_what_is_missing_is_named(tmp_path, capsys):
    assert main([f"R-FCN={tmp_path}"]) == 2
    assert "evaluation.json" in capsys.readouterr().err
    assert main(["R-FCN"]) == 2
    assert "NAME=FOLDER" in capsys.readouterr().err


@pytest.mark.parametrize("file", ["evaluation.json", "timing.json"])
@pytest.mark.parametrize("content", ["[]", "{}", '{"motion": [{}], "ms_per_frame": null}'])
def test_files_of_something_else_are_named(runs, tmp_path, capsys, file, content):
    (tmp_path / "b" / file).write_text(content)
    assert main(runs) == 2
    assert f"{tmp_path / 'b'}: " in capsys.readouterr().err


@pytest.mark.parametrize("content", ['{"rows": []}', "[1]", '[{"method": "DFF"}]', "3"])
def test_a_file_of_something_else_is_left_as_it_is(runs, tmp_path, capsys, content):
    file = tmp_path / "other.json"
    file.write_text(content)
    assert main([*runs, "--json", str(file)]) == 2
    assert "not a file of rows" in capsys.readouterr().err
    assert file.read_text() == content
