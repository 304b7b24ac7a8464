"""The learning rate as a pure function of the number of the update."""

from __future__ import annotations

import math
from dataclasses import dataclass

from lib.config import Config, ConfigError, lr_steps


@dataclass(frozen=True)
class Schedule:
    """Learning rate of update `num_update`, which counts from 1 over all epochs (docs/rules.md, section 3).

    steps: number of the last update BEFORE each drop: the drop takes effect when num_update > step.
    kind: "step": multiplied by `factor` after each of `steps`; "linear": constant until `steps[0]` (or from the
    beginning), then linear decay that would reach 0 one update after the last; "cosine": the same with half a cosine
    wave. total: updates of the whole training; only "linear" and "cosine" use it.
    While num_update < warmup_step the rate is the constant `warmup_lr`, as in the originals.
    """

    base_lr: float
    steps: tuple[int, ...] = ()
    factor: float = 0.1
    kind: str = "step"
    total: int = 0
    warmup_lr: float = 0.0
    warmup_step: int = 0

    def __post_init__(self) -> None:
        if self.kind not in ("step", "linear", "cosine"):
            raise ValueError(f"a schedule is 'step', 'linear' or 'cosine', not {self.kind!r}")
        if list(self.steps) != sorted(self.steps):
            raise ValueError(f"the steps of a schedule must ascend, not {self.steps}")

    def __call__(self, num_update: int) -> float:
        """The learning rate of update `num_update`."""
        if num_update < self.warmup_step:
            return self.warmup_lr
        if self.kind == "step":
            rate = self.base_lr
            for step in self.steps:
                if num_update > step:
                    rate *= self.factor  # factor by factor, which rounds as the originals do
            return rate
        start = self.steps[0] if self.steps else 0
        if num_update <= start:
            return self.base_lr
        left = max(0.0, (self.total + 1 - num_update) / max(1, self.total - start))  # 1 at start + 1, falling to 0
        return self.base_lr * (left if self.kind == "linear" else 0.5 - 0.5 * math.cos(math.pi * left))


def updates_per_epoch(cfg: Config, num_samples: int) -> int:
    """Number of updates per epoch of `num_samples` training samples (flipped copies included); an incomplete last
    update is dropped.

    Raises ConfigError if the samples do not fill one update.
    """
    images = cfg.TRAIN.BATCH_IMAGES * cfg.TRAIN.BATCHES_PER_UPDATE
    if num_samples < images:
        train = cfg.TRAIN
        raise ConfigError(
            f"one update takes {images} samples (TRAIN.BATCH_IMAGES {train.BATCH_IMAGES} x TRAIN.BATCHES_PER_UPDATE "
            f"{train.BATCHES_PER_UPDATE}), but the training set has {num_samples}; lower them or add images"
        )
    return num_samples // images


def schedule_from_config(cfg: Config, num_samples: int) -> Schedule:
    """The schedule that `cfg.TRAIN` describes for a training set of `num_samples` (flipped copies included).

    An epoch in `TRAIN.lr_step` becomes update int(epoch * samples / samples per update), as in the originals, which had
    one image per GPU.
    """
    train = cfg.TRAIN
    images = train.BATCH_IMAGES * train.BATCHES_PER_UPDATE
    epochs = lr_steps(cfg)
    return Schedule(
        base_lr=train.lr * (train.BATCHES_PER_UPDATE if train.GRADIENTS == "mean" else 1),
        steps=tuple(int(epoch * num_samples / images) for epoch in epochs),
        factor=train.lr_factor,
        kind=train.LR_SCHEDULE,
        total=train.end_epoch * updates_per_epoch(cfg, num_samples),
        warmup_lr=train.warmup_lr if train.warmup else 0.0,
        warmup_step=train.warmup_step if train.warmup else 0,
    )
