"""Kill a small training, or a test, with SIGKILL again and again: it must end as one that was never interrupted.

Makes a tiny synthetic data set. The same command, with TRAIN.RESUME=true, then runs twice: to its end without a kill,
and in another folder, where all its processes are killed at random moments - while it starts, during updates, while a
file is written - and the command is given again each time. At the end all checkpoints and the logged figures must be
the same, bit for bit; with --testing, the results file. Prints a line for each kill and each difference; the exit
status is 1 where there is a difference. Needs Linux (/proc).

Example: python tools/interrupt_training.py --kills 20 --seed 1 --processes 2
Example: python tools/interrupt_training.py --kills 20 --testing
"""

from __future__ import annotations

import argparse
import contextlib
import json
import math
import os
import random
import secrets
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from lib.command_line import child_environment, count, positive_count, run_script
from lib.engine.checkpoint import load_checkpoint
from lib.errors import InputError
from lib.evaluation.results_file import DETECTIONS
from lib.synthetic.casting import Settings
from lib.synthetic.dataset import Plan, make_dataset

ROOT = Path(__file__).resolve().parents[1]
CONFIGURATIONS = {
    "rfcn": "resnet_v1_18_synthetic_vid",
    "dff": "resnet_v1_18_flownet_synthetic_vid",
    "fgfa": "resnet_v1_18_flownet_synthetic_vid",
}
MOMENTS = ("work", "save", "work", "save", "start")  # what each fifth kill aims at
STEPS_PER_KILL = 3  # updates, or tested videos, from one kill to the next on average
MARK = "INTERRUPT_TRAINING_RUN"  # an environment variable by which all processes of a run are found
_CHANGING = ("samples_per_second", "data_seconds", "compute_seconds", "memory_gib", "seconds_left")  # in metrics.jsonl
_OF_THE_CODE = ("commit", "version")


@dataclass
class Command:
    """A command that is run again and again in `folder`, and how far its run has come.

    begun: mean seconds until its first step, as far as it was measured. lives: how often it was started.
    """

    words: list[str]
    folder: Path
    testing: bool
    begun: list[float] = field(default_factory=list)
    lives: int = 0

    def start(self) -> Life:
        """Start it; what it prints goes to `life_<number>.txt`."""
        self.folder.mkdir(parents=True, exist_ok=True)
        self.lives += 1
        mark = secrets.token_hex(8)
        output = self.folder / f"life_{self.lives}.txt"
        with output.open("wb") as file:
            process = subprocess.Popen(
                self.words,
                cwd=self.folder,
                env=child_environment(**{MARK: mark, "PYTHONUNBUFFERED": "1"}),
                stdout=file,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        return Life(process, mark, output, self.steps(), self.unfinished())

    def steps(self) -> int:
        """Updates that are logged, or videos that are tested."""
        if self.testing:
            notes = [_json(text) for text in self._texts("*.progress")]
            finished = [_json(text) for text in self._texts("*.process_*.json")]
            return sum(note.get("done", 0) for note in notes) + sum(len(note.get("videos", ())) for note in finished)
        lines = "".join(self._texts("metrics.jsonl")).splitlines()
        return max([_json(line).get("update", 0) for line in lines[-3:]], default=0)

    def _texts(self, pattern: str) -> list[str]:
        found = []
        for path in self.folder.glob(f"output/*/*/{pattern}"):
            if path.name.startswith("."):  # half-written
                continue
            with contextlib.suppress(FileNotFoundError):  # renamed or removed since
                found.append(path.read_text())
        return found

    def unfinished(self) -> set[Path]:
        """Files that are being written, by `lib.files.replacing`, or were when their process was killed."""
        return set(self.folder.glob("output/*/*/.*.part*"))


@dataclass
class Life:
    """One start of a command, until its end or its kill.

    steps_before: that its run had made. unfinished_before: what the kill before it has left.
    """

    process: subprocess.Popen
    mark: str
    output: Path
    steps_before: int
    unfinished_before: set[Path]
    started: float = field(default_factory=time.monotonic)

    def ended(self) -> bool:
        return self.process.poll() is not None

    def kill(self, known: Sequence[int]) -> None:
        """End all its processes at once; `known`: those found a moment before. Returns when none is left."""
        for process in (self.process.pid, *known):
            with contextlib.suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)
        while left := self.processes():
            for process in left:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(process, signal.SIGKILL)
            time.sleep(0.01)
        self.process.wait()

    def processes(self) -> list[int]:
        """All its processes that live, also those whose parent has gone."""
        return processes_with(self.mark)

    def require_good_end(self) -> None:
        """Raise InputError, with the end of what it printed, where it ended with an error."""
        if self.process.wait():
            printed = "\n".join(self.output.read_text(errors="replace").splitlines()[-15:])
            raise InputError(f"{self.output}: ended with status {self.process.returncode}:\n{printed}")


