"""Export the ground truth of an image set, and results, as COCO-VID JSON.

Example: python tools/export_coco.py --dataset-path data/ILSVRC2015 --out output/coco
Example: python tools/export_coco.py --dataset-path data/ILSVRC2015 --results detections.txt --out output/coco
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from lib.command_line import (
    add_cache_argument,
    add_classes_argument,
    add_dataset_argument,
    add_image_set_argument,
    run_script,
)
from lib.data.classes import load_classes
from lib.data.imagenet_vid import ImageNetVID
from lib.evaluation.coco_files import write_coco_results, write_coco_truth
from lib.evaluation.results_file import find_results, read_blocks
from lib.files import check_output


def parse_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_dataset_argument(parser, required=True)
    add_image_set_argument(parser)
    parser.add_argument(
        "--results", nargs="+", default=[], metavar="FILE", help="lines 'frame_id class score x1 y1 x2 y2'"
    )
    parser.add_argument(
        "--out", required=True, type=Path, metavar="DIR", help="folder for ground_truth.json and detections.json"
    )
    add_classes_argument(parser)
    add_cache_argument(parser)
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> None:
    """Write what `arguments` ask for. Raises InputError."""
    args = parse_arguments(arguments)
    truth_file, results_file = (args.out / name for name in ("ground_truth.json", "detections.json"))
    for path in (truth_file, *([results_file] if args.results else [])):
        check_output(path)
    results = [find_results(file) for file in args.results]
    classes = load_classes(args.classes, args.dataset_path)
    dataset = ImageNetVID(args.dataset_path, args.image_set, classes, args.cache)
    truth, index = dataset.ground_truth(), dataset.index
    top = os.path.join(args.dataset_path, "Data", dataset.image_set.kind)
    files = [Path(os.path.relpath(path, top)).as_posix() for path in dataset.frame_paths()]
    sizes = np.stack((index.widths, index.heights), axis=1)
    write_coco_truth(truth_file, truth, [video.name for video in dataset.videos()], files, sizes)
    print(f"{truth_file}: {truth.num_frames} images, {len(truth.labels)} annotations")
    if results:
        blocks = (block for file in results for block in read_blocks(file, truth.num_frames, len(truth.class_names)))
        write_coco_results(results_file, blocks)
        print(f"{results_file}: written")


if __name__ == "__main__":
    run_script(main)
