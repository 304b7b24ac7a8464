"""Make the image set lists of a data set from its files: which images and frames to train and to test on.

The lists are the four of the originals: DET_train_30classes, VID_train_15frames, VID_val_videos and VID_val_frames. A
list is left out where the data set lacks the files for it.

Example: python tools/make_image_sets.py --dataset-path data/ILSVRC2015
Example: python tools/make_image_sets.py --dataset-path data/mine --frames-per-video 20 --only VID_train_15frames
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from pathlib import Path

from lib.command_line import (
    add_classes_argument,
    add_dataset_argument,
    add_workers_argument,
    count,
    run_script,
)
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
from lib.files import check_output, writing

# What each list needs, below Data or Annotations
NEEDS = {
    "DET_train_30classes": "DET/train",
    "VID_train_15frames": "VID/train",
    "VID_val_videos": "VID/val",
    "VID_val_frames": "VID/val",
}


def parse_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_dataset_argument(parser, required=True)
    parser.add_argument("--out", type=Path, metavar="DIR", help="default: ImageSets in the data set's folder")
    parser.add_argument(
        "--only", nargs="+", choices=NEEDS, default=list(NEEDS), metavar="LIST", help="default: all four"
    )
    parser.add_argument(
        "--frames-per-video",
        type=count,
        default=FRAMES_PER_VIDEO,
        help="training frames of a video; default: %(default)s",
    )
    parser.add_argument(
        "--stills-per-class",
        type=count,
        default=STILLS_PER_CLASS,
        help="training images of a class; 0: all; default: %(default)s, but all of snake",
    )
    add_classes_argument(parser)
    add_workers_argument(parser)
    parser.add_argument("--overwrite", action="store_true", help="replace lists that are there already")
    args = parser.parse_args(arguments)
    if args.frames_per_video < 1:
        parser.error("--frames-per-video must be at least 1")
    return args


def write_list(path: Path, lines: Iterator[str]) -> int:
    """Write `lines`, whole or not at all; returns their number. Raises OutputError."""
    number = 0
    with writing(path, text=True) as file:
        for number, line in enumerate(lines, 1):  # noqa: B007 (the last one is the number of lines)
            file.write(f"{line}\n")
    return number


def main(arguments: Sequence[str] | None = None) -> None:
    """Make the lists that `arguments` ask for. Raises InputError."""
    args = parse_arguments(arguments)
    root = Path(args.dataset_path)
    out = args.out or root / "ImageSets"
    here = [name for name in args.only if any((root / kind / NEEDS[name]).is_dir() for kind in ("Data", "Annotations"))]
    if not here:
        raise DatasetError(
            f"{root}: has no folder {' or '.join(sorted({NEEDS[n] for n in args.only}))} below Data or Annotations"
        )
    there = [out / f"{name}.txt" for name in here if (out / f"{name}.txt").exists()]
    if there and not args.overwrite:
        raise DatasetError(f"{there[0]}: is there already; --overwrite replaces it, --out writes elsewhere")
    for name in here:
        check_output(out / f"{name}.txt")
    classes = load_classes(args.classes, root)
    videos = cache(lambda split: find_videos(root, split))
    lengths = cache(lambda split: {name: len(stems) for name, stems in videos(split).items()})
    make: dict[str, Callable[[], Iterator[str]]] = {
        "DET_train_30classes": lambda: still_lines(root, classes, args.stills_per_class, workers=args.workers),
        "VID_train_15frames": lambda: training_lines(lengths("train"), args.frames_per_video),
        "VID_val_videos": lambda: video_lines(lengths("val")),
        "VID_val_frames": lambda: frame_lines(videos("val")),
    }
    for name in here:
        print(f"{out / name}.txt: {write_list(out / f'{name}.txt', make[name]())} lines")
    for name in set(args.only) - set(here):
        print(f"{name}: left out, the data set has no {NEEDS[name]}")


if __name__ == "__main__":
    run_script(main)
