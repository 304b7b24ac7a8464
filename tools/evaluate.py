"""Evaluate saved results, without a model: mean AP, and AP of fast, medium and slow objects by ImageNet VID's rules.

Example: python tools/evaluate.py --dataset-path data/ILSVRC2015 --image-set VID_val_videos --results detections.txt
"""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from lib.data.classes import load_classes
from lib.data.imagenet_vid import ImageNetVID
from lib.errors import InputError
from lib.evaluation.report import evaluate, write_json


def parse_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset-path", required=True, metavar="DIR", help="folder with Annotations and ImageSets")
    parser.add_argument("--image-set", default="VID_val_videos", metavar="NAME", help="default: %(default)s")
    parser.add_argument(
        "--results",
        required=True,
        nargs="+",
        metavar="FILE",
        help="lines 'frame_id class score x1 y1 x2 y2'; several files are the parts of one run",
    )
    parser.add_argument(
        "--motion-iou", default="", metavar="FILE", help=".mat file; default: computed from the track ids"
    )
    parser.add_argument("--json", metavar="OUT", help="also write the figures to this file")
    parser.add_argument(
        "--classes", default="", metavar="FILE", help="default: DIR/classes.txt, or else ImageNet VID's 30 classes"
    )
    parser.add_argument(
        "--cache", default="data/cache", metavar="DIR", help="for the index of the annotations; default: %(default)s"
    )
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> None:
    """Evaluate as `arguments` say, the command line where None. Raises InputError."""
    args = parse_arguments(arguments)
    classes = load_classes(args.classes, args.dataset_path)
    truth = ImageNetVID(args.dataset_path, args.image_set, classes, args.cache).ground_truth()
    evaluation = evaluate(truth, args.results, args.motion_iou)
    print(evaluation.table())
    if args.json:
        write_json(args.json, evaluation.to_json())


if __name__ == "__main__":
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s: %(message)s")
    try:
        main()
    except InputError as error:
        sys.exit(f"error: {error}")
