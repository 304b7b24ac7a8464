"""The one training loop: any model with `losses(batch, rng)`, one process or several, resumable at every update."""

from __future__ import annotations

import logging
import math
import signal
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path

import torch
from torch import Tensor, nn
from tqdm import tqdm

from lib.config import Config
from lib.engine.checkpoint import Identity
from lib.engine.distributed import DistributedError, Processes, joined, loss_of_a_process
from lib.engine.memory import peak_device_gib, peak_host_gib, reset_peak
from lib.engine.meters import RunningMeans, clock_text
from lib.engine.non_finite import stop_if_not_finite
from lib.engine.optimizer import set_learning_rate
from lib.engine.run_log import Curves, MetricsFile, log_environment, open_log
from lib.engine.seeding import batch_rng, batch_seed, seed_everything
from lib.engine.training_state import Training, prepare
from lib.errors import InputError

_LOGGER = logging.getLogger(__name__)

LoaderOf = Callable[[int, int], Iterable]  # (epoch from 0, batches of it to leave out) -> the batches that follow
Validate = Callable[[Training], Mapping[str, float]]


def train(
    model: nn.Module,
    loader_of: LoaderOf,
    cfg: Config,
    run_dir: str | Path,
    *,
    num_samples: int,
    device: torch.device | str = "cpu",
    processes: Processes | None = None,
    lr_mult: Mapping[str, float] | None = None,
    identity: Identity | None = None,
    validate: Validate | None = None,
    resume_hint: str = "TRAIN.RESUME=true",
) -> Path:
    """Train `model` as `cfg.TRAIN` says and return the checkpoint of the last epoch, `<model_prefix>-<epoch>.pth`.

    model: has `losses(batch, rng) -> dict` of scalars; the sum of those whose name ends in `_loss` is minimised, the
    others are metrics. `rng` is a numpy RandomState that depends on the seed and on the place in the training only.
    loader_of(epoch, start_batch): the batches of that epoch, the first `start_batch` left out, always in the same
    order for the same epoch; with several processes, this process's share of each update. A batch has `len` and
    `.to(device)`.
    num_samples: training samples of an epoch, flipped copies included. One update sums the gradients of
    TRAIN.BATCHES_PER_UPDATE batches over all processes, as the originals' GPUs did; a tail that does not fill an update
    is not used. lr_mult: original parameter name -> multiple of the learning rate. identity: written into the
    checkpoints. validate(training) -> figures, called every TRAIN.VALIDATE_EPOCHS, or after every epoch where that is
    0; the checkpoint with the largest `mean_ap` among them is kept as `<model_prefix>-best.pth`.
    resume_hint: what an interrupted user is told to add to the command.

    Writes train.log, metrics.jsonl, tensorboard/ and the checkpoints into `run_dir`, from the main process. With
    TRAIN.RESUME it goes on from the newest checkpoint there (with TRAIN.begin_epoch = n: from the one of epoch n), on
    the CPU bit for bit as if it had never stopped; a training that was complete is left as it is. Without it, what an
    earlier training has left there is set aside.
    SIGINT, SIGTERM and SIGHUP: the update is finished or left out, a checkpoint saved, and SystemExit(128 + signal)
    raised. An InputError of the loader, such as an unreadable image or a reader process that died: a checkpoint is
    saved and the error raised; likewise where another process is lost. Raises NonFiniteError, ConfigError,
    CheckpointError, DistributedError, PrecisionError.
    """
    run_dir, device = Path(run_dir), torch.device(device)
    processes = processes or Processes()
    with ExitStack() as stack:
        stack.enter_context(joined(processes, device))
        if processes.is_main:
            stack.enter_context(open_log(run_dir / "train.log"))
        seed_everything(cfg.TRAIN.SEED, deterministic=device.type == "cpu")
        run = prepare(model.to(device), cfg, run_dir, num_samples, device, processes, lr_mult, identity)
        stack.callback(run.losses.leave)
        last = run.checkpoints.of_epoch(cfg.TRAIN.end_epoch)
        if run.epoch >= cfg.TRAIN.end_epoch:
            _LOGGER.info("%s: all %d epochs are done; nothing to train", last, cfg.TRAIN.end_epoch)
            return last
        _train(run, loader_of, validate, resume_hint)
        processes.wait_for_all()  # the last checkpoint is there for every process
    return last


