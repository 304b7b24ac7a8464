"""Train a detector: build its batches and its validation, and record what the run was made with."""

from __future__ import annotations

from pathlib import Path

from lib.data.classes import Classes
from lib.data.loader import ReadingRule, TrainingLoader, TrainingSet
from lib.engine.provenance import provenance
from lib.engine.run import Run
from lib.engine.train import train
from lib.engine.validation import Validation
from lib.files import write_json
from lib.models.video_model import VideoModel


def train_detector(run: Run, model: VideoModel, data: TrainingSet, classes: Classes, folder: Path) -> Path:
    """Train `model` on `data` according to the run's configuration, in `folder`; returns the last checkpoint.

    The files that the validation needs are opened before the first update. run.json in the folder has what is needed to
    repeat the run: command, configuration, code, versions, classes, lists and the number of processes.
    """
    cfg, processes = run.cfg, run.processes
    validation = None
    if cfg.TRAIN.VALIDATE_EPOCHS:
        with processes.main_first():
            validation = Validation(run, classes)
    reading = ReadingRule.from_config(cfg, pin=run.device.type == "cuda")
    if processes.is_main:
        record = provenance(cfg, run.device) | {
            "method": run.method.name,
            "classes": list(classes.names),
            "training_entries": len(data),
            "lists": data.roidb.digests,
            "processes": processes.size,
        }
        write_json(folder / "run.json", record)
    return train(
        model,
        TrainingLoader(data, reading, share=(processes.rank, processes.size)),
        cfg,
        folder,
        num_samples=len(data),
        device=run.device,
        processes=processes,
        lr_mult=model.lr_mult,
        identity=run.identify(classes),
        validate=validation,
    )
