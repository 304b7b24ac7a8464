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

from lib.config import Config, ConfigError, batches_per_update, to_dict
from lib.engine.interruption import StopRequest
from lib.engine.meters import RunningMeans, Stopwatch
from lib.engine.optimizer import NamingFunction, build_optimizer, load_optimizer_state
from lib.engine.run_log import Curves
from lib.engine.schedule import Schedule, schedule_from_config, updates_per_epoch
from lib.engine.snapshot import SnapshotError, SnapshotFolder, load_snapshot, load_state

_LOGGER = logging.getLogger(__name__)


@dataclass
class Training:
    """Everything of a training that is under way. Epochs and batches count from 0, updates from 1."""

    model: nn.Module
    optimizer: torch.optim.Optimizer
    schedule: Schedule
    cfg: Config
    run_dir: Path
    snapshots: SnapshotFolder
    device: torch.device
    batches_per_update: int
    updates_per_epoch: int
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

    def save(self) -> Path:
        path = self.snapshots.save(
            {
                "model": self.model.state_dict(),
                "optimizer": self.optimizer.state_dict(),
                "epoch": self.epoch,
                "batch": self.updates_in_epoch * self.batches_per_update,
                "iteration": self.update,
                "config": to_dict(self.cfg),
                "metrics": self.means.state(),
            }
        )
        self.saved_at = time.monotonic()
        return path


def prepare(
    model: nn.Module,
    cfg: Config,
    run_dir: Path,
    num_samples: int,
    original_name: NamingFunction,
    device: torch.device,
    lr_mult: Mapping[str, float] | None = None,
) -> Training:
    """A run at its beginning or, with TRAIN.RESUME, where a checkpoint left it; see `lib.engine.train.train`."""
    if cfg.TRAIN.end_epoch <= cfg.TRAIN.begin_epoch:
        raise ConfigError(
            f"'TRAIN.end_epoch' {cfg.TRAIN.end_epoch} must be above 'TRAIN.begin_epoch' {cfg.TRAIN.begin_epoch}"
        )
    per_epoch = updates_per_epoch(cfg, num_samples)
    run = Training(
        model=model,
        optimizer=build_optimizer(model, cfg, original_name, lr_mult),
        schedule=schedule_from_config(cfg, num_samples),
        cfg=cfg,
        run_dir=run_dir,
        snapshots=SnapshotFolder(run_dir, cfg.TRAIN.model_prefix or "model"),
        device=device,
        batches_per_update=batches_per_update(cfg),
        updates_per_epoch=per_epoch,
        epoch=cfg.TRAIN.begin_epoch,
        update=cfg.TRAIN.begin_epoch * per_epoch,
    )
    if not cfg.TRAIN.RESUME:
        # Left in place, one of them might pass for the newest of this run when it is resumed
        run.snapshots.set_aside()
        return run
    begin = cfg.TRAIN.begin_epoch
    path = run.snapshots.of_epoch(begin) if begin else run.snapshots.newest()
    if path is None:
        _LOGGER.info("%s: no checkpoint to resume; training begins anew", run_dir)
    else:
        _resume(run, path)
    return run


def _resume(run: Training, path: Path) -> None:
    saved = load_snapshot(path)
    expected = saved["epoch"] * run.updates_per_epoch * run.batches_per_update + saved["batch"]
    if saved["iteration"] * run.batches_per_update != expected:
        raise SnapshotError(
            f"{path}: was trained with another number of samples or of batches per update ({saved['iteration']} "
            f"updates in {saved['epoch']} epochs and {saved['batch']} batches); train anew, "
            "or with the same data, TRAIN.BATCH_IMAGES and gpus"
        )
    load_state(run.model, saved["model"], path)
    try:
        load_optimizer_state(run.optimizer, saved["optimizer"])
    except ValueError as error:
        raise SnapshotError(f"{path}: its optimiser state does not fit: {error}") from error
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
