"""A small training that two processes share, each with a reader process, and in which a fault happens.

`torchrun ... -m tests.engine.faulty_shared_trainings DATA FAULT RANK FOLDER...` trains in each FOLDER in turn, or goes
on there, on the toy data set at DATA: two epochs of six updates. FAULT: what happens to the process of rank RANK once
it has the samples of the eighth update: `disk`, from then on it writes to a full disk; `reader`, its reader process is
killed; `none`.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import torch

import lib.files
from lib.command_line import run_script
from lib.data.classes import IMAGENET_VID
from lib.data.loader import ReadingRule, TrainingLoader, TrainingSet
from lib.data.roidb import load_roidb
from lib.data.transforms import Preprocessing
from lib.engine.distributed import Processes, joined, processes_from_environment
from lib.engine.train import train
from rfcn.model import build_rfcn
from tests.engine.full_disk import full_disk
from tests.models.small import small_config

UPDATES_PER_EPOCH, BAD_UPDATE = 6, 8


def fail(fault: str, readers: TrainingLoader) -> None:
    if fault == "disk":
        lib.files.open = full_disk(room=5000)
    if fault == "reader":
        (reader,) = readers._loader._iterator._workers
        os.kill(reader.pid, signal.SIGKILL)
        reader.join(60)


def run_training(folder: Path, training_set: TrainingSet, processes: Processes, fault: str, rank: int) -> None:
    read = TrainingLoader(training_set, ReadingRule(workers=1), share=(processes.rank, processes.size))

    def loader(epoch: int, start: int) -> Iterator:
        for update, batch in enumerate(read(epoch, start), UPDATES_PER_EPOCH * epoch + start // 2 + 1):
            if update == BAD_UPDATE and processes.rank == rank:
                fail(fault, read)
            yield batch

    cfg = small_config(
        "network.WIDTH=8", "TRAIN.BATCH_IMAGES=1", "TRAIN.BATCHES_PER_UPDATE=2", "TRAIN.end_epoch=2", "TRAIN.lr=0.0005",
        "TRAIN.RESUME=true", "TRAIN.model_prefix=small", "default.frequent=1",
    )  # fmt: skip
    torch.manual_seed(0)
    model = build_rfcn(cfg, IMAGENET_VID.num_classes)
    train(model, loader, cfg, folder, num_samples=len(training_set), processes=processes)


def main() -> None:
    data, fault, rank, folders = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), map(Path, sys.argv[4:])
    torch.set_num_threads(1)
    processes = processes_from_environment()
    roidb = load_roidb(data, "DET_train+VID_train", IMAGENET_VID, data / "cache")
    training_set = TrainingSet(roidb, Preprocessing(36, 100, (0.0, 0.0, 0.0)), update_batches=2)
    with joined(processes, torch.device("cpu")):
        for folder in folders:
            run_training(folder, training_set, processes, fault, rank)


if __name__ == "__main__":
    run_script(main)