def processes_with(mark: str) -> list[int]:
    """The ids of all living processes of this user that have `mark` as their environment variable MARK; on Linux."""
    wanted, found = f"{MARK}={mark}".encode(), []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):  # it has ended, or is another user's
                if wanted in (entry / "environ").read_bytes().split(b"\0"):
                    found.append(int(entry.name))
    return found


def _json(text: str) -> dict[str, Any]:
    """The JSON object in `text`; an empty one for half of it."""
    try:
        return json.loads(text)
    except ValueError:
        return {}


def parse_arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=positive_count, default=20, metavar="N", help="default: %(default)s")
    parser.add_argument("--seed", type=count, default=0, help="of the moments; default: %(default)s")
    parser.add_argument(
        "--processes", type=positive_count, default=1, metavar="N", help="started by torchrun; default: 1"
    )
    parser.add_argument("--testing", action="store_true", help="kill a test in place of a training")
    parser.add_argument("--method", choices=list(CONFIGURATIONS), default="rfcn", help="default: %(default)s")
    parser.add_argument("--work-dir", type=Path, metavar="DIR", help="for data and runs; default: temporary")
    return parser.parse_args(argv)


def words_of(args: argparse.Namespace, data: Path, script: str, weights: Path | None = None) -> list[str]:
    """The command line of a training, or of a test of `weights`, on the data set at `data`."""
    start = [sys.executable]
    if args.processes > 1:
        start += ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(args.processes)]
    entries = len((data / "ImageSets" / "VID_train_15frames.txt").read_text().splitlines())
    updates = 2 * entries // (2 * args.processes)  # of an epoch; each entry is also used mirrored
    epochs = max(2, math.ceil(STEPS_PER_KILL * (args.kills + 1) / updates))
    values = [
        f"dataset.dataset_path={data}", "dataset.image_set=VID_train_15frames", "dataset.root_path=.",
        "output_path=output", "SCALES=[[96, 128]]", "default.frequent=1",
        "network.WIDTH=8", "network.FEAT_DIM=64", "network.pretrained=", "network.pretrained_flow=",
        "TRAIN.RESUME=true", "TRAIN.BATCH_IMAGES=1", f"TRAIN.BATCHES_PER_UPDATE={2 * args.processes}",
        f"TRAIN.end_epoch={epochs}", "TRAIN.CHECKPOINT_MINUTES=1e-9", "TRAIN.WORKERS=1", "TRAIN.model_prefix=tiny",
        "TRAIN.VALIDATE_EPOCHS=1", "TRAIN.VALIDATE_VIDEOS=1", "TEST.BATCH_IMAGES=2",
    ]  # fmt: skip
    chosen = [] if weights is None else ["--weights", str(weights)]
    cfg = ROOT / "configs" / args.method / f"{CONFIGURATIONS[args.method]}.yaml"
    return [*start, str(ROOT / args.method / script), "--cfg", str(cfg), "--device", "cpu", *chosen, *values]


def moments(total: int, args: argparse.Namespace) -> Iterator[tuple[str, int]]:
    """For each kill what it aims at, and the step after which it comes; `total`: steps of the whole run."""
    rng = random.Random(args.seed)
    last = max(1, total - 2)  # so that the run is not over before its last kill
    steps = sorted(rng.randrange(last) for _ in range(args.kills))
    kinds = [MOMENTS[number % len(MOMENTS)] for number in range(args.kills)]
    rng.shuffle(kinds)
    return zip(kinds, steps, strict=True)


def wait_for(life: Life, command: Command, kind: str, step: int, rng: random.Random) -> list[int]:
    """Return when `life` is to be killed, with its processes, or when it has ended."""
    typical = sum(command.begun) / len(command.begun)
    if kind == "start":
        _sleep(life, rng.uniform(0, 1.2 * typical))
        return life.processes()
    known: list[int] = []
    looked = 0.0
    while not life.ended() and command.steps() < max(step, life.steps_before + 1):
        if time.monotonic() > looked + 0.3:
            known, looked = life.processes(), time.monotonic()
        time.sleep(0.005)
    if kind == "save":
        while not life.ended() and not command.unfinished() - life.unfinished_before:
            time.sleep(0.0005)
        _sleep(life, rng.uniform(0, 0.02))
    else:
        _sleep(life, rng.uniform(0, 1.0))
    return known


def _sleep(life: Life, seconds: float) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end and not life.ended():
        time.sleep(0.001)


def run_undisturbed(command: Command) -> None:
    """Run it to its end; notes when its first step was made. Raises InputError where it fails."""
    life = command.start()
    while not life.ended() and command.steps() <= life.steps_before:
        time.sleep(0.01)
    command.begun.append(time.monotonic() - life.started)
    life.require_good_end()


