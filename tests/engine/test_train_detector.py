"""The training of a detector as the script runs it: what is checked before the first update, validation, run.json."""

from __future__ import annotations

import json

import pytest
import torch

import rfcn.test
from lib.engine.checkpoint import load_checkpoint
from lib.engine.run_log import Curves
from lib.errors import InputError
from lib.version import commit
from rfcn.model import RFCN
from rfcn.train_end2end import main

SMALL = [
    "network.DEPTH=18", "network.WIDTH=8", "network.FEAT_DIM=32", "network.ANCHOR_SCALES=[2, 4]",
    "network.FIXED_PARAMS=[]", "network.NORM=trained", "SCALES=[[48, 64]]", "dataset.image_set=VID_train",
    "dataset.test_image_set=VID_val_videos", "TRAIN.BATCHES_PER_UPDATE=2", "TRAIN.end_epoch=1", "TRAIN.lr=0.001",
    "TRAIN.lr_step=''", "TRAIN.WORKERS=0", "TRAIN.model_prefix=small", "TRAIN.RPN_POST_NMS_TOP_N=60",
]  # fmt: skip


@pytest.fixture
def train(tmp_path, data):
    """A function that runs the training script; returns the folder of the run."""
    (tmp_path / "small.yaml").write_text("{}")
    places = [f"dataset.dataset_path={data}", f"dataset.root_path={tmp_path}", f"output_path={tmp_path / 'out'}"]

    def run(*more):
        main(["--cfg", str(tmp_path / "small.yaml"), "--device", "cpu", *places, *SMALL, *more])
        return tmp_path / "out" / "small" / "VID_train"

    return run


def test_run_json_says_what_is_needed_to_repeat_the_run(train):
    record = json.loads((train("TRAIN.SEED=5") / "run.json").read_text())
    assert record["method"] == "rfcn"
    assert record["classes"] == ["airplane", "bird"]
    assert record["training_entries"] == 8
    assert record["processes"] == 1
    assert record["configuration"]["TRAIN"]["SEED"] == 5
    assert record["code"]["commit"] == commit()
    assert record["machine"]["packages"]["torch"] == torch.__version__
    assert set(record["lists"]) == {"VID_train"}


def test_validation_is_the_test_of_that_checkpoint(train, tmp_path, data, monkeypatch):
    """Also in mean AP to the last bit; and it changes nothing in the training."""
    pictures = []
    monkeypatch.setattr(Curves, "add_picture", lambda self, name, image, step: pictures.append((name, image.shape)))
    folder = train("TRAIN.VALIDATE_EPOCHS=0.5", "TRAIN.VALIDATE_VIDEOS=0")
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    validated = [line for line in lines if "validation_mean_ap" in line]
    assert [line["update"] for line in validated] == [2, 4]
    assert {name for name, _ in pictures} == {f"detections/frame_{number:06d}" for number in range(3)}
    last = load_checkpoint(folder / "small-0001.pth")
    rfcn.test.main(["--weights", str(folder / "small-0001.pth"), "--device", "cpu"])
    evaluation = json.loads((folder.parent / "VID_val_videos" / "evaluation.json").read_text())
    means = {entry["name"]: entry["mean_ap"] for entry in evaluation["motion"]}
    assert validated[-1]["validation_mean_ap"] == means["all"]
    plain = load_checkpoint(train("TRAIN.VALIDATE_EPOCHS=0") / "small-0001.pth")
    assert all(torch.equal(value, plain["model"][name]) for name, value in last["model"].items())


@pytest.mark.parametrize("frame", ["VID/train/a/000002", "VID/val/b/000001"])
def test_a_broken_annotation_shows_before_the_first_update(train, data, monkeypatch, frame):
    """Of a training frame, and of a frame that only the validation reads."""
    monkeypatch.setattr(RFCN, "losses", lambda *_: pytest.fail("an update was made"))
    (data / "Annotations" / f"{frame}.xml").write_text("<annotation>")
    with pytest.raises(InputError, match=rf"{frame}\.xml"):
        train("TRAIN.VALIDATE_EPOCHS=1")