def _train(run: Training, loader_of: LoaderOf, validate: Validate | None, resume_hint: str) -> None:
    """Train to the end of the last epoch, or until a signal asks to stop: save a checkpoint and raise SystemExit."""
    log_environment(run.cfg, run.device)
    _log_update_rule(run)
    reset_peak(run.device)
    with _metrics_written(run), run.stop:
        _train_epochs(run, loader_of, validate, resume_hint)
        if run.stopped:
            number = run.stop.signal_number or signal.SIGTERM  # where another process was told
            _leave(run, f"stopped by {signal.Signals(number).name}", resume_hint)
            raise SystemExit(128 + number)


@contextmanager
def _metrics_written(run: Training) -> Iterator[None]:
    """Write TensorBoard curves and metrics.jsonl during the block, from the main process."""
    if run.processes.is_main:
        run.curves = Curves(run.run_dir / "tensorboard", first_step=run.update + 1)
        run.metrics = MetricsFile(run.run_dir / "metrics.jsonl", first_update=run.update + 1)
    try:
        yield
    finally:
        for file in (run.curves, run.metrics):
            if file is not None:
                file.close()


def _train_epochs(run: Training, loader_of: LoaderOf, validate: Validate | None, resume_hint: str) -> None:
    while run.epoch < run.cfg.TRAIN.end_epoch and not run.stopped:
        if not _train_epoch(run, loader_of, validate, resume_hint):
            return
        run.epoch += 1
        run.means = RunningMeans()
        path = run.save()
        _LOGGER.info("epoch %d done: %s", run.epoch, path)


def _train_epoch(run: Training, loader_of: LoaderOf, validate: Validate | None, resume_hint: str) -> bool:
    """From where `run` is to the end of the epoch; False when a signal asks to stop before it."""
    cfg = run.cfg
    run.model.train()
    batches = iter(loader_of(run.epoch, run.updates_in_epoch * cfg.TRAIN.BATCHES_PER_UPDATE))
    run.stopwatch.restart()
    every = max(1, round((cfg.TRAIN.VALIDATE_EPOCHS or 1) * run.updates_per_epoch))
    with tqdm(
        total=run.updates_per_epoch,
        initial=run.updates_in_epoch,
        desc=f"epoch {run.epoch + 1}/{cfg.TRAIN.end_epoch}",
        unit="update",
        mininterval=0.5 if sys.stderr.isatty() else 10,
        dynamic_ncols=True,
        disable=not run.processes.is_main,
    ) as bar:
        while run.updates_in_epoch < run.updates_per_epoch:
            with _saved_at(run, InputError, resume_hint):
                group = _next_group(run, batches)
            if group is None:
                return False
            with _saved_at(run, DistributedError, resume_hint), loss_of_a_process(run.processes):
                values = _update(run, group)
            bar.set_postfix(loss=f"{values['loss']:.4g}", lr=f"{values['lr']:.3g}", refresh=False)
            bar.update()
            _report(run, values)
            if validate is not None and run.update % every == 0:
                _validate(run, validate)  # before the checkpoint, which has the best figures so far
            minutes = (time.monotonic() - run.saved_at) / 60
            if run.updates_in_epoch < run.updates_per_epoch and minutes >= (cfg.TRAIN.CHECKPOINT_MINUTES or math.inf):
                run.save()
    return True


