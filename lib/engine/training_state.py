"""Where a training is, and everything it needs to go on; saved to and restored from checkpoints."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn

from lib.config import Config, to_dict
from lib.engine.checkpoint import CheckpointError, CheckpointFolder, Identity, load_checkpoint
from lib.engine.interruption import StopRequest
from lib.engine.meters import RunningMeans, Stopwatch
from lib.engine.optimizer import build_optimizer, load_optimizer_state
from lib.engine.run_log import Curves
from lib.engine.schedule import Schedule, schedule_from_config, updates_per_epoch
from lib.engine.weights import load_state

_LOGGER = logging.getLogger(__name__)


@dataclass
class Training:
    """Everything of a training that is under way. Epochs and batches count from 0, updates from 1."""

    model: nn.Module
    optimizer: torch.optim.Optimizer
    schedule: Schedule
    cfg: Config
    run_dir: Path
    checkpoints: CheckpointFolder
    device: torch.device
    updates_per_epoch: int
    identity: Identity | None = None
    epoch: int = 0
    update: int = 0  # updates made in all
    means: RunningMeans = field(default_factory=RunningMeans)
    stopwatch: Stopwatch = field(default_factory=Stopwatch)
    saved_at: float = field(default_factory=time.monotonic)
    curves: Curves | None = None
    stop: StopRequest = field(default_factory=StopRequest)

    @property
    def updates_in_epoch(self) -> int:
        return self.update - self.epoch * self.updates_per_epoch

    @property
    def batches_per_update(self) -> int:
        return self.cfg.TRAIN.BATCHES_PER_UPDATE

    def save(self) -> Path:
        path = self.checkpoints.save(
            {
                "model": self.model.state_dict(),
                "optimizer": self.optimizer.state_dict(),
                "epoch": self.epoch,
                "batch": self.updates_in_epoch * self.batches_per_update,
                "iteration": self.update,
                "config": to_dict(self.cfg),
                "metrics": self.means.state(),
                **(self.identity.to_content() if self.identity else {}),
            }
        )
        self.saved_at = time.monotonic()
        return path


def prepare(
    model: nn.Module,
    cfg: Config,
    run_dir: Path,
    num_samples: int,
    device: torch.device,
    lr_mult: Mapping[str, float] | None = None,
    identity: Identity | None = None,
) -> Training:
    """A run at its beginning or, with TRAIN.RESUME, where a checkpoint left it; see `lib.engine.train.train`."""
    per_epoch = updates_per_epoch(cfg, num_samples)
    run = Training(
        model=model,
        optimizer=build_optimizer(model, cfg, lr_mult),
        schedule=schedule_from_config(cfg, num_samples),
        cfg=cfg,
        run_dir=run_dir,
        checkpoints=CheckpointFolder(run_dir, cfg.TRAIN.model_prefix),
        device=device,
        updates_per_epoch=per_epoch,
        identity=identity,
        epoch=cfg.TRAIN.begin_epoch,
        update=cfg.TRAIN.begin_epoch * per_epoch,
    )
    if not cfg.TRAIN.RESUME:
        # Left in place, one of them might pass for the newest of this run when it is resumed
        run.checkpoints.set_aside()
        return run
    begin = cfg.TRAIN.begin_epoch
    path = run.checkpoints.of_epoch(begin) if begin else run.checkpoints.newest()
    if path is None:
        _LOGGER.info("%s: no checkpoint to resume; training begins anew", run_dir)
    else:
        _resume(run, path)
    return run


def _resume(run: Training, path: Path) -> None:
    saved = load_checkpoint(path)
    expected = saved["epoch"] * run.updates_per_epoch * run.batches_per_update + saved["batch"]
    if saved["iteration"] * run.batches_per_update != expected:
        raise CheckpointError(
            f"{path}: was trained with another number of samples or of batches per update ({saved['iteration']} "
            f"updates in {saved['epoch']} epochs and {saved['batch']} batches); train anew, "
            "or with the same data, TRAIN.BATCH_IMAGES and TRAIN.BATCHES_PER_UPDATE"
        )
    load_state(run.model, saved["model"], path)
    try:
        load_optimizer_state(run.optimizer, saved["optimizer"])
    except ValueError as error:
        raise CheckpointError(f"{path}: its optimiser state does not fit: {error}") from error
    run.epoch, run.update = saved["epoch"], saved["iteration"]
    run.means = RunningMeans(saved.get("metrics"))
    _LOGGER.info("resuming %s: epoch %.3f, %d updates done", path, run.update / run.updates_per_epoch, run.update)
    for change in _changed(saved["config"], to_dict(run.cfg)):
        _LOGGER.warning("configuration changed since that checkpoint: %s", change)


def _changed(old: Any, new: Any, key: str = "") -> list[str]:
    if isinstance(old, dict) and isinstance(new, dict):
        keys = [k for k in {**old, **new} if (key, k) not in (("TRAIN.", "RESUME"), ("TRAIN.", "begin_epoch"))]
        return [line for k in keys for line in _changed(old.get(k), new.get(k), f"{key}{k}.")]
    return [] if old == new else [f"{key[:-1]} {old!r} -> {new!r}"]
