"""What `test_distributed.py` starts by torchrun: trainings and a test that processes share.

`python -m tests.engine.shared_runs FOLDER WHAT...` does each WHAT in turn, a key of `RUNS`. Without torchrun it is one
process. The parameters and results go to FOLDER/<what>. A process that ends prints what it still
holds of the process group.
"""

from __future__ import annotations

import atexit
import gc
import json
import os
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
import torch.distributed as dist
from torch.distributed import destroy_process_group
from torch.nn.parallel import DistributedDataParallel

import rfcn.test
from lib.command_line import run_script
from lib.config import Config, to_dict
from lib.data.classes import Classes
from lib.engine.checkpoint import Identity, save_tensors
from lib.engine.distributed import processes_from_environment
from lib.engine.train import train
from lib.structures import TrainingBatch
from rfcn.model import RFCN, build_rfcn
from tests.data.toy_vid import AIRPLANE, BIRD, write_frame, write_list
from tests.engine.stand_ins import TinyModel, config, points_of
from tests.models.small import random_batch, small_config, small_rfcn, with_video_keys
from tests.models.small_video import small_dff, small_fgfa

PROCESSES = processes_from_environment()
LEFT_BEHIND = "leaves the process group, but still has"
UPDATES = 20  # of every training
BATCHES = 40  # of each of the two epochs of the tiny trainings, four an update


def share_of(batches: int, start: int, update: int) -> Iterator[int]:
    """This process's batches of an epoch: its part of each update's."""
    each = update // PROCESSES.size
    for number in range(start, batches):
        if number % update // each == PROCESSES.rank:
            yield number


def train_tiny(folder: Path, *overrides: str, before: Callable[[int], None] = lambda number: None) -> None:
    """Batch statistics, dropout and noise: each batch must get its own. before: called before each batch is given."""
    cfg = config("TRAIN.BATCHES_PER_UPDATE=4", *overrides)

    def loader(epoch: int, start: int) -> Iterator:
        for number in share_of(BATCHES, start, 4):
            before(BATCHES * epoch + number)
            yield points_of(0, epoch, number)

    train(TinyModel(), loader, cfg, folder, num_samples=4 * BATCHES, processes=PROCESSES)


def train_tiny_with_mean_gradients(folder: Path) -> None:
    train_tiny(folder, "TRAIN.GRADIENTS=mean", "TRAIN.CLIP_GRADIENT=0.5", "TRAIN.lr=0.01")


def train_tiny_with_a_loss(folder: Path) -> None:
    """The last process dies, once, in the thirteenth update."""

    def die(number: int) -> None:
        if number >= 48 and PROCESSES.restarts == 0 and PROCESSES.rank == PROCESSES.size - 1:
            os.kill(os.getpid(), signal.SIGKILL)

    train_tiny(folder, before=die)


def train_tiny_after_the_loss(folder: Path) -> None:
    """What is given after `train_tiny_with_a_loss`: the same, resumed."""
    train_tiny(folder.with_name("tiny_with_a_loss"), "TRAIN.RESUME=true")


def video_batch(number: int, references: int) -> TrainingBatch:
    """One sample with `references` reference frames; in some they are the frame itself."""
    batch = random_batch([2], seed=number)
    rng = np.random.RandomState(1000 + number)
    others = torch.from_numpy(rng.standard_normal((1, references, *batch.frames.shape[2:]))).float()
    same = torch.tensor([[number % 4 == 1] * references], dtype=torch.bool).reshape(1, references)
    others = torch.where(same[:, :, None, None, None], batch.frames, others)
    return TrainingBatch(torch.cat((batch.frames, others), 1), batch.im_info, batch.boxes, batch.labels, same)


def train_detectors(folder: Path, batches: int = 2, methods: tuple[str, ...] = ("rfcn", "dff", "fgfa")) -> None:
    """A small network of every method, by updates of `batches`. Deep Feature Flow leaves its flow network out of some
    samples.
    """
    models = {"rfcn": (small_rfcn(), 0), "dff": (small_dff(), 1), "fgfa": (small_fgfa(), 2)}
    for name in methods:
        model, references = models[name]
        cfg = with_video_keys(detector_config(f"TRAIN.BATCHES_PER_UPDATE={batches}"), interval=3)

        def loader(epoch: int, start: int, references: int = references) -> Iterator[TrainingBatch]:
            return (video_batch(number, references) for number in share_of(batches * UPDATES, start, batches))

        train(model, loader, cfg, folder / name, num_samples=batches * UPDATES, processes=PROCESSES)


def train_fgfa_by_four(folder: Path) -> None:
    """The method whose sums differ most."""
    train_detectors(folder, batches=4, methods=("fgfa",))


