"""The one training loop: any model with `losses(batch, rng)`, one device, resumable at every update."""

from __future__ import annotations

import logging
import math
import signal
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path

import torch
from torch import Tensor, nn
from tqdm import tqdm

from lib.config import Config
from lib.engine.checkpoint import Identity
from lib.engine.meters import RunningMeans
from lib.engine.non_finite import stop_if_not_finite
from lib.engine.optimizer import set_learning_rate
from lib.engine.run_log import Curves, log_environment, open_log
from lib.engine.seeding import batch_rng, seed_everything, update_seed
from lib.engine.training_state import Training, prepare
from lib.errors import InputError

_LOGGER = logging.getLogger(__name__)

LoaderOf = Callable[[int, int], Iterable]  # (epoch from 0, batches of it to leave out) -> the batches that follow


def train(
    model: nn.Module,
    loader_of: LoaderOf,
    cfg: Config,
    run_dir: str | Path,
    *,
    num_samples: int,
    device: torch.device | str = "cpu",
    lr_mult: Mapping[str, float] | None = None,
    identity: Identity | None = None,
    after_epoch: Callable[[int], Mapping[str, float]] | None = None,
    resume_hint: str = "TRAIN.RESUME=true",
) -> Path:
    """Train `model` as `cfg.TRAIN` says and return the checkpoint of the last epoch, `<model_prefix>-<epoch>.pth`.

    model: has `losses(batch, rng) -> dict` of scalars; the sum of those whose name ends in `_loss` is minimised, the
    others are metrics. `rng` is a numpy RandomState that depends on the seed and on the place in the training only.
    loader_of(epoch, start_batch): the batches of that epoch, the first `start_batch` left out, always in the same
    order for the same epoch. A batch has `len` and `.to(device)`.
    num_samples: training samples of an epoch, flipped copies included. One update sums the gradients of as many
    batches as TRAIN.BATCHES_PER_UPDATE says, as the originals' GPUs did; a tail that does not fill an update is not
    used. lr_mult: original parameter name -> multiple of the learning rate. identity: written into the checkpoints.
    after_epoch(epochs done) -> scalars to log, a held-out accuracy for example. resume_hint: what an interrupted
    user is told to add to the command.

    Writes train.log, tensorboard/ and the checkpoints into `run_dir`. With TRAIN.RESUME it goes on from the newest
    checkpoint there (with TRAIN.begin_epoch = n: from the one of epoch n), on the CPU bit for bit as if it had never
    stopped; a training that was complete is left as it is. Without it, checkpoints found there are set aside.
    SIGINT, SIGTERM and SIGHUP: the update is finished or left out, a checkpoint saved, and SystemExit(128 + signal)
    raised. An InputError of the loader, such as an unreadable image: a checkpoint is saved and the error raised.
    Raises NonFiniteError, ConfigError, CheckpointError.
    """
    run_dir = Path(run_dir)
    device = torch.device(device)
    with open_log(run_dir / "train.log"):
        seed_everything(cfg.TRAIN.SEED, deterministic=device.type == "cpu")
        run = prepare(model.to(device), cfg, run_dir, num_samples, device, lr_mult, identity)
        last = run.checkpoints.of_epoch(cfg.TRAIN.end_epoch)
        if run.epoch >= cfg.TRAIN.end_epoch:
            _LOGGER.info("%s: all %d epochs are done; nothing to train", last, cfg.TRAIN.end_epoch)
            return last
        log_environment(cfg, device)
        run.curves = Curves(run_dir / "tensorboard", first_step=run.update + 1)
        try:
            with run.stop:
                while run.epoch < cfg.TRAIN.end_epoch:
                    if not _train_epoch(run, loader_of, resume_hint):
                        break
                    _finish_epoch(run, after_epoch)
                if run.stop.signal_number is not None:
                    _leave(run, f"stopped by {signal.Signals(run.stop.signal_number).name}", resume_hint)
                    raise SystemExit(128 + run.stop.signal_number)
        finally:
            run.curves.close()
    return last


def _train_epoch(run: Training, loader_of: LoaderOf, resume_hint: str) -> bool:
    """From where `run` is to the end of the epoch; False when a signal asks to stop before it."""
    cfg = run.cfg
    run.model.train()
    torch.manual_seed(update_seed(cfg.TRAIN.SEED, run.update))  # the loader may draw its workers' seed
    batches = iter(loader_of(run.epoch, run.updates_in_epoch * run.batches_per_update))
    run.stopwatch.restart()
    with tqdm(
        total=run.updates_per_epoch,
        initial=run.updates_in_epoch,
        desc=f"epoch {run.epoch + 1}/{cfg.TRAIN.end_epoch}",
        unit="update",
        mininterval=0.5 if sys.stderr.isatty() else 10,
        dynamic_ncols=True,
    ) as bar:
        while run.updates_in_epoch < run.updates_per_epoch:
            try:
                group = _next_group(run, batches)
            except InputError:
                if run.update:
                    _leave(run, "stopped by the error below", resume_hint)
                raise
            if group is None:
                return False
            values = _update(run, group)
            bar.set_postfix(loss=f"{values['loss']:.4g}", lr=f"{values['lr']:.3g}", refresh=False)
            bar.update()
            _report(run, values)
            minutes = (time.monotonic() - run.saved_at) / 60
            if run.updates_in_epoch < run.updates_per_epoch and minutes >= (cfg.TRAIN.CHECKPOINT_MINUTES or math.inf):
                run.save()
    return True


