"""Evaluate saved results, without a model: mean AP, and AP of fast, medium and slow objects by ImageNet VID's rules.

The results may be those of a run that is still going: what it has done so far is evaluated, and its share is said.
Raw results (`test.py --raw`) can be given Seq-NMS first, so that it can be tried without running a network again.

Example: python tools/evaluate.py --dataset-path data/ILSVRC2015 --image-set VID_val_videos --results detections.txt
Example: python tools/evaluate.py --dataset-path data/ILSVRC2015 --results raw_detections.txt --seq-nms --workers 4
"""

from __future__ import annotations

import argparse
import logging
import os
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
from tqdm import tqdm

from lib.data.classes import load_classes
from lib.data.imagenet_vid import ImageNetVID
from lib.errors import InputError
from lib.evaluation.report import evaluate, write_json
from lib.evaluation.results_file import (
    DetectionTable,
    ResultsError,
    ResultsWriter,
    Unfinished,
    find_results,
    read_blocks,
)
from lib.evaluation.seq_nms import seq_nms_blocks
from lib.evaluation.subset import choose_videos
from lib.structures import GroundTruth


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
        "--videos", default="", metavar="WHICH", help="only the first N videos, or names: a,b; default: all"
    )
    parser.add_argument("--seq-nms", action="store_true", help="the results are raw: Seq-NMS first, then NMS at 0.3")
    parser.add_argument("--save-results", metavar="OUT", help="with --seq-nms: keep what it makes of the results")
    parser.add_argument(
        "--workers", type=int, default=1, metavar="N", help="threads for Seq-NMS; the result is the same"
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
    args = parser.parse_args(arguments)
    if args.save_results and not args.seq_nms:
        parser.error("--save-results keeps what --seq-nms makes of the results; give both")
    if args.save_results and any(Path(args.save_results).resolve() == Path(f).resolve() for f in args.results):
        parser.error(f"--save-results {args.save_results} would overwrite the raw results")
    return args


def frames_to_evaluate(
    results: Sequence[Path | Unfinished], videos: str, names: Sequence[str], truth: GroundTruth
) -> np.ndarray | None:
    """(F,) bool: the frames of the videos that are asked for and done; None: all. names: of the image set's videos."""
    unfinished = [file for file in results if isinstance(file, Unfinished)]
    if not unfinished and not videos:
        return None
    wanted = choose_videos(videos, names) if videos else np.ones(len(names), bool)
    if unfinished:
        if len(results) > 1:
            raise ResultsError(f"{unfinished[0].path}: of a run that is not finished; give it alone")
        wanted &= np.arange(len(names)) < unfinished[0].done
        print(f"{unfinished[0].path}: the run has done {unfinished[0].done} of {len(names)} videos so far")
        if not wanted.any():
            raise ResultsError(f"{unfinished[0].path}: no video of those asked for is done yet; try again later")
    return wanted[truth.videos]


def apply_seq_nms(
    results: Sequence[Path | Unfinished], truth: GroundTruth, chosen: np.ndarray | None, out: Path, workers: int
) -> None:
    """Write to `out` what Seq-NMS, and the NMS after it, makes of raw results, video after video."""

    def blocks() -> Iterator[DetectionTable]:
        for file in results:
            for block in read_blocks(file, truth.num_frames, len(truth.class_names)):
                yield block if chosen is None else block[chosen[block.frames]]

    frames = truth.num_frames if chosen is None else int(chosen.sum())
    with ResultsWriter(out) as writer, tqdm(total=frames, unit="frame", desc="Seq-NMS", delay=1) as bar:
        for video in seq_nms_blocks(blocks(), truth.videos, workers=workers):
            writer.add_table(video)
            bar.update(len(np.unique(video.frames)))


def main(arguments: Sequence[str] | None = None) -> None:
    """Evaluate as `arguments` say, the command line where None. Raises InputError."""
    args = parse_arguments(arguments)
    results = [find_results(file) for file in args.results]
    classes = load_classes(args.classes, args.dataset_path)
    dataset = ImageNetVID(args.dataset_path, args.image_set, classes, args.cache)
    truth = dataset.ground_truth()
    chosen = frames_to_evaluate(results, args.videos, [video.name for video in dataset.videos()], truth)
    with tempfile.TemporaryDirectory() as scratch:
        if args.seq_nms:
            out = Path(args.save_results or os.path.join(scratch, "rescored.txt"))
            apply_seq_nms(results, truth, chosen, out, args.workers)
            results = [out]
        evaluation = evaluate(truth, results, args.motion_iou, chosen=chosen)
    if args.seq_nms:
        evaluation.files = [f"{file} with Seq-NMS" for file in args.results]
    print(evaluation.table())
    if args.json:
        write_json(args.json, evaluation.to_json())


if __name__ == "__main__":
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s: %(message)s")
    try:
        main()
    except InputError as error:
        sys.exit(f"error: {error}")
