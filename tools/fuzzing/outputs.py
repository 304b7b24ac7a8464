"""Outputs that cannot be written: every writer of the project, and every place that is none."""

from __future__ import annotations

import functools
import os
import resource
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

import numpy as np
import torch

from lib.checkpoints.mxnet_params import ParamsFile, write_params
from lib.data.video import FrameSource
from lib.engine.checkpoint import CheckpointFolder, save_tensors
from lib.engine.demo import DemoOutput, DemoSettings
from lib.engine.run_log import MetricsFile, open_log
from lib.evaluation.coco_files import write_coco_results, write_coco_truth
from lib.evaluation.motion import write_motion
from lib.evaluation.result_rows import ResultRow, write_row
from lib.evaluation.results_file import DetectionTable, ResultsWriter
from lib.files import hold_file, hold_folder, output_errors, write_json, write_text
from lib.structures import Detections, Frame, GroundTruth
from lib.synthetic.casting import Settings
from lib.synthetic.dataset import Plan, make_dataset
from lib.visualize.clip import ContactSheet, write_image
from lib.visualize.video_writer import VideoWriter
from tools.fuzzing.attempts import Input, Kind, WrongError

_PICTURE = np.random.RandomState(0).randint(0, 256, (48, 64, 3)).astype(np.uint8)
_TABLE = DetectionTable(np.zeros(3000, np.int32), np.ones(3000, np.int16), np.full(3000, 0.5), np.zeros((3000, 4)))
_TRUTH = GroundTruth(["a"], np.zeros(2, int), np.arange(3), np.zeros((2, 4)), np.ones(2, int), np.zeros(2, int))


def _results(path: str) -> None:
    with ResultsWriter(path) as writer:
        writer.add_table(_TABLE)
        writer.checkpoint(1)
        writer.add_table(_TABLE)


def _video(path: str) -> None:
    with VideoWriter(path, 10) as writer:
        for _ in range(12):
            writer.write(_PICTURE)


def _sheet(path: str) -> None:
    sheet = ContactSheet()
    sheet.add(_PICTURE, "a")
    sheet.write(path)


def _demo(path: str) -> None:
    frame = Frame(torch.zeros(3, 8, 8), 1.0, name="a", pixels=_PICTURE)
    source = FrameSource("frames", None, 1, lambda: iter(()))
    settings = DemoSettings(Path(path), clip="", pictures=True)
    with DemoOutput(settings, source, ("background", "a"), torch.device("cpu")) as output:
        output.add(frame, Detections.cat([]))


def _metrics(path: str) -> None:
    metrics = MetricsFile(Path(path), 0)
    try:
        metrics.add(1, loss=1.0)
    finally:
        metrics.close()


def _log(path: str) -> None:
    with open_log(path):
        pass


def _hold(path: str) -> None:
    with hold_folder(path):
        pass


def _hold_file(path: str) -> None:
    with hold_file(path) as file, output_errors(path):
        file.write(b"x" * 100_000)


def _checkpoint(path: str) -> None:
    CheckpointFolder(Path(path), "model").save({"epoch": 1, "batch": 0, "model": {"a": torch.zeros(50_000)}})


def _dataset(path: str) -> None:
    make_dataset(Path(path), Plan(Settings(width=64, height=64, frames=1, classes=1), 1, 1, 0))


FILE_WRITERS: dict[str, Callable[[str], object]] = {
    "text": lambda path: write_text(path, "x" * 100_000),
    "JSON": lambda path: write_json(path, list(range(30_000))),
    "tensors": lambda path: save_tensors({"a": torch.zeros(50_000)}, path),
    "parameters": lambda path: write_params(path, ParamsFile(["a"], [np.zeros(50_000, np.float32)])),
    "motion": lambda path: write_motion(path, np.random.RandomState(0).rand(20_000), np.arange(20_001)),
    "COCO truth": lambda path: write_coco_truth(path, _TRUTH, ["v"], ["a", "b"], np.ones((2, 2))),
    "COCO results": lambda path: write_coco_results(path, [_TABLE]),
    "results": _results,
    "a row": lambda path: write_row(path, ResultRow("rfcn")),
    "a picture": lambda path: write_image(path, np.kron(_PICTURE, np.ones((8, 8, 1), np.uint8))),
    "a contact sheet": _sheet,
    "a video": _video,
    "metrics": _metrics,
    "a log": _log,
    "a held file": _hold_file,
}
FOLDER_WRITERS: dict[str, Callable[[str], object]] = {
    "a demo": _demo,
    "a held folder": _hold,
    "checkpoints": _checkpoint,
    "a data set": _dataset,
}
_ENDINGS = {"a picture": ".png", "a contact sheet": ".png", "a video": ".webm"}


