"""A report on saved results, one HTML file: AP by class, motion and size, curves, errors, confusion, pictures of clips.

Each RESULTS is a run: its results file, or the folder of a test with detections.txt in it. Several runs are shown side
by side. Runs that are still going are compared on the clips that all of them have done.

Example: python tools/report.py output/rfcn/VID_val_videos output/fgfa/VID_val_videos --dataset-path data/ILSVRC2015
"""

from __future__ import annotations

import argparse
import datetime
import os
import sys
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
from tqdm import tqdm

from lib.command_line import add_cache_argument, add_classes_argument, run_tool
from lib.data.classes import load_classes
from lib.data.imagenet_vid import ImageNetVID
from lib.evaluation.evaluate import Coverage, find_motion
from lib.evaluation.results_file import ResultsError, Unfinished, find_results
from lib.evaluation.subset import choose_videos, detections_of_frames, truth_of_frames
from lib.report.analysis import Analysis, analyse, size_ranges
from lib.report.clips import ReportVideo
from lib.report.page import SECTIONS, ReportError, make_page
from lib.report.pictures import write_file
from lib.report.provenance import find_provenance
from lib.report.sections import Subject
from tools.evaluate import Source

_RESULTS = "detections.txt"  # of a test, in its folder


def parse_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", nargs="+", metavar="RESULTS", help="results file or folder, one for each run")
    parser.add_argument("-o", "--out", default="report.html", metavar="FILE", help="default: %(default)s")
    parser.add_argument("--names", nargs="+", metavar="NAME", help="of the runs; default: what their paths differ in")
    data = parser.add_mutually_exclusive_group(required=True)
    data.add_argument("--dataset-path", metavar="DIR", help="folder with Annotations and ImageSets")
    data.add_argument("--ground-truth", metavar="FILE", help="COCO-VID JSON in place of it; there are no pictures then")
    parser.add_argument("--image-set", default="VID_val_videos", metavar="NAME", help="default: %(default)s")
    parser.add_argument(
        "--videos", default="", metavar="WHICH", help="only the first N videos, or names: a,b; default: all"
    )
    parser.add_argument(
        "--motion-iou", default="", metavar="FILE", help=".mat file; default: computed from the track ids"
    )
    parser.add_argument("--save-pngs", metavar="DIR", help="also write every picture to this folder")
    add_classes_argument(parser)
    add_cache_argument(parser)
    args = parser.parse_args(arguments)
    if args.names and len(args.names) != len(args.results):
        parser.error(f"{len(args.names)} names for {len(args.results)} runs; give one for each")
    return args


def run_names(paths: Sequence[Path]) -> list[str]:
    """What the paths differ in; of a single run, its configuration where it lies as the scripts leave it."""
    parts = [path.absolute().with_suffix("").parts for path in paths]
    if len(paths) == 1:
        return [parts[0][-3] if paths[0].name == _RESULTS and len(parts[0]) > 3 else parts[0][-1]]
    same = min(map(len, parts))
    start = next((i for i in range(same) if len({p[i] for p in parts}) > 1), same - 1)
    end = next((i for i in range(1, same) if len({p[-i] for p in parts}) > 1), 1) - 1
    return ["/".join(p[start : len(p) - end]) or p[-1] for p in parts]


def frames_to_compare(
    results: Sequence[Path | Unfinished], videos: str, names: Sequence[str], frame_videos: np.ndarray
) -> np.ndarray:
    """(F,) bool: the frames of the videos that are asked for and that every run has done.

    names: of the image set's videos. frame_videos: (F,) the video of each frame. Raises ResultsError without any.
    """
    wanted = choose_videos(videos, names) if videos else np.ones(len(names), bool)
    for file in results:
        if isinstance(file, Unfinished):
            wanted &= np.arange(len(names)) < file.done
    if not wanted.any():
        raise ResultsError("no video is done in every run yet; try again later")
    return wanted[frame_videos]


def clips_of(args: argparse.Namespace, source: Source) -> list[ReportVideo]:
    """The videos of the data set with the files of their frames; COCO-VID JSON does not say where those are."""
    if args.ground_truth:
        lengths = np.bincount(source.truth.videos, minlength=len(source.videos)).tolist()
        return [ReportVideo(name, [""] * length) for name, length in zip(source.videos, lengths, strict=True)]
    classes = load_classes(args.classes, args.dataset_path)
    videos = ImageNetVID(args.dataset_path, args.image_set, classes, args.cache).videos()
    return [ReportVideo(video.name, [video.frame_path(i) for i in range(video.length)]) for video in videos]


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the report that `arguments` ask for, the command line where None; returns 0. Raises InputError."""
    args = parse_arguments(arguments)
    paths = [Path(name, _RESULTS) if Path(name).is_dir() else Path(name) for name in args.results]
    results = [find_results(path) for path in paths]
    source = Source.of(args)
    whole = source.truth
    chosen = frames_to_compare(results, args.videos, source.videos, whole.videos)
    motion, motion_source = find_motion(whole, args.motion_iou, chosen)
    truth = whole if chosen.all() else truth_of_frames(whole, chosen)
    sizes, size_words = size_ranges(truth)

    runs: list[Analysis] = []
    with tqdm(total=len(results) + len(SECTIONS), unit="part") as bar:
        for path, found, name in zip(paths, results, args.names or run_names(paths), strict=True):
            bar.set_description(name)
            table = source.read([found], whole.num_frames, len(whole.class_names))
            table = table if chosen.all() else detections_of_frames(table.sorted_by_frame(), chosen)
            done = float((whole.videos < found.done).mean()) if isinstance(found, Unfinished) else 1.0
            provenance = find_provenance(path)
            runs.append(analyse(name, os.fspath(found), provenance, truth, table, motion, sizes, done))
            bar.update()
        part = "" if chosen.all() else f"Only a part of the image set: {Coverage.of(whole, chosen)}."
        where = args.ground_truth or f"{args.image_set} of {args.dataset_path}"
        subject = Subject(truth, clips_of(args, source), where, motion_source, size_words, part)

        def begun(section: str) -> None:
            bar.set_description(section)
            bar.update()

        now = datetime.datetime.now().astimezone().strftime("%Y-%m-%d %H:%M %Z")
        page = make_page(subject, runs, f"Made {now} by tools/report.py.", begun)
    out = Path(args.out)
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        write_file(out, page.encode("utf-8"))
        if args.save_pngs:
            subject.album.save(args.save_pngs)
    except OSError as error:
        raise ReportError(f"{error.filename or out}: cannot be written ({error.strerror}); name another") from error
    print(f"{out}: {len(page) / 1e6:.1f} MB, open it in a browser")
    for run in runs:
        print(f"{run.name}: mean AP {100 * run.mean_ap:.2f}")
    return 0


if __name__ == "__main__":
    run_tool(main)