def run_with_kills(command: Command, total: int, args: argparse.Namespace) -> None:
    """Kill it args.kills times, then let it end. Raises InputError where it ends before, or fails."""
    rng = random.Random(args.seed + 1)
    for number, (kind, step) in enumerate(moments(total, args), 1):
        life = command.start()
        known = wait_for(life, command, kind, step, rng)
        if life.ended():
            life.require_good_end()
            raise InputError(f"the run was over before kill {number} of {args.kills}; take another --seed")
        life.kill(known)
        seconds = time.monotonic() - life.started
        writing = "; a file was being written" if command.unfinished() - life.unfinished_before else ""
        print(
            f"kill {number:2} of {args.kills} ({kind}): after {seconds:.1f} s, steps {life.steps_before} to "
            f"{command.steps()} of {total}{writing}",
            flush=True,
        )
    command.start().require_good_end()


def differences(one: Any, other: Any, where: str = "") -> Iterator[str]:
    """Where two contents of dictionaries, lists, tensors, numbers and strings differ in a bit."""
    if type(one) is not type(other):
        yield f"{where}: {type(one).__name__} and {type(other).__name__}"
    elif isinstance(one, dict):
        if list(one) != list(other):
            yield f"{where}: the keys differ"
        for key in one.keys() & other.keys():
            yield from differences(one[key], other[key], f"{where}/{key}")
    elif isinstance(one, (list, tuple)):
        if len(one) != len(other):
            yield f"{where}: {len(one)} and {len(other)} entries"
        for number, pair in enumerate(zip(one, other, strict=False)):
            yield from differences(*pair, f"{where}/{number}")
    elif isinstance(one, torch.Tensor):
        if one.dtype != other.dtype or not torch.equal(one, other):
            yield f"{where}: the tensors differ"
    elif one != other:
        yield f"{where}: {one!r} and {other!r}"


def compare_trainings(straight: Path, killed: Path) -> list[str]:
    """What differs between the folders of two trainings: in the files there, in checkpoints, in logged figures."""
    names = [sorted(path.name for path in folder.glob("tiny-*.pth")) for folder in (straight, killed)]
    hidden = [path.name for path in killed.iterdir() if ".part" in path.name]
    found = [f"left over: {name}" for name in hidden]
    if names[0] != names[1]:
        return [*found, f"checkpoints {names[0]} and {names[1]}"]
    for name in names[0]:
        contents = [load_checkpoint(folder / name) for folder in (straight, killed)]
        for content in contents:
            for key in _OF_THE_CODE:
                content.pop(key, None)
        found += differences(*contents, name)
    figures = [_figures(folder / "metrics.jsonl") for folder in (straight, killed)]
    return found + list(differences(*figures, "metrics.jsonl"))


def _figures(path: Path) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    return [{key: value for key, value in line.items() if key not in _CHANGING} for line in lines]


def compare_tests(straight: Path, killed: Path) -> list[str]:
    """What differs between the folders of two tests."""
    contents = [(folder / DETECTIONS).read_bytes() for folder in (straight, killed)]
    hidden = [path.name for path in killed.iterdir() if ".part" in path.name or ".process_" in path.name]
    found = [f"left over: {name}" for name in hidden]
    return found + ([] if contents[0] == contents[1] else [f"{DETECTIONS} differ"])


def run(folder: Path, args: argparse.Namespace) -> int:
    """Returns the number of differences."""
    data = folder / "data"
    videos = 4 + STEPS_PER_KILL * (args.kills + 1) if args.testing else 1
    make_dataset(data, Plan(Settings(width=128, height=96, frames=6), 2, videos, 0))
    weights = None
    if args.testing:
        training = argparse.Namespace(**vars(args) | {"processes": 1, "kills": 1})
        words = words_of(training, data, "train_end2end.py")
        run_undisturbed(Command([*words, "TRAIN.VALIDATE_EPOCHS=0"], folder / "training", testing=False))
        (weights,) = (folder / "training").glob("output/*/*/tiny-0002.pth")
    words = words_of(args, data, "test.py" if args.testing else "train_end2end.py", weights)
    straight, killed = (Command(words, folder / name, args.testing) for name in ("straight", "killed"))
    run_undisturbed(straight)
    killed.begun = straight.begun
    total = videos if args.testing else straight.steps()
    run_with_kills(killed, total, args)
    folders = [next(command.folder.glob("output/*/*/*.log")).parent for command in (straight, killed)]
    found = (compare_tests if args.testing else compare_trainings)(*folders)
    for line in found:
        print(f"DIFFERENT: {line}")
    what = "test" if args.testing else "training"
    print(
        f"{args.kills} kills of a {what} of {total} steps in {args.processes} processes (seed {args.seed}): "
        f"{f'{len(found)} differences' if found else 'the same, bit for bit'}"
    )
    return len(found)


def main(argv: Sequence[str] | None = None) -> int:
    """Returns the exit status."""
    args = parse_arguments(argv)
    if not Path("/proc/self/environ").exists():
        raise InputError("this tool finds the processes of a run in /proc, which only Linux has")
    if args.work_dir is not None:
        args.work_dir.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=args.work_dir, prefix="interrupt_") as name:
        return min(1, run(Path(name).resolve(), args))


if __name__ == "__main__":
    run_script(main)
