"""Evaluate saved results, without a model: mean AP, and AP of fast, medium and slow objects by ImageNet VID's rules.

The results may be those of a run that is still going: what it has done so far is evaluated, and its share is said.
Raw results (docs/evaluation.md) can be given Seq-NMS first, so that it can be tried without running a network again.
Ground truth and results may also be COCO-VID JSON.

Example: python tools/evaluate.py --dataset-path data/ILSVRC2015 --image-set VID_val_videos --results detections.txt
Example: python tools/evaluate.py --dataset-path data/ILSVRC2015 --results raw_detections.txt --seq-nms --workers 4
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
from tqdm import tqdm

from lib.command_line import add_cache_argument, add_classes_argument, run_tool
from lib.data.classes import load_classes
from lib.data.imagenet_vid import ImageNetVID
from lib.evaluation.coco_files import read_coco_results, read_coco_truth
from lib.evaluation.evaluate import evaluate, write_json, write_text
from lib.evaluation.results_file import (
    DetectionTable,
    ResultsError,
    ResultsWriter,
    Unfinished,
    find_results,
    read_blocks,
    read_results,
)
from lib.evaluation.seq_nms import seq_nms_blocks
from lib.evaluation.subset import choose_videos
from lib.structures import GroundTruth


def parse_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    data = parser.add_mutually_exclusive_group(required=True)
    data.add_argument("--dataset-path", metavar="DIR", help="folder with Annotations and ImageSets")
    data.add_argument("--ground-truth", metavar="FILE", help="COCO-VID JSON in place of a data set's folder")
    parser.add_argument("--image-set", default="VID_val_videos", metavar="NAME", help="default: %(default)s")
    parser.add_argument(
        "--results",
        required=True,
        nargs="+",
        metavar="FILE",
        help="lines 'frame_id class score x1 y1 x2 y2', or COCO's .json; several files are the parts of one run",
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
    parser.add_argument("--coco", action="store_true", help="also COCO's AP, at IoU 0.5 and over 0.5 to 0.95")
    parser.add_argument("--json", metavar="OUT", help="also write the figures to this file")
    parser.add_argument("--csv", metavar="OUT", help="also write the table to this file")
    add_classes_argument(parser)
    add_cache_argument(parser)
    args = parser.parse_args(arguments)
    if args.save_results and not args.seq_nms:
        parser.error("--save-results keeps what --seq-nms makes of the results; give both")
    if args.save_results and any(Path(args.save_results).resolve() == Path(f).resolve() for f in args.results):
        parser.error(f"--save-results {args.save_results} would overwrite the raw results")
    return args


@dataclass(frozen=True)
class Source:
    """Ground truth, the names of its videos, and what JSON results call its images and classes."""

    truth: GroundTruth
    videos: list[str]
    image_ids: Sequence[int]
    category_ids: Sequence[int]

    @staticmethod
    def of(args: argparse.Namespace) -> Source:
        """What the command line asks for. Raises InputError."""
        if args.ground_truth:
            coco = read_coco_truth(args.ground_truth)
            return Source(coco.truth, coco.videos, coco.image_ids, coco.category_ids)
        classes = load_classes(args.classes, args.dataset_path)
        dataset = ImageNetVID(args.dataset_path, args.image_set, classes, args.cache)
        truth, videos = dataset.ground_truth(), [video.name for video in dataset.videos()]
        return Source(truth, videos, range(1, truth.num_frames + 1), range(1, len(truth.class_names) + 1))

    def blocks(self, file: Path | Unfinished) -> Iterator[DetectionTable]:
        """The detections of one file, piece by piece."""
        if is_json(file):
            yield read_coco_results(file, self.image_ids, self.category_ids).sorted_by_frame()
        else:
            yield from read_blocks(file, self.truth.num_frames, len(self.truth.class_names))

    def read(self, files: Sequence[Path | Unfinished], num_frames: int, num_classes: int) -> DetectionTable:
        """The detections of all files."""
        if any(map(is_json, files)):
            return DetectionTable.cat([block for file in files for block in self.blocks(file)])
        return read_results(files, num_frames, num_classes)


def is_json(file: Path | Unfinished) -> bool:
    return Path(file).suffix == ".json"


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
    results: Sequence[Path | Unfinished], source: Source, chosen: np.ndarray | None, out: Path, workers: int
) -> None:
    """Write to `out` what Seq-NMS, and the NMS after it, makes of raw results, video after video."""
    truth = source.truth

    def blocks() -> Iterator[DetectionTable]:
        for file in results:
            for block in source.blocks(file):
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
    source = Source.of(args)
    chosen = frames_to_evaluate(results, args.videos, source.videos, source.truth)
    with tempfile.TemporaryDirectory() as scratch:
        if args.seq_nms:
            out = Path(args.save_results or os.path.join(scratch, "rescored.txt"))
            apply_seq_nms(results, source, chosen, out, args.workers)
            results = [out]
        evaluation = evaluate(source.truth, results, args.motion_iou, chosen=chosen, read=source.read, coco=args.coco)
    if args.seq_nms:
        evaluation.files = [f"{file} with Seq-NMS" for file in args.results]
    print(evaluation.table())
    if args.json:
        write_json(args.json, evaluation.to_json())
    if args.csv:
        write_text(args.csv, evaluation.to_csv())


if __name__ == "__main__":
    run_tool(main)
