"""Stream many frames through Deep Feature Flow and FGFA, and watch memory, open files and threads of the process.

A tiny network with random weights reads one endless video through the Python API, as a camera would feed it. Prints a
row for every twentieth of the frames. Ends with status 1 if anything grows: open files or threads at all, resident
memory by more than --allow from the second fifth of the frames to the last (the first fifth fills caches). Linux only.

Example: python tools/stream_memory.py --frames 10000 --out output/stream_memory.json
"""

from __future__ import annotations

import argparse
import importlib
import itertools
import os
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
import torch

from lib.command_line import positive_count, positive_number, run_script
from lib.config import load_config
from lib.data.classes import Classes
from lib.errors import InputError
from lib.files import check_output, write_json
from lib.video_detector import VideoDetector

METHODS = ("dff", "fgfa")
_HEIGHT, _WIDTH = 64, 96
_PICTURES = 7  # different frames, which come again and again
_FEWEST, _SAMPLES, _ROWS = 50, 200, 20  # frames; times that the process is looked at; rows printed
_TINY = (
    f"SCALES=[[{_HEIGHT}, {_WIDTH}]]",
    "network.DEPTH=18",
    "network.WIDTH=8",
    "network.FEAT_DIM=16",
    "network.FGFA_FEAT_DIM=32",
    "network.FLOW_WIDTH=0.0625",
    "network.ANCHOR_RATIOS=[1]",
    "network.ANCHOR_SCALES=[2]",
    "TEST.RPN_POST_NMS_TOP_N=20",
    "TEST.KEY_FRAME_INTERVAL=2",
)


class NoProcError(InputError):
    """A system that does not show a process's memory, files and threads under /proc."""


@dataclass(frozen=True)
class Sample:
    """The process after `frames` answered frames."""

    frames: int
    resident_mib: float
    open_files: int
    threads: int


def sample(frames: int) -> Sample:
    """This process as it is now. Raises NoProcError."""
    try:
        status = Path("/proc/self/status").read_text(encoding="utf-8")
        open_files = len(os.listdir("/proc/self/fd"))
    except OSError as error:
        raise NoProcError(f"/proc/self: cannot be read ({error.strerror}); this tool needs Linux") from error
    numbers = dict(line.split(":", 1) for line in status.splitlines())
    return Sample(frames, int(numbers["VmRSS"].split()[0]) / 1024, open_files, int(numbers["Threads"]))


def tiny_detector(method: str) -> VideoDetector:
    """A detector of `method` with random weights, on the CPU; every frame has detections."""
    torch.manual_seed(0)
    rules = importlib.import_module(f"{method}.method").METHOD
    cfg, classes = load_config(None, list(_TINY)), Classes(("cat", "dog"), ("cat", "dog"))
    return VideoDetector(rules.build(cfg, classes.num_classes).eval(), cfg, classes, rules, score_threshold=0.01)


def pictures(frames: int) -> Iterator[np.ndarray]:
    """Noise, (height, width, 3) uint8, a new array for each frame."""
    kept = np.random.RandomState(0).randint(0, 256, (_PICTURES, _HEIGHT, _WIDTH, 3)).astype(np.uint8)
    return (picture.copy() for picture in itertools.islice(itertools.cycle(kept), frames))


def watch(method: str, frames: int) -> list[Sample]:
    """Stream `frames` frames, and look at the process about 200 times on the way."""
    every, samples = max(1, frames // _SAMPLES), []
    for done, _ in enumerate(tiny_detector(method)(pictures(frames)), 1):
        if done % every == 0:
            samples.append(sample(done))
    return samples


def growth(samples: Sequence[Sample], allowed_mib: float) -> list[str]:
    """What grew from the second fifth of the samples to the last, by their largest values; empty if nothing did."""
    fifth = len(samples) // 5
    before, after = samples[fifth : 2 * fifth], samples[-fifth:]
    found = []
    for name, unit, allowed in (("resident_mib", "MiB", allowed_mib), ("open_files", "", 0), ("threads", "", 0)):
        low, high = (max(getattr(one, name) for one in part) for part in (before, after))
        if high - low > allowed:
            found.append(
                f"{name.replace('_mib', ' memory').replace('_', ' ')}: from {low:g} to {high:g} {unit}".strip()
            )
    return found


def table(samples: Sequence[Sample]) -> str:
    """About twenty of the samples, the last of them included."""
    every = max(1, len(samples) // _ROWS)
    lines = [f"{'frames':>8}{'resident MiB':>14}{'open files':>12}{'threads':>9}"]
    for one in samples[::-1][::every][::-1]:
        lines.append(f"{one.frames:>8}{one.resident_mib:>14.1f}{one.open_files:>12}{one.threads:>9}")
    return "\n".join(lines)


def _frames(text: str) -> int:
    number = positive_count(text)
    if number < _FEWEST:
        raise argparse.ArgumentTypeError(f"must be at least {_FEWEST}, not {text}")
    return number


def parse_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=list(METHODS))
    parser.add_argument("--frames", type=_frames, default=10000, metavar="N", help="default: %(default)s")
    parser.add_argument(
        "--allow", type=positive_number, default=16.0, metavar="MIB", help="growth of memory; default: %(default)s"
    )
    parser.add_argument("--out", type=Path, metavar="FILE", help="JSON with all samples")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns 1 where something grew."""
    args = parse_arguments(arguments)
    if args.out:
        check_output(args.out)
    curves, grew = {}, False
    for method in args.methods:
        samples = watch(method, args.frames)
        found = growth(samples, args.allow)
        grew = grew or bool(found)
        print(f"{method}, {args.frames} frames of one video\n{table(samples)}")
        print("\n".join(f"grew: {line}" for line in found) or "nothing grew", flush=True)
        curves[method] = [asdict(one) for one in samples]
    if args.out:
        write_json(args.out, curves)
    return int(grew)


if __name__ == "__main__":
    run_script(main)
