"""Say whether reading or the network limits a training, and how many reader processes to take.

Times the training loader of a configuration with 0, 1, 2, 4, ... reader processes (TRAIN.WORKERS), and the model's
updates on a batch that is in memory already. Every round gives each of them a turn, so that the comparison holds on a
machine whose speed drifts; medians are printed. On a CPU, reading and training share the cores: the figures are of each
alone.

Example: python tools/benchmark_loader.py --cfg configs/fgfa/resnet_v1_18_flownet_synthetic_vid.yaml --most-workers 2
"""

from __future__ import annotations

import argparse
import importlib
import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

import torch
from torch import nn
from tqdm import tqdm

from lib.command_line import count, positive_count, run_script
from lib.config import Config
from lib.data.loader import ReadingRule, TrainingLoader, TrainingSet, build_training_set
from lib.data.sampling import ChooseReferences, no_references
from lib.engine.arguments import run_of, run_parser
from lib.engine.device import wait_for
from lib.engine.optimizer import build_optimizer
from lib.engine.run import METHODS, Run, method_called
from lib.engine.seeding import batch_rng, seed_everything
from lib.files import check_output, write_json
from lib.models.precision import set_precision
from lib.structures import TrainingBatch

ENOUGH = 1.1  # times the model's speed that reading should have


@dataclass
class Reading:
    """The loader with some number of reader processes. ahead: batches that they read ahead together. speeds: images a
    second of each turn.
    """

    loader: TrainingLoader
    workers: int
    ahead: int
    speeds: list[float] = field(default_factory=list)
    _batches: Iterator[TrainingBatch] | None = None
    _epoch: int = 0

    def next(self) -> TrainingBatch:
        """The next batch, of the next epoch where one ends."""
        while True:
            if self._batches is None:
                self._batches = self.loader(self._epoch)
                self._epoch += 1
            batch = next(self._batches, None)
            if batch is not None:
                return batch
            self._batches = None

    def turn(self, batches: int) -> None:
        """Time `batches` of them, after those that were read ahead before the turn."""
        for _ in range(self.ahead + 1):
            self.next()
        start, images = time.perf_counter(), 0
        for _ in range(batches):
            images += len(self.next())
        self.speeds.append(images / (time.perf_counter() - start))


@dataclass
class Training:
    """Updates of a model on one batch; speeds: images a second of each turn."""

    model: nn.Module
    cfg: Config
    device: torch.device
    batch: TrainingBatch
    speeds: list[float] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._reduced = set_precision(self.cfg.PRECISION, self.device)
        self._optimizer = build_optimizer(self.model, self.cfg, self.model.lr_mult)
        for group in self._optimizer.param_groups:
            group["lr"] = 0.0  # the weights stay as they are: no loss can grow without bound
        self._update()

    def _update(self) -> None:
        self._optimizer.zero_grad(set_to_none=True)
        with torch.autocast(self.device.type, dtype=self._reduced, enabled=self._reduced is not None):
            losses = self.model.losses(self.batch.to(self.device), batch_rng(0, 1, 0))
        sum(value for name, value in losses.items() if name.endswith("_loss")).backward()
        self._optimizer.step()

    def turn(self, batches: int) -> None:
        """Time `batches` updates of one batch each."""
        wait_for(self.device)
        start = time.perf_counter()
        for _ in range(batches):
            self._update()
        wait_for(self.device)
        self.speeds.append(batches * len(self.batch) / (time.perf_counter() - start))


def parse_arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = run_parser(__doc__)
    parser.add_argument("--method", choices=METHODS, help="default: the name of the configuration's folder")
    parser.add_argument(
        "--most-workers", type=count, default=os.cpu_count() or 1, metavar="N", help="default: %(default)s"
    )
    parser.add_argument("--batches", type=positive_count, default=8, metavar="N", help="a turn; default: %(default)s")
    parser.add_argument("--rounds", type=positive_count, default=3, metavar="N", help="default: %(default)s")
    parser.add_argument("--json", type=Path, metavar="OUT", help="also write the figures to this file")
    args = parser.parse_intermixed_args(argv)
    args.method = args.method or Path(args.cfg).resolve().parent.name
    if args.method not in METHODS:
        parser.error(f"--cfg {args.cfg}: its folder is not one of {', '.join(METHODS)}; give --method")
    return args


def training_set_of(run: Run) -> TrainingSet:
    """The training set as the method's script makes it."""
    method = importlib.import_module(f"{run.method.name}.method")
    references: ChooseReferences = method.references(run.cfg) if hasattr(method, "references") else no_references
    return build_training_set(run.cfg, run.dataset_classes(), references, round_boxes=run.method.name == "rfcn")


def numbers_up_to(most: int) -> list[int]:
    """0, 1, 2, 4, ... and `most`."""
    return sorted({0, most, *(2**n for n in range(most.bit_length()) if 2**n <= most)})


def advice(model: float, reading: dict[int, float]) -> str:
    """What limits the training, from images a second of the model and, by number of processes, of reading."""
    enough = [workers for workers, speed in sorted(reading.items()) if workers and speed >= ENOUGH * model]
    if enough:
        return f"the network limits the training; take TRAIN.WORKERS={enough[0]}"
    best = max(reading, key=lambda workers: (reading[workers], -workers))
    return (
        f"reading limits the training to {reading[best] / model:.0%} of the network's speed; take "
        f"TRAIN.WORKERS={best}, or try more (--most-workers), smaller images on disk, or TRAIN.CACHE_MB"
    )


def main(argv: Sequence[str] | None = None) -> dict[str, object]:
    """Print the figures and return them."""
    args = parse_arguments(argv)
    if args.json:
        check_output(args.json)
    run = run_of(args, method_called(args.method), needs_weights=False)
    cfg = run.cfg
    seed_everything(cfg.TRAIN.SEED, deterministic=False)
    data = training_set_of(run)
    rule = ReadingRule.from_config(cfg, pin=run.device.type == "cuda")
    readings = []
    for workers in numbers_up_to(args.most_workers):
        rule.workers = workers
        readings.append(Reading(TrainingLoader(data, rule), workers, workers * rule.prefetch))
    model = run.method.build(cfg, run.dataset_classes().num_classes).to(run.device).train()
    training = Training(model, cfg, run.device, readings[0].next())
    with tqdm(total=args.rounds, unit="round", desc="timing", dynamic_ncols=True) as bar:
        for _ in range(args.rounds):
            for one in (*readings, training):
                one.turn(args.batches)
            bar.update()
    reading = {one.workers: median(one.speeds) for one in readings}
    speed = median(training.speeds)
    for workers, value in reading.items():
        print(f"reading with {workers} processes: {value:8.2f} images/s ({value / speed:.2f} times the network's)")
    print(f"the network, {run.device}:       {speed:8.2f} images/s")
    print(advice(speed, reading))
    figures = {"reading": reading, "network": speed, "batch_images": cfg.TRAIN.BATCH_IMAGES, "device": str(run.device)}
    if args.json:
        write_json(args.json, figures)
    return figures


if __name__ == "__main__":
    run_script(main)
