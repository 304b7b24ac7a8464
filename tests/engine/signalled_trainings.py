"""Eight small trainings, each with two reader processes and in a process group of its own, that are sent a signal.

`python -m tests.engine.signalled_trainings FOLDER SIGNAL` sends SIGNAL to the whole group of each at a random moment
after its first update; with SIGKILL, to one of its reader processes. Each training writes to FOLDER/<number>; what it
prints goes to output.txt there. Prints the exit statuses as JSON. One process that forks: torch is imported once.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import time
from functools import partial
from pathlib import Path

import torch
import torch.utils.tensorboard

from lib.command_line import run_script
from lib.data.classes import IMAGENET_VID
from lib.data.loader import ReadingRule, TrainingLoader, TrainingSet
from lib.data.roidb import load_roidb
from lib.data.transforms import Preprocessing
from lib.engine.train import train
from lib.version import commit
from rfcn.model import build_rfcn
from tests.data.toy_vid import write_toy
from tests.models.small import small_config

TRAININGS = 8
SECONDS = 400  # for all of them; a busy machine needs more than a few


def run_training(folder: Path, data: TrainingSet) -> None:
    cfg = small_config(
        "network.WIDTH=8", "TRAIN.BATCH_IMAGES=2", "TRAIN.BATCHES_PER_UPDATE=1", "TRAIN.end_epoch=1000", "TRAIN.lr=1e-6"
    )
    cfg.default.frequent = 1
    model = build_rfcn(cfg, IMAGENET_VID.num_classes)
    train(model, TrainingLoader(data, ReadingRule(workers=2)), cfg, folder, num_samples=len(data))


def start(folder: Path, data: TrainingSet) -> int:
    """Fork a training; returns its process id, which is that of its group."""
    folder.mkdir()
    process = os.fork()
    if process:
        return process
    os.setsid()
    output = os.open(folder / "output.txt", os.O_WRONLY | os.O_CREAT)
    os.dup2(output, 1)
    os.dup2(output, 2)
    run_script(partial(run_training, folder, data))


def has_begun(folder: Path) -> bool:
    """Whether the first update is logged."""
    log = folder / "train.log"
    return log.is_file() and "update 1/" in log.read_text()


def children(parent: int) -> list[int]:
    found = []
    for entry in Path("/proc").iterdir():
        try:
            fields = (entry / "stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if entry.name.isdigit() and int(fields[1]) == parent:
            found.append(int(entry.name))
    return found


def send(number: int, process: int) -> bool:
    """Returns whether it is to be sent again, should the training go on: a reader may have been at its end anyway."""
    if number != signal.SIGKILL:
        os.killpg(process, number)
        return False
    readers = children(process)
    if readers:
        os.kill(random.choice(readers), number)
    return True


def main(root: Path, number: int) -> None:
    torch.set_num_threads(1)
    commit()  # asks git once for all
    data = TrainingSet(
        load_roidb(write_toy(root / "toy"), "DET_train+VID_train", IMAGENET_VID, root / "cache"),
        Preprocessing(36, 100, (0.0, 0.0, 0.0)),
        batch_images=2,
    )
    folders = {start(folder, data): folder for folder in (root / str(i) for i in range(TRAININGS))}
    # When to send to each: None until it has begun, infinite when nothing is left to be sent
    due: dict[int, float | None] = dict.fromkeys(folders)
    statuses = {}
    end = time.monotonic() + SECONDS
    while len(statuses) < TRAININGS and time.monotonic() < end:
        for process in [process for process in folders if process not in statuses]:
            done, status = os.waitpid(process, os.WNOHANG)
            if done:
                statuses[process] = os.waitstatus_to_exitcode(status)
            elif due[process] is None:
                if has_begun(folders[process]):
                    due[process] = time.monotonic() + random.uniform(0, 3)
            elif time.monotonic() > due[process]:
                again = send(number, process)
                due[process] = time.monotonic() + (8 if again else SECONDS)
        time.sleep(0.01)
    for process in folders.keys() - statuses.keys():
        os.killpg(process, signal.SIGKILL)
    print(json.dumps([statuses.get(process, "did not end") for process in folders]))


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
