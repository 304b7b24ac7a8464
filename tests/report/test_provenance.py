"""What is known of a run, from files that the engine itself wrote."""

import json
import logging
import os

import torch
from lib.engine.infer import InferenceTiming

from lib.config import load_config
from lib.engine.run_log import commit, log_environment, open_log
from lib.report.provenance import Provenance, find_provenance


def test_reads_what_the_scripts_leave(tmp_path, monkeypatch):
    monkeypatch.setattr(logging.getLogger(), "handlers", [])
    results = tmp_path / "resnet_small" / "VID_val_videos" / "detections.txt"
    results.parent.mkdir(parents=True)
    timing = InferenceTiming(frames=40, waiting=1.0, computing=0.5)
    (results.parent / "timing.json").write_text(json.dumps(timing.to_json()))
    for folder, seeds, age in (("VID_train", (3, 7), 0), ("VID_train_older", (9,), 1000)):
        log = tmp_path / "resnet_small" / folder / "train.log"
        for seed in seeds:  # the run was resumed: its last words count
            with open_log(log):
                log_environment(load_config(None, [f"TRAIN.SEED={seed}"]), torch.device("cpu"))
        os.utime(log, (log.stat().st_atime, log.stat().st_mtime - age))
    assert find_provenance(results) == Provenance("resnet_small", commit(), 7, 12.5)


def test_nothing_beside_the_results(tmp_path):
    assert find_provenance(tmp_path / "a" / "b" / "detections.txt") == Provenance()
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "a" / "b" / "timing.json").write_text("{}")
    assert find_provenance(tmp_path / "a" / "b" / "detections.txt") == Provenance(config="a")