def _next_group(run: Training, batches: Iterator) -> list | None:
    """This process's batches of one update, or None when a signal asks to stop: those fetched are read again later."""
    group: list = []
    while len(group) < run.batches_each:
        alone = run.processes.size == 1
        run.stopped |= alone and run.stop.signal_number is not None  # with several, they must stop at the same update
        if run.stopped:
            return None
        with run.stopwatch.waiting():
            batch = next(batches, None)
        if batch is None:
            raise RuntimeError(
                f"the loader ended after {run.updates_in_epoch} updates and {len(group)} batches of epoch {run.epoch}; "
                f"{run.updates_per_epoch} updates were to come"
            )
        group.append(batch)
    return group


def _update(run: Training, group: list) -> dict[str, float]:
    """One update from the gradients of all processes' `group`; returns the mean of each term, the loss and the rate."""
    cfg, number = run.cfg, run.update + 1
    lr = run.schedule(number)
    set_learning_rate(run.optimizer, lr)
    run.optimizer.zero_grad(set_to_none=True)
    run.statistics.note()
    terms: list[Tensor] = []
    names: list[str] = []
    for i, batch in enumerate(group):
        place = run.processes.rank * run.batches_each + i  # among all batches of the update
        torch.manual_seed(batch_seed(cfg.TRAIN.SEED, number, place))  # dropout and the like: the same after a resume
        with run.losses.exchanging(last_of_update=i == len(group) - 1):
            losses = _losses(run, batch, place)
            names = list(losses)
            total = torch.stack([losses[name] for name in names if name.endswith("_loss")]).sum()
            run.scaler.scale(total).backward()
        terms.append(torch.stack([torch.as_tensor(losses[name], device=run.device).detach().float() for name in names]))
    run.statistics.combine()
    run.scaler.unscale_(run.optimizer)
    if cfg.TRAIN.GRADIENTS == "mean":
        for parameter in _with_gradient(run):
            parameter.grad /= cfg.TRAIN.BATCHES_PER_UPDATE
    norm = nn.utils.get_total_norm([p.grad for p in _with_gradient(run)], foreach=True)
    rows, norm_value = _figures(run, torch.stack(terms), norm)
    stop_if_not_finite(run, group, names, rows, norm_value)
    if cfg.TRAIN.CLIP_GRADIENT > 0:
        trained = [p for g in run.optimizer.param_groups for p in g["params"]]
        nn.utils.clip_grads_with_norm_(trained, cfg.TRAIN.CLIP_GRADIENT, norm, foreach=True)
    run.scaler.step(run.optimizer)
    run.scaler.update()
    run.update = number
    run.stopwatch.count(cfg.TRAIN.BATCH_IMAGES * cfg.TRAIN.BATCHES_PER_UPDATE)
    values = {name: sum(column) / len(rows) for name, column in zip(names, zip(*rows, strict=True), strict=True)}
    run.means.add(values)
    loss = sum(value for name, value in values.items() if name.endswith("_loss"))
    return values | {"loss": loss, "lr": lr, "gradient_norm": norm_value}


def _losses(run: Training, batch, place: int) -> dict[str, Tensor]:
    """The losses of one batch; `place`: of the batch among those of the update."""
    seed, number = run.cfg.TRAIN.SEED, run.update + 1
    with torch.autocast(run.device.type, dtype=run.reduced, enabled=run.reduced is not None):
        losses = run.losses(batch.to(run.device), batch_rng(seed, number, place))
    if not any(name.endswith("_loss") for name in losses):
        raise ValueError(f"the model's losses have no name that ends in '_loss': {list(losses)}")
    return losses


def _figures(run: Training, terms: Tensor, norm: Tensor) -> tuple[list[list[float]], float]:
    """The terms (batches, T) of all processes as rows, and the gradient's norm: the one wait for the device between the
    last backward pass and the next update.

    Notes in `run.stopped` whether a signal has reached one of the processes.
    """
    signalled = float(run.stop.signal_number is not None)
    own = torch.cat((terms.flatten(), norm.float().reshape(1), terms.new_full((1,), signalled)))
    figures = run.processes.gather(own).tolist()
    run.stopped |= run.processes.size > 1 and any(row[-1] for row in figures)
    width = terms.shape[1]
    rows = [row[i : i + width] for row in figures for i in range(0, len(row) - 2, width)]
    return rows, figures[0][-2]


