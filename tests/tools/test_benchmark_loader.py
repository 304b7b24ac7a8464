"""The benchmark of the loader runs on a small data set, and its advice follows from the speeds."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from lib.synthetic.casting import Settings
from lib.synthetic.dataset import Plan, make_dataset
from tools import benchmark_loader as tool

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("method", ["rfcn", "fgfa"])
def test_every_number_of_readers_and_the_network_are_timed(tmp_path, capsys, method):
    make_dataset(tmp_path / "data", Plan(Settings(width=64, height=64, frames=4), 1, 1, 0))
    name = {"rfcn": "resnet_v1_18_synthetic_vid", "fgfa": "resnet_v1_18_flownet_synthetic_vid"}[method]
    out = tmp_path / "figures.json"
    sizes = ["SCALES=[[64, 64]]", "network.WIDTH=8", "network.FEAT_DIM=64", "TRAIN.BATCH_IMAGES=2"]
    places = [f"dataset.dataset_path={tmp_path / 'data'}", f"dataset.root_path={tmp_path}"]
    short = ["--most-workers", "1", "--rounds", "1", "--batches", "1", "--device", "cpu", "--json", str(out)]
    cfg = ROOT / "configs" / method / f"{name}.yaml"
    tool.main(["--cfg", str(cfg), *short, *sizes, *places, "dataset.image_set=VID_train_15frames"])
    figures = json.loads(out.read_text())
    assert list(figures["reading"]) == ["0", "1"]
    assert all(speed > 0 for speed in (*figures["reading"].values(), figures["network"]))
    assert figures["batch_images"] == 2
    printed = capsys.readouterr().out.splitlines()
    assert printed[-1].startswith(("the network limits", "reading limits"))


def test_the_fewest_readers_that_are_fast_enough_are_advised():
    assert tool.advice(10, {0: 6, 1: 8, 2: 15, 4: 30}).endswith("TRAIN.WORKERS=2")
    assert "reading limits the training to 80% of the network's speed; take TRAIN.WORKERS=1," in tool.advice(
        10, {0: 6, 1: 8, 2: 7}
    )
    assert tool.advice(10, {0: 50, 1: 40}).endswith("TRAIN.WORKERS=1"), "without one, reading waits for the network"


@pytest.mark.parametrize(("most", "numbers"), [(0, [0]), (1, [0, 1]), (6, [0, 1, 2, 4, 6]), (8, [0, 1, 2, 4, 8])])
def test_numbers_of_readers(most, numbers):
    assert tool.numbers_up_to(most) == numbers


def test_a_configuration_in_another_folder_needs_the_method(tmp_path, capsys):
    with pytest.raises(SystemExit):
        tool.main(["--cfg", str(tmp_path / "mine.yaml")])
    assert "give --method" in capsys.readouterr().err
