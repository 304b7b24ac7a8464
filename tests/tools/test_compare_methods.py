"""Rows of tested methods: what is read, what speed is compared with, and what a file of rows keeps."""

import json

import pytest

from lib.errors import InputError
from lib.evaluation.result_rows import read_row
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
    main([*runs, "--seed", "3", "--json", str(file)])
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


def test_what_is_missing_is_named(tmp_path):
    with pytest.raises(InputError, match=r"evaluation.json: cannot be read .* run the method's test script first"):
        main([f"R-FCN={tmp_path}"])
    with pytest.raises(InputError, match="'R-FCN' is not NAME=FOLDER"):
        main(["R-FCN"])


@pytest.mark.parametrize("file", ["evaluation.json", "timing.json"])
@pytest.mark.parametrize("content", ["[]", "{}", '{"motion": [{}], "ms_per_frame": null}', "{", "[" * 100000])
def test_files_of_something_else_are_named(runs, tmp_path, file, content):
    (tmp_path / "b" / file).write_text(content)
    with pytest.raises(InputError, match=str(tmp_path / "b")):
        main(runs)


@pytest.mark.parametrize("content", ['{"rows": []}', "[1]", '[{"method": "DFF"}]', "3", "{"])
def test_a_file_of_something_else_is_left_as_it_is(runs, tmp_path, content):
    file = tmp_path / "other.json"
    file.write_text(content)
    with pytest.raises(InputError, match=r"other.json: not .*give another file|other.json: not a file of rows"):
        main([*runs, "--json", str(file)])
    assert file.read_text() == content


def test_outputs_are_checked_first(tmp_path):
    with pytest.raises(InputError, match="/dev/null: is a device"):
        main(["A=/none", "--json", "/dev/null"])


def test_rows_as_yaml_say_what_made_them(runs, tmp_path):
    path = tmp_path / "b" / "evaluation.json"
    made_with = {
        "results": "12",
        "command": "dff/test.py --cfg configs/dff/a.yaml --preset 'my presets/x.yaml' --preset=y.yaml TRAIN.SEED=4",
        "weights": {"path": "a.pth", "sha256": "ab12"},
        "configuration": {
            "TRAIN": {"SEED": 4},
            "dataset": {"dataset_path": "./data/ILSVRC2015", "test_image_set": "VID_val_videos"},
        },
        "code": {"version": "1", "commit": "0123456789ab-dirty"},
        "machine": {"gpu": None, "threads": 2, "platform": "Linux", "device": "cpu"},
    }
    path.write_text(json.dumps(json.loads(path.read_text()) | {"made_with": made_with}))
    main([*runs, "--yaml", str(tmp_path / "rows"), "--table", "mine"])
    assert sorted(p.name for p in (tmp_path / "rows").iterdir()) == ["dff_seed_4.yaml", "r_fcn_seed_0.yaml"]
    row, plain = (read_row(tmp_path / "rows" / name) for name in ("dff_seed_4.yaml", "r_fcn_seed_0.yaml"))
    assert (row.method, row.table, row.config, row.seed) == ("DFF", "mine", "configs/dff/a.yaml", 4)
    assert (row.preset, row.commit, row.weights_sha256) == ("my presets/x.yaml y.yaml", "0123456789ab-dirty", "ab12")
    assert (row.dataset, row.hardware) == ("ILSVRC2015, VID_val_videos", "CPU, 2 threads, Linux")
    assert (row.map, row.ms_per_frame) == ({"all": 0.4, "slow": 0.6, "medium": 0.3, "fast": None}, 3.0)
    assert (plain.config, plain.commit, plain.hardware, plain.weights_sha256) == (None, None, None, None)
    with pytest.raises(InputError, match="two runs have the same name and seed"):
        main([runs[0], runs[0], "--yaml", str(tmp_path / "rows")])
    with pytest.raises(SystemExit):
        main([*runs, "--table", "mine"])


@pytest.mark.parametrize("made_with", [None, [], "x", {"command": "'", "weights": 3, "configuration": {"TRAIN": 1}}])
def test_notes_of_another_form_are_as_good_as_none(runs, tmp_path, made_with):
    path = tmp_path / "b" / "evaluation.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"made_with": made_with}))
    main([*runs, "--yaml", str(tmp_path / "rows")])
    row = read_row(tmp_path / "rows" / "dff_seed_0.yaml")
    assert (row.config, row.commit, row.weights_sha256, row.dataset) == (None, None, None, None)