def _with_gradient(run: Training) -> list[nn.Parameter]:
    return [p for g in run.optimizer.param_groups for p in g["params"] if p.grad is not None]


def _report(run: Training, values: Mapping[str, float]) -> None:
    """Every `default.frequent` updates: a line with the means since the epoch's beginning, JSON and TensorBoard."""
    if run.updates_in_epoch % run.cfg.default.frequent and run.updates_in_epoch != run.updates_per_epoch:
        return
    watch = run.stopwatch
    seconds = watch.per_update()
    left = (run.updates_in_all - run.update) * sum(seconds.values())
    speed = watch.samples / watch.seconds
    gib = peak_device_gib(run.device) or peak_host_gib()
    memory = "" if gib is None else f"  {gib:.2f} GiB"
    _LOGGER.info(
        "epoch %.3f  update %d/%d  lr %.3g  %.2f samples/s (data %.3f s, compute %.3f s)%s  ETA %s  %s",
        run.update / run.updates_per_epoch,
        run.updates_in_epoch,
        run.updates_per_epoch,
        values["lr"],
        speed,
        *seconds.values(),
        memory,
        clock_text(left),
        "  ".join(f"{name} {mean:.4f}" for name, mean in run.means.means().items()),
    )
    if run.metrics is not None:
        run.metrics.add(
            run.update,
            epoch=run.update / run.updates_per_epoch,
            samples_per_second=speed,
            data_seconds=seconds["data"],
            compute_seconds=seconds["compute"],
            memory_gib=gib,
            seconds_left=left,
            skipped_images=run.skipped,
            **values,
        )
        run.curves.add({f"train/{name}": value for name, value in values.items()}, run.update)
        shares = {"samples_per_second": speed, "data_seconds": seconds["data"], "compute_seconds": seconds["compute"]}
        run.curves.add({f"time/{name}": value for name, value in shares.items()}, run.update)
    watch.restart()


def _validate(run: Training, validate: Validate) -> None:
    """Log the figures of `validate`; keep the checkpoint where it is the best so far."""
    found = validate(run)
    run.model.train()
    _LOGGER.info(
        "validation at epoch %.3f: %s",
        run.update / run.updates_per_epoch,
        "  ".join(f"{name} {value:.4f}" for name, value in found.items()),
    )
    if run.metrics is not None:
        run.metrics.add(run.update, **{f"validation_{name}": value for name, value in found.items()})
        run.curves.add({f"validation/{name}": value for name, value in found.items()}, run.update)
    mean_ap = found.get("mean_ap", math.nan)
    if mean_ap > run.best.get("mean_ap", -math.inf):
        run.best = {"mean_ap": mean_ap, "update": run.update}
        if run.processes.is_main:
            _LOGGER.info("the best so far: %s", run.checkpoints.save_best(run.content()))
    run.stopwatch.restart()


def _log_update_rule(run: Training) -> None:
    """Say what one update is: its images, its gradients and its rate."""
    train, processes = run.cfg.TRAIN, run.processes
    _LOGGER.info(
        "one update: %d images, %d batches of %d (%d processes x %d batches), the %s of their gradients, rate %.6g",
        train.BATCH_IMAGES * train.BATCHES_PER_UPDATE,
        train.BATCHES_PER_UPDATE,
        train.BATCH_IMAGES,
        processes.size,
        run.batches_each,
        train.GRADIENTS,
        run.schedule.base_lr,
    )


@contextmanager
def _saved_at(run: Training, error: type[InputError], resume_hint: str) -> Iterator[None]:
    """Save where the training is when the block, of one update at most, raises `error`."""
    try:
        yield
    except error:
        if run.update and run.processes.is_main:
            run.statistics.undo()
            _leave(run, "stopped by the error below", resume_hint)
        raise


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
