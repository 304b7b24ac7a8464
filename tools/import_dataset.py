"""Turn boxes in COCO-VID JSON, CSV or YOLO's layout, with their images or videos, into a data set to train and test on.

A source is told by its ending: .json (COCO or COCO-VID), .csv or a folder of .csv files (columns frame, label, x1, y1,
x2, y2 and, where there are any, track and video), .yaml (YOLO's data.yaml). It writes the layout of data/README.md:
images are linked or copied, the frames of video files become JPEG. Images that are no part of a video become stills.

Boxes of a CSV file are taken as this project counts them: pixels from 0, the last row and column in the box;
--convention says otherwise. A COCO box x, y, width, height covers the pixels x to x + width - 1; YOLO's shares are of
the whole image. Nothing is written where anything is wrong, a video to train on and to test on for example: one message
names the file and the line or key.

Example: python tools/import_dataset.py --train boxes --frames videos --val-share 0.2 --out data/mine
Example: python tools/import_dataset.py --train train.json --val val.json --frames images --out data/mine
Example: python tools/import_dataset.py --train yolo/data.yaml --val yolo/data.yaml --out data/mine
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from lib.command_line import add_workers_argument, count, positive_count, run_script, share
from lib.data.classes import load_classes
from lib.data.image_set_making import FRAMES_PER_VIDEO
from lib.importing.coco import read_coco
from lib.importing.csv_boxes import CONVENTIONS, read_csv
from lib.importing.source import ImportingError, Source, class_order, require_apart, require_known
from lib.importing.writer import DatasetWriter, Written, annotation_names, new_dataset, write_lists
from lib.importing.yolo import read_yolo


def parse_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--train", nargs="+", default=[], type=Path, metavar="SOURCE", help="boxes to train on")
    test = parser.add_mutually_exclusive_group()
    test.add_argument("--val", nargs="+", default=[], type=Path, metavar="SOURCE", help="boxes to test on")
    test.add_argument(
        "--val-share",
        type=share,
        default=0.0,
        metavar="SHARE",
        help="instead: test on this share of the videos of --train, evenly spaced, and train on the others",
    )
    parser.add_argument(
        "--frames", type=Path, metavar="DIR", help="where the images or videos are; default: the source's folder"
    )
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="the data set: a new or empty folder")
    parser.add_argument("--classes", metavar="FILE", help="classes in order; default: as listed, or all, by name")
    parser.add_argument(
        "--convention",
        choices=CONVENTIONS,
        default="0-inclusive",
        help="of boxes in CSV: the number of the first pixel, and whether x2, y2 is in the box; default: %(default)s",
    )
    parser.add_argument(
        "--first-frame", type=count, default=0, metavar="N", help="number of a video file's first frame; default: 0"
    )
    parser.add_argument(
        "--videos-by-name",
        action="store_true",
        help="YOLO: images whose names differ in nothing but the number at their end are a video",
    )
    parser.add_argument(
        "--frames-per-video",
        type=positive_count,
        default=FRAMES_PER_VIDEO,
        metavar="N",
        help="frames of a training video to train on, of those with boxes; default: %(default)s",
    )
    parser.add_argument("--copy", action="store_true", help="copy images; default: hard links where possible")
    add_workers_argument(parser)
    args = parser.parse_args(arguments)
    if not args.train and not args.val:
        parser.error("give --train, or --val, or both")
    if args.val_share and not args.train:
        parser.error("--val-share is a share of --train")
    return args


def read_source(path: Path, split: str, args: argparse.Namespace) -> Source:
    """One source. Raises InputError."""
    frames = args.frames or (path if path.is_dir() else path.parent)
    kind = path.suffix.lower()
    if not path.exists():
        raise ImportingError(f"{path}: no such file or folder")
    if not frames.exists():
        raise ImportingError(f"{frames}: no such folder; correct --frames")
    if path.is_dir() or kind == ".csv":
        return read_csv(path, frames, args.convention, args.first_frame)
    if kind == ".json":
        return read_coco(path, frames)
    if kind in (".yaml", ".yml"):
        return read_yolo(path, split, args.videos_by_name)
    raise ImportingError(f"{path}: a source is .json (COCO-VID), .csv, a folder of .csv files or .yaml (YOLO)")


def hold_out(sources: Sequence[Source], portion: float) -> tuple[list[Source], list[Source]]:
    """(training, test) sources: every n-th video is held out, at least one and not all. Raises ImportingError."""
    total = sum(len(source.videos) for source in sources)
    wanted = min(max(1, round(portion * total)), total - 1)
    if total < 2:
        raise ImportingError(f"{sources[0].name}: --val-share needs at least two videos, and there is one")
    chosen = {(2 * i + 1) * total // (2 * wanted) for i in range(wanted)}
    train, val, position = [], [], 0
    for source in sources:
        sides: tuple[list, list] = ([], [])
        for video in source.videos:
            sides[position in chosen].append(video)
            position += 1
        train.append(replace(source, videos=sides[0]))
        val.append(replace(source, videos=sides[1], left_out=[]))
    return train, val


def report(split: str, written: Written, labels: Sequence[str]) -> None:
    """Say what a split has."""
    boxes = ", ".join(f"{label} {written.objects[label]}" for label in labels)
    print(
        f"{split}: {len(written.videos)} videos, {len(written.stills)} stills, {written.frames} frames of which "
        f"{written.empty} show no object; boxes: {boxes}"
    )


def main(arguments: Sequence[str] | None = None) -> None:
    """Import what `arguments` name. Raises InputError."""
    args = parse_arguments(arguments)
    with new_dataset(args.out) as root:
        train = [read_source(path, "train", args) for path in args.train]
        val = [read_source(path, "val", args) for path in args.val]
        if args.classes:
            classes = load_classes(args.classes)
            labels = list(classes.names)
            names = dict(zip(classes.names, classes.annotation_names, strict=True))
        else:
            labels = class_order(train or val)
            names = annotation_names(labels)
        require_known([*train, *val], labels)
        require_apart(train, val)
        if args.val_share:
            train, val = hold_out(train, args.val_share)
        writer = DatasetWriter(root, names, args.copy, args.workers, args.frames_per_video)
        done: dict[str, Written] = {}
        for split, sources in (("train", train), ("val", val)):
            videos = [video for source in sources for video in source.videos]
            if videos:
                done[split] = writer.write(split, videos)
            if sources and (not videos or not done[split].objects):
                raise ImportingError(f"{sources[0].name}: shows no object; it needs boxes")
        lists = write_lists(root, names, done.get("train"), done.get("val"))
    for split, written in done.items():
        report(split, written, labels)
    for source in (*train, *val):
        for sentence in source.left_out:
            print(f"left out of {source.name}: {sentence}")
    print(f"{args.out}: {', '.join(f'{name} ({number})' for name, number in lists.items())}")
    print(f"next: python tools/check_dataset.py --dataset-path {args.out}")


if __name__ == "__main__":
    run_script(main)
