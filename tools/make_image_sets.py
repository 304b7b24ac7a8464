"""Make the lists of an image set from the files of a data set: which images and frames to train and to test on.

The four lists of the originals: DET_train_30classes, VID_train_15frames, VID_val_videos and VID_val_frames. Only those
whose files the data set has are made.

Example: python tools/make_image_sets.py --data data/ILSVRC2015
Example: python tools/make_image_sets.py --data data/mine --frames-per-video 20 --only VID_train_15frames
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from lib.command_line import add_classes_argument, run_tool
from lib.data.classes import load_classes
from lib.data.image_set_making import (
    FRAMES_PER_VIDEO,
    STILLS_PER_CLASS,
    find_videos,
    frame_lines,
    still_lines,
    training_lines,
    video_lines,
)
from lib.data.image_sets import DatasetError

# What each list needs, below Data or Annotations
NEEDS = {
    "DET_train_30classes": "DET/train",
    "VID_train_15frames": "VID/train",
    "VID_val_videos": "VID/val",
    "VID_val_frames": "VID/val",
}


def parse_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, type=Path, metavar="DIR", help="folder with Data and Annotations")
    parser.add_argument("--out", type=Path, metavar="DIR", help="default: ImageSets in the data set's folder")
    parser.add_argument(
        "--only", nargs="+", choices=NEEDS, default=list(NEEDS), metavar="LIST", help="default: all four"
    )
    parser.add_argument(
        "--frames-per-video", type=int, default=FRAMES_PER_VIDEO, help="to train on; default: %(default)s"
    )
    parser.add_argument(
        "--stills-per-class", type=int, default=STILLS_PER_CLASS, help="0: all; default: %(default)s, but all of snake"
    )
    add_classes_argument(parser)
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1, help="processes; the result is the same")
    parser.add_argument("--overwrite", action="store_true", help="replace lists that are there already")
    args = parser.parse_args(arguments)
    if args.frames_per_video < 1 or args.stills_per_class < 0:
        parser.error("--frames-per-video must be at least 1, --stills-per-class at least 0")
    return args


def write_list(path: Path, lines: Iterator[str]) -> int:
    """Write `lines` in one step; returns their number."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"{path.name}.part")
    count = 0
    try:
        with open(part, "w", encoding="utf-8") as file:
            for count, line in enumerate(lines, 1):  # noqa: B007 (the last one is the number of lines)
                file.write(f"{line}\n")
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)
    return count


def main(arguments: Sequence[str] | None = None) -> int:
    """Make the lists that `arguments` ask for. Raises InputError."""
    args = parse_arguments(arguments)
    out = args.out or args.data / "ImageSets"
    here = [
        name for name in args.only if any((args.data / kind / NEEDS[name]).is_dir() for kind in ("Data", "Annotations"))
    ]
    if not here:
        raise DatasetError(
            f"{args.data}: has no folder {' or '.join(sorted({NEEDS[n] for n in args.only}))} below Data or Annotations"
        )
    there = [out / f"{name}.txt" for name in here if (out / f"{name}.txt").exists()]
    if there and not args.overwrite:
        raise DatasetError(f"{there[0]}: is there already; --overwrite replaces it, --out writes elsewhere")
    classes = load_classes(args.classes, args.data)
    videos = cache(lambda split: find_videos(args.data, split))
    make: dict[str, Callable[[], Iterator[str]]] = {
        "DET_train_30classes": lambda: still_lines(args.data, classes, args.stills_per_class, workers=args.workers),
        "VID_train_15frames": lambda: training_lines(videos("train"), args.frames_per_video),
        "VID_val_videos": lambda: video_lines(videos("val")),
        "VID_val_frames": lambda: frame_lines(videos("val")),
    }
    for name in here:
        print(f"{out / name}.txt: {write_list(out / f'{name}.txt', make[name]())} lines")
    for name in set(args.only) - set(here):
        print(f"{name}: left out, the data set has no {NEEDS[name]}")
    return 0


if __name__ == "__main__":
    run_tool(main)
