"""What is known of a run, from files that the engine itself wrote."""

import hashlib
import json
import logging
import os
import sys

import pytest
import torch

from lib.config import load_config
from lib.engine.inference import Timing
from lib.engine.provenance import provenance
from lib.engine.run_log import log_environment, open_log
from lib.evaluation.made_with import MadeWith
from lib.report.provenance import Provenance, find_provenance
from lib.version import commit


@pytest.fixture
def results(tmp_path, monkeypatch):
    """A tested run: results, timing, and the logs of two trainings, the newer one resumed with another seed."""
    monkeypatch.setattr(logging.getLogger(), "handlers", [])
    path = tmp_path / "resnet_small" / "VID_val_videos" / "detections.txt"
    path.parent.mkdir(parents=True)
    path.write_text("1 1 0.5 0 0 9 9\n")
    (path.parent / "timing.json").write_text(json.dumps(Timing(frames=40, data=1.0, net=0.4, post=0.1).to_json()))
    for folder, seeds, age in (("VID_train", (3, 7), 0), ("VID_train_older", (9,), 1000)):
        log = tmp_path / "resnet_small" / folder / "train.log"
        for seed in seeds:
            with open_log(log):
                log_environment(load_config(None, [f"TRAIN.SEED={seed}"]), torch.device("cpu"))
        os.utime(log, (log.stat().st_atime, log.stat().st_mtime - age))
    return path


def note(results, seed, **changed):
    """evaluation.json as a test leaves it."""
    noted = provenance(load_config(None, [f"TRAIN.SEED={seed}"]), torch.device("cpu"), results)
    noted |= {"results": hashlib.sha256(results.read_bytes()).hexdigest()} | changed
    (results.parent / "evaluation.json").write_text(json.dumps({"mean_ap": 0.5, "made_with": noted}))
    return noted


def test_without_a_note_the_logs_tell(results):
    assert find_provenance(results) == Provenance("resnet_small", commit(), 7, 12.5)


def test_what_the_test_noted_comes_first(results):
    note(results, 5, code={"version": "1", "commit": "0123456789ab"})
    assert find_provenance(results) == Provenance("resnet_small", "0123456789ab", 5, 12.5)
    (results.parent / "timing.json").unlink()
    for log in results.parent.parent.glob("*/train.log"):
        log.unlink()
    assert find_provenance(results) == Provenance("resnet_small", "0123456789ab", 5, None)


@pytest.mark.parametrize("change", ["other results", "no results", "no commit", "no JSON", "a list"])
def test_a_note_on_other_results_does_not_count(results, change):
    noted = note(results, 5, code={"version": "1", "commit": "0123456789ab"})
    if change == "other results":
        results.write_text("1 1 0.6 0 0 9 9\n")
    elif change == "no results":  # a run that is still going
        results.unlink()
    elif change == "no commit":
        note(results, 5, code={})
    else:
        (results.parent / "evaluation.json").write_text("{" if change == "no JSON" else "[]")
    assert noted["results"]
    assert find_provenance(results) == Provenance("resnet_small", commit(), 5 if change == "no commit" else 7, 12.5)


def test_what_the_engine_notes_is_understood(results, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["rfcn/test.py", "--cfg", "a b.yaml", "--preset", "p.yaml"])
    noted = note(results, 5)
    made = MadeWith.of_results(results)
    assert (made.config, made.presets, made.seed, made.commit) == ("a b.yaml", ("p.yaml",), 5, commit())
    assert (made.weights, made.results) == (noted["weights"]["sha256"], noted["results"])
    assert made.dataset == "ILSVRC2015, VID_val_videos"
    assert made.hardware.startswith(f"CPU, {torch.get_num_threads()} threads, ")


def test_nothing_beside_the_results(tmp_path):
    assert find_provenance(tmp_path / "a" / "b" / "detections.txt") == Provenance()
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "a" / "b" / "timing.json").write_text("{}")
    assert find_provenance(tmp_path / "a" / "b" / "detections.txt") == Provenance(config="a")
