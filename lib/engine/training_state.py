"""The state of a training: everything that it needs to continue, saved to and restored from checkpoints."""

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
from lib.data.classes import require_same_classes
from lib.engine.checkpoint import CheckpointError, CheckpointFolder, Identity, load_checkpoint
from lib.engine.distributed import Processes, batches_of_process
from lib.engine.gradients import RunningStatistics, SharedLosses
from lib.engine.interruption import StopRequest
from lib.engine.meters import RunningMeans, Stopwatch
from lib.engine.optimizer import build_optimizer, load_optimizer_state
from lib.engine.run_log import Curves, MetricsFile
from lib.engine.schedule import Schedule, schedule_from_config, updates_per_epoch
from lib.engine.weights import load_state
from lib.models.precision import set_precision

_LOGGER = logging.getLogger(__name__)


@dataclass
class Training:
    """The objects and counters of a running training. Epochs and batches count from 0, updates from 1.

    reduced: dtype of the networks' convolutions, None for float32. scaler: scales the loss in float16.
    batches_each: number of batches of an update that this process computes. best: mean AP and update of the best
    validation so far. stopped: whether one of the processes has received a signal.
    """

    model: nn.Module
    optimizer: torch.optim.Optimizer
    schedule: Schedule
    cfg: Config
    run_dir: Path
    checkpoints: CheckpointFolder
    device: torch.device
    processes: Processes
    losses: SharedLosses
    statistics: RunningStatistics
    scaler: torch.amp.GradScaler
    reduced: torch.dtype | None
    batches_each: int
    updates_per_epoch: int
    identity: Identity | None = None
    epoch: int = 0
    update: int = 0  # updates made in all
    best: dict[str, float] = field(default_factory=dict)
    skipped: int = 0  # images that could not be read, since this process began
    stopped: bool = False
    means: RunningMeans = field(default_factory=RunningMeans)
    stopwatch: Stopwatch = field(default_factory=Stopwatch)
    saved_at: float = field(default_factory=time.monotonic)
    curves: Curves | None = None
    metrics: MetricsFile | None = None
    stop: StopRequest = field(default_factory=StopRequest)

    @property
    def updates_in_epoch(self) -> int:
        return self.update - self.epoch * self.updates_per_epoch

    @property
    def updates_in_all(self) -> int:
        return self.cfg.TRAIN.end_epoch * self.updates_per_epoch

    def save(self) -> Path:
        """Write a checkpoint of the current state (in the main process only); returns its path."""
        path = self.checkpoints.path_of(self.epoch, self.updates_in_epoch)
        if self.processes.is_main:
            self.checkpoints.save(self.content())
            self.checkpoints.keep_newest(self.cfg.TRAIN.KEEP_CHECKPOINTS)
        self.saved_at = time.monotonic()
        return path

    def content(self) -> dict[str, Any]:
        """The contents of a checkpoint; see `lib.engine.checkpoint.load_checkpoint`."""
        return {
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.scaler.state_dict(),
            "epoch": self.epoch,
            "batch": self.updates_in_epoch * self.cfg.TRAIN.BATCHES_PER_UPDATE,
            "iteration": self.update,
            "config": to_dict(self.cfg),
            "metrics": self.means.state(),
            "best": self.best,
            **(self.identity.to_content() if self.identity else {}),
        }


def prepare(
    model: nn.Module,
    cfg: Config,
    run_dir: Path,
    num_samples: int,
    device: torch.device,
    processes: Processes,
    lr_mult: Mapping[str, float] | None = None,
    identity: Identity | None = None,
) -> Training:
    """A new training or, with TRAIN.RESUME, the one in the newest checkpoint; see `lib.engine.train.train`."""
    per_epoch = updates_per_epoch(cfg, num_samples)
    batches_each = batches_of_process(processes, cfg.TRAIN.BATCHES_PER_UPDATE)
    run = Training(
        model=model,
        optimizer=build_optimizer(model, cfg, lr_mult),
        schedule=schedule_from_config(cfg, num_samples),
        cfg=cfg,
        run_dir=run_dir,
        checkpoints=CheckpointFolder(run_dir, cfg.TRAIN.model_prefix),
        device=device,
        processes=processes,
        losses=SharedLosses(model, processes),
        statistics=RunningStatistics(model, processes, batches_each),
        scaler=torch.amp.GradScaler(device.type, enabled=cfg.PRECISION == "float16"),
        reduced=set_precision(cfg.PRECISION, device, training=True),
        batches_each=batches_each,
        updates_per_epoch=per_epoch,
        identity=identity,
        epoch=cfg.TRAIN.begin_epoch,
        update=cfg.TRAIN.begin_epoch * per_epoch,
    )
    run.checkpoints.refuse_others()
    # torchrun restarts all processes when one is lost: they continue from the newest checkpoint, even without RESUME
    if not cfg.TRAIN.RESUME and not processes.restarts:
        if processes.is_main:
            run.checkpoints.set_aside()
        processes.wait_for_all()
        return run
    begin = 0 if processes.restarts else cfg.TRAIN.begin_epoch
    path = run.checkpoints.of_epoch(begin) if begin else run.checkpoints.newest()
    if path is None:
        _LOGGER.info("%s: no checkpoint to resume; training begins anew", run_dir)
    else:
        _resume(run, path)
    return run


def _resume(run: Training, path: Path) -> None:
    saved = load_checkpoint(path)
    batches = run.cfg.TRAIN.BATCHES_PER_UPDATE
    expected = saved["epoch"] * run.updates_per_epoch * batches + saved["batch"]
    if saved["iteration"] * batches != expected:
        raise CheckpointError(
            f"{path}: was trained with another number of samples or of batches per update ({saved['iteration']} "
            f"updates in {saved['epoch']} epochs and {saved['batch']} batches); train anew, "
            "or with the same data, TRAIN.BATCH_IMAGES and TRAIN.BATCHES_PER_UPDATE"
        )
    identity = Identity.of_content(saved, path)
    if identity is not None and run.identity is not None:
        require_same_classes(identity.classes, str(path), run.identity.classes, "this training")
    load_state(run.model, saved["model"], path)
    try:
        load_optimizer_state(run.optimizer, saved["optimizer"])
    except ValueError as error:
        raise CheckpointError(f"{path}: its optimiser state does not fit: {error}") from error
    if saved.get("scaler") and run.scaler.is_enabled():
        run.scaler.load_state_dict(saved["scaler"])
    run.epoch, run.update = saved["epoch"], saved["iteration"]
    run.means, run.best = RunningMeans(saved.get("metrics")), dict(saved.get("best", {}))
    _LOGGER.info("resuming %s: epoch %.3f, %d updates done", path, run.update / run.updates_per_epoch, run.update)
    for change in _changed(saved["config"], to_dict(run.cfg)):
        _LOGGER.warning("configuration changed since that checkpoint: %s", change)


def _changed(old: Any, new: Any, key: str = "") -> list[str]:
    if isinstance(old, dict) and isinstance(new, dict):
        keys = [k for k in {**old, **new} if (key, k) not in (("TRAIN.", "RESUME"), ("TRAIN.", "begin_epoch"))]
        return [line for k in keys for line in _changed(old.get(k), new.get(k), f"{key}{k}.")]
    return [] if old == new else [f"{key[:-1]} {old!r} -> {new!r}"]
