"""Evaluate saved results without a model: mean AP, and AP of slow, medium and fast objects (ImageNet VID's rules).

An unfinished run is evaluated on the videos that it has finished. Raw results (test.py --raw) can be given Seq-NMS
first, so that it can be tried without running a network again. Ground truth and results may also be COCO-VID JSON.

Example: python tools/evaluate.py --dataset-path data/ILSVRC2015 --image-set VID_val_videos --results detections.txt
Example: python tools/evaluate.py --dataset-path data/ILSVRC2015 --results raw_detections.txt --seq-nms --workers 4
"""

from __future__ import annotations

import argparse
import os
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from tqdm import tqdm

from lib.command_line import add_evaluation_arguments, count, run_script
from lib.data.classes import load_classes
from lib.data.imagenet_vid import ImageNetVID
from lib.evaluation.evaluate import evaluate, find_motion
from lib.evaluation.evaluation_data import EvaluationData
from lib.evaluation.results_file import DetectionTable, ResultsError, ResultsWriter, Unfinished, find_results
from lib.evaluation.seq_nms import seq_nms_blocks
from lib.files import check_output, write_json, write_text


def parse_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_evaluation_arguments(parser)
    parser.add_argument(
        "--results",
        required=True,
        nargs="+",
        metavar="FILE",
        help="lines 'frame_id class score x1 y1 x2 y2', or COCO's .json; several files are the parts of one run",
    )
    parser.add_argument("--seq-nms", action="store_true", help="the results are raw: apply Seq-NMS, then NMS at 0.3")
    parser.add_argument("--save-results", metavar="OUT", help="with --seq-nms: write the results after it to this file")
    parser.add_argument(
        "--workers", type=count, default=1, metavar="N", help="threads for Seq-NMS; the result is the same"
    )
    parser.add_argument("--coco", action="store_true", help="also COCO's AP, at IoU 0.5 and over 0.5 to 0.95")
    parser.add_argument("--json", metavar="OUT", help="also write the figures to this file")
    parser.add_argument("--csv", metavar="OUT", help="also write the table to this file")
    args = parser.parse_args(arguments)
    if args.save_results and not args.seq_nms:
        parser.error("--save-results writes what --seq-nms makes of the results; give both")
    if args.save_results and any(Path(args.save_results).resolve() == Path(f).resolve() for f in args.results):
        parser.error(f"--save-results {args.save_results} would overwrite the raw results")
    return args


def open_data(args: argparse.Namespace) -> EvaluationData:
    """The ground truth that the command line names. Raises InputError."""
    if args.ground_truth:
        return EvaluationData.of_coco(args.ground_truth)
    classes = load_classes(args.classes, args.dataset_path)
    dataset = ImageNetVID(args.dataset_path, args.image_set, classes, args.cache)
    return EvaluationData.of_truth(dataset.ground_truth(), [video.name for video in dataset.videos()])


def report_unfinished(results: Sequence[Path | Unfinished], videos: int) -> None:
    """Say how far an unfinished run is. Raises ResultsError where it is one of several files."""
    for file in results:
        if isinstance(file, Unfinished):
            if len(results) > 1:
                raise ResultsError(f"{file.path}: of a run that is not finished; give it alone")
            print(f"{file.path}: the run has finished {file.done} of {videos} videos so far")


def apply_seq_nms(
    results: Sequence[Path | Unfinished], data: EvaluationData, chosen: np.ndarray, out: Path, workers: int
) -> None:
    """Write to `out` what Seq-NMS, and the NMS after it, makes of raw results, video by video.

    chosen: (F,) bool, the frames whose detections are read.
    """

    def blocks() -> Iterator[DetectionTable]:
        for file in results:
            for block in data.blocks(file):
                yield block if chosen.all() else block[chosen[block.frames]]

    with ResultsWriter(out) as writer, tqdm(total=int(chosen.sum()), unit="frame", desc="Seq-NMS", delay=1) as bar:
        for video in seq_nms_blocks(blocks(), data.truth.videos, workers=workers):
            writer.add_table(video)
            bar.update(len(np.unique(video.frames)))


def main(arguments: Sequence[str] | None = None) -> None:
    """Evaluate as `arguments` say, the command line where None. Raises InputError."""
    args = parse_arguments(arguments)
    for path in filter(None, (args.json, args.csv, args.save_results)):
        check_output(path)
    results = [find_results(file) for file in args.results]
    data = open_data(args)
    report_unfinished(results, len(data.videos))
    chosen = data.chosen_frames(results, args.videos)
    motion = find_motion(data.truth, args.motion_iou, chosen)
    with tempfile.TemporaryDirectory() as scratch:
        if args.seq_nms:
            out = Path(args.save_results or os.path.join(scratch, "rescored.txt"))
            apply_seq_nms(results, data, chosen, out, args.workers)
            results = [out]
        evaluation = evaluate(data.truth, results, motion, chosen, data.read, args.coco)
    if args.seq_nms:
        evaluation.files = [f"{file} with Seq-NMS" for file in args.results]
    print(evaluation.table())
    if args.json:
        write_json(args.json, evaluation.to_json())
    if args.csv:
        write_text(args.csv, evaluation.to_csv())


if __name__ == "__main__":
    run_script(main)