def detector_config(*overrides: str) -> Config:
    settings = ("TRAIN.BATCH_IMAGES=1", "TRAIN.end_epoch=1", "TRAIN.lr_step=''")
    return small_config(*settings, "TRAIN.lr=0.0005", "TRAIN.model_prefix=small", *overrides)


def write_test_set(root: Path) -> None:
    """Five videos of different lengths, and a detector for them in weights.pth."""
    lengths, lines, frame_id = (2, 5, 1, 3, 4), [], 1
    for number, length in enumerate(lengths):
        for i in range(length):
            objects = [
                (BIRD, (i, i, 19 + i, 19 + i), "<trackid>1</trackid>"),
                (AIRPLANE, (2, 2, 60, 40), "<trackid>2</trackid>"),
            ]
            write_frame(root, f"VID/val/{number}/{i:06d}", objects)
        lines.append(f"val/{number} {frame_id} 0 {length}")
        frame_id += length
    write_list(root, "VID_val_videos", lines)
    (root / "classes.txt").write_text(f"{AIRPLANE} airplane\n{BIRD} bird\n")
    cfg = small_config("SCALES=[[48, 64]]", "dataset.test_image_set=VID_val_videos")
    torch.manual_seed(0)
    model = build_rfcn(cfg, 3)
    with torch.no_grad():
        model.detector.head.rfcn_cls.weight.mul_(20)
    identity = Identity("rfcn", to_dict(cfg), Classes(("airplane", "bird"), (AIRPLANE, BIRD)), "toy_run")
    save_tensors({"model": model.state_dict()} | identity.to_content(), root / "weights.pth")


def detect_by_rfcn(folder: Path, dies: bool = False) -> None:
    """Detect in the test set beside `folder`; the videos that each life of each process begins go to a file.

    dies: the last process does, in the first life that has results of its first video.
    """
    data, begun = folder.parent / "test_set", []
    whole = RFCN.begin_clip
    unfinished = folder / "toy_run" / "VID_val_videos" / "detections.process_1_of_2.txt.part"
    mortal = dies and PROCESSES.rank == PROCESSES.size - 1 and not unfinished.exists()

    def begin_clip(self: RFCN, *arguments, **options):
        begun.append(1)
        folder.mkdir(parents=True, exist_ok=True)
        note = folder / f"life_{PROCESSES.restarts}_process_{PROCESSES.rank}.json"
        note.write_text(json.dumps(len(begun)))
        if mortal and len(begun) == 2:
            os.kill(os.getpid(), signal.SIGKILL)
        return whole(self, *arguments, **options)

    RFCN.begin_clip = begin_clip
    try:
        places = [f"dataset.dataset_path={data}", f"dataset.root_path={folder}", f"output_path={folder}"]
        rfcn.test.main(["--weights", str(data / "weights.pth"), "--device", "cpu", *places])
    finally:
        RFCN.begin_clip = whole


def detect_by_rfcn_with_a_loss(folder: Path) -> None:
    detect_by_rfcn(folder, dies=True)


RUNS = {
    "tiny": train_tiny,
    "tiny_with_mean_gradients": train_tiny_with_mean_gradients,
    "tiny_with_a_loss": train_tiny_with_a_loss,
    "tiny_after_the_loss": train_tiny_after_the_loss,
    "detectors": train_detectors,
    "fgfa_by_four": train_fgfa_by_four,
    "test": detect_by_rfcn,
    "test_with_a_loss": detect_by_rfcn_with_a_loss,
}


def report_threads() -> None:
    """Print the threads if some are gloo's: one that asks for the interpreter while that shuts down, as happens rarely,
    ends the process with SIGABRT. Where there is no /proc, nothing is printed.
    """
    names = [name.read_text().strip() for name in Path("/proc/self/task").glob("*/comm")]
    if any("gloo" in name for name in names):
        print(f"process {PROCESSES.rank} {LEFT_BEHIND} threads: {', '.join(names)}", file=sys.stderr)


def leave_and_report() -> None:
    """Print if there is a DistributedDataParallel. If it were the last to hold the process group, its end would wait
    for those threads without letting them use the interpreter.
    """
    if DistributedDataParallel in map(type, gc.get_objects()):
        print(f"process {PROCESSES.rank} {LEFT_BEHIND} a DistributedDataParallel", file=sys.stderr)
    destroy_process_group()


def main() -> None:
    atexit.register(report_threads)
    dist.destroy_process_group = leave_and_report
    torch.set_num_threads(1)
    folder = Path(sys.argv[1])
    for what in sys.argv[2:]:  # the processes join for each of them
        RUNS[what](folder / what)


if __name__ == "__main__":
    run_script(main)