def _next_group(run: Training, batches: Iterator) -> list | None:
    """The batches of one update, or None when a signal asks to stop: what was fetched for it is read again later."""
    group: list = []
    while len(group) < run.batches_per_update:
        if run.stop.signal_number is not None:
            return None
        with run.stopwatch.waiting():
            batch = next(batches, None)
        if batch is None:
            raise RuntimeError(
                f"the loader ended after {run.updates_in_epoch * run.batches_per_update + len(group)} batches of epoch "
                f"{run.epoch}; {run.updates_per_epoch * run.batches_per_update} were to come"
            )
        group.append(batch)
    return group


def _update(run: Training, group: list) -> dict[str, float]:
    """One update from the summed gradients of `group`; returns the mean of each term, the loss and the rate."""
    seed, number = run.cfg.TRAIN.SEED, run.update + 1
    lr = run.schedule(number)
    set_learning_rate(run.optimizer, lr)
    run.optimizer.zero_grad(set_to_none=True)
    torch.manual_seed(update_seed(seed, number))  # dropout and the like: the same after a resume
    terms: list[Tensor] = []
    for i, batch in enumerate(group):
        losses = run.model.losses(batch.to(run.device), batch_rng(seed, number, i))
        names = list(losses)
        parts = [losses[name] for name in names if name.endswith("_loss")]
        if not parts:
            raise ValueError(f"the model's losses have no name that ends in '_loss': {names}")
        torch.stack(parts).sum().backward()
        terms.append(torch.stack([torch.as_tensor(losses[name], device=run.device).detach().float() for name in names]))
        run.stopwatch.count(len(batch))
    gradients = [p.grad for g in run.optimizer.param_groups for p in g["params"] if p.grad is not None]
    norm = nn.utils.get_total_norm(gradients, foreach=True)
    rows = torch.stack(terms).tolist()  # (batches, terms); the only place of an update that waits for the device
    stop_if_not_finite(run, group, names, rows, float(norm))
    if run.cfg.TRAIN.CLIP_GRADIENT > 0:
        trained = [p for g in run.optimizer.param_groups for p in g["params"]]
        nn.utils.clip_grads_with_norm_(trained, run.cfg.TRAIN.CLIP_GRADIENT, norm, foreach=True)
    run.optimizer.step()
    run.update = number
    values = {name: sum(column) / len(rows) for name, column in zip(names, zip(*rows, strict=True), strict=True)}
    run.means.add(values)
    total = sum(value for name, value in values.items() if name.endswith("_loss"))
    return values | {"loss": total, "lr": lr, "gradient_norm": float(norm)}


def _report(run: Training, values: Mapping[str, float]) -> None:
    """Every `default.frequent` updates: a line with the means since the epoch's beginning, and TensorBoard's points."""
    if run.updates_in_epoch % run.cfg.default.frequent and run.updates_in_epoch != run.updates_per_epoch:
        return
    speed, waiting = run.stopwatch.samples_per_second(), run.stopwatch.waiting_share()
    _LOGGER.info(
        "epoch %.3f  update %d/%d  lr %.3g  %.2f samples/s (%.0f%% waiting for data)  %s",
        run.update / run.updates_per_epoch,
        run.updates_in_epoch,
        run.updates_per_epoch,
        values["lr"],
        speed,
        100 * waiting,
        "  ".join(f"{name} {mean:.4f}" for name, mean in run.means.means().items()),
    )
    run.curves.add({f"train/{name}": value for name, value in values.items()}, run.update)
    run.curves.add({"time/samples_per_second": speed, "time/waiting_for_data": waiting}, run.update)
    run.stopwatch.restart()


def _finish_epoch(run: Training, after_epoch: Callable[[int], Mapping[str, float]] | None) -> None:
    run.epoch += 1
    run.means = RunningMeans()
    path = run.save()
    _LOGGER.info("epoch %d done: %s", run.epoch, path)
    if after_epoch is not None:
        found = after_epoch(run.epoch)
        _LOGGER.info("after epoch %d: %s", run.epoch, "  ".join(f"{name} {v:.4f}" for name, v in found.items()))
        run.curves.add({f"held_out/{name}": value for name, value in found.items()}, run.update)


def _leave(run: Training, why: str, resume_hint: str) -> None:
    """Between two updates: save where the training is, and say how to go on."""
    finished = run.checkpoints.of_epoch(run.epoch)
    path = run.save() if run.updates_in_epoch or not finished.is_file() else finished
    _LOGGER.info(
        "%s after %d updates (epoch %.3f), saved %s; to go on, run the same command with %s",
        why,
        run.update,
        run.update / run.updates_per_epoch,
        path,
        resume_hint,
    )