def _make_places(folder: Path) -> None:
    """Everything that the targets below name."""
    (folder / "full").mkdir()
    (folder / "full" / "mine.txt").write_text("mine")
    (folder / "file").write_text("mine")
    (folder / "to_folder").symlink_to("full")
    for ending in ("", *_ENDINGS.values()):
        if not (folder / f"pipe{ending}").exists():
            os.mkfifo(folder / f"pipe{ending}")
            (folder / f"loop{ending}").symlink_to(f"loop{ending}")
            (folder / f"to_device{ending}").symlink_to("/dev/null")
            (folder / f"folder{ending}").mkdir()


# Place -> whether only those who write files find it bad. A {} takes the ending that the writer needs.
TARGETS = {
    "full": True,
    "to_folder": True,
    "folder{}": True,
    "pipe{}": False,
    "loop{}": False,
    "to_device{}": False,
    "/dev/null": False,
    "/dev/full": False,
    "/dev/zero": False,
    "file/a{}": False,
    "file/b/a{}": False,
    "/proc/a{}": False,
    "/proc/self/mem": False,
    "/sys/a{}": False,
    "": True,
    "/": True,
    ".": True,
    "nul\0{}": False,
    "x" * 300 + "{}": False,
    "y/" * 3000 + "a{}": False,
    "loop/a{}": False,
}


def _write(write: Callable[[str], object], target: str, folder: Path) -> str:
    write(target)
    raise WrongError(f"{target[:40]!r} was written without an error")


@contextmanager
def _largest_file(size: int) -> Iterator[None]:
    """A disk on which no file can be larger: writing more fails as on a full one."""
    kept = resource.getrlimit(resource.RLIMIT_FSIZE)
    previous = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, kept[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, kept)
        signal.signal(signal.SIGXFSZ, previous)


def _fill(write: Callable[[str], object], target: str, size: int, folder: Path) -> str:
    with _largest_file(size) if size else nullcontext():
        write(target)
    if size:
        raise WrongError("a full disk passed without an error")
    return "written"


def _fixed_outputs() -> list[Input]:
    cases = []
    for name, write in (FILE_WRITERS | FOLDER_WRITERS).items():
        ending = _ENDINGS.get(name, "")
        for target, for_files in TARGETS.items():
            if (for_files and name in FOLDER_WRITERS) or (name == "a video" and "{}" not in target):
                continue  # a folder is right for the first; a video must have its ending
            place = target.replace("{}", ending)
            run = functools.partial(_write, write, place)
            cases.append(Input(f"{name} to {place[:30]!r}", run, prepare=_make_places))
    for name, write in FILE_WRITERS.items():
        if name in ("a row", "COCO truth", "metrics", "a log", "a video"):
            continue  # too small to fill a disk, or of a size that the codec decides
        place = "old" + _ENDINGS.get(name, "")
        for size in (1, 4096, 16_384):
            run = functools.partial(_fill, write, place, size)
            makes = ("old.part", "old.progress") if name == "results" else (place,) if name == "a held file" else ()
            cases.append(Input(f"{name} on a disk with {size} bytes", run, {place: b"mine"}, names=place, makes=makes))
        # The same to a name that is new, and one in folders that are new
        for place in (f"new{_ENDINGS.get(name, '')}", f"a/b/new{_ENDINGS.get(name, '')}"):
            run = functools.partial(_fill, write, place, 0)
            cases.append(Input(f"{name} to a new file", run, names=place, makes=(place, "a", "a/b")))
    return cases


KINDS = (Kind("output", _fixed_outputs),)
