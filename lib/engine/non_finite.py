"""Stop a training whose losses or gradients are not finite, and save the batch that caused it."""

from __future__ import annotations

import dataclasses
import logging
import math
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from lib.engine.checkpoint import save_tensors
from lib.engine.training_state import Training
from lib.errors import InputError, some_of

_LOGGER = logging.getLogger(__name__)


class NonFiniteError(InputError):
    """A loss or a gradient became infinite or NaN; the message has the losses and where the batch was saved."""


def stop_if_not_finite(run: Training, group: list, names: list[str], rows: list[list[float]], norm: float) -> None:
    """Raise NonFiniteError if a loss or gradient is not finite, and save its batch beside the checkpoints.

    group: this process's batches of the update. names: of the terms in `rows`, which has one row per batch of all
    processes. norm: of the update's gradient. In float16 the scaler handles infinite gradients.
    """
    bad = [
        i
        for i, row in enumerate(rows)
        if not all(math.isfinite(v) for name, v in zip(names, row, strict=True) if name.endswith("_loss"))
    ]
    if not bad and (math.isfinite(norm) or run.scaler.is_enabled()):
        return
    index = bad[0] if bad else 0
    owner, place = divmod(index, run.batches_each)
    path = run.run_dir / "non_finite_batch.pth"
    dumped = group[place : place + 1] if bad else group  # a gradient is that of the sum: keep all its batches
    if run.processes.rank == owner:
        _dump(run, dumped, names, rows, index, path)
    what = f"the losses {dict(zip(names, rows[index], strict=True))}"
    if not bad:
        what = f"the gradient (norm {norm}) of {_not_finite_names(run.model)}, from {what}"
    message = (
        f"update {run.update + 1} (epoch {run.update / run.updates_per_epoch:.3f}): not finite: {what}. "
        f"The batch is in {path}. Try a lower TRAIN.lr, TRAIN.warmup or TRAIN.CLIP_GRADIENT"
    )
    _LOGGER.error(message)
    raise NonFiniteError(message)


def _dump(run: Training, dumped: list, names: list[str], rows: list[list[float]], index: int, path: Path) -> None:
    save_tensors(
        {
            "batches": [_tensors_of(batch) for batch in dumped],
            "losses": [dict(zip(names, row, strict=True)) for row in rows],
            "update": run.update + 1,
            "batch_of_update": index,
        },
        path,
    )


def _not_finite_names(model: nn.Module) -> str:
    names = [n for n, p in model.named_parameters() if p.grad is not None and not bool(p.grad.isfinite().all())]
    return some_of(names, 5)


def _tensors_of(batch: Any) -> dict[str, Any]:
    """The tensors, and lists of tensors, among the fields of a batch."""
    found = {f.name: getattr(batch, f.name) for f in dataclasses.fields(batch)}
    return {
        name: value
        for name, value in found.items()
        if isinstance(value, Tensor) or (isinstance(value, list) and all(isinstance(v, Tensor) for v in value))
    }
