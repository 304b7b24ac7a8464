"""Write a report on saved results as one HTML file: AP by class, motion and size, curves, errors, confusion, clips.

Each RESULTS is a run: its results file, or the folder of a test with detections.txt in it. Several runs are shown side
by side. Unfinished runs are compared on the clips that all of them have finished.

Example: python tools/report.py output/rfcn/VID_val_videos output/fgfa/VID_val_videos --dataset-path data/ILSVRC2015
"""

from __future__ import annotations

import argparse
import datetime
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from tqdm import tqdm

from lib.command_line import add_evaluation_arguments, run_script
from lib.data.classes import load_classes
from lib.data.imagenet_vid import ImageNetVID
from lib.errors import InputError
from lib.evaluation.evaluate import Coverage, KnownMotion, find_motion
from lib.evaluation.evaluation_data import EvaluationData
from lib.evaluation.results_file import DETECTIONS, Unfinished, find_results
from lib.evaluation.subset import detections_of_frames, truth_of_frames
from lib.files import check_output, read_json, write_text
from lib.report.analysis import Analysis, analyse, size_ranges
from lib.report.clips import ReportVideo
from lib.report.page import SECTIONS, make_page
from lib.report.provenance import Provenance, find_provenance
from lib.report.sections import Subject


def parse_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", nargs="+", metavar="RESULTS", help="results file or folder, one for each run")
    parser.add_argument("-o", "--out", default="report.html", metavar="FILE", help="default: %(default)s")
    parser.add_argument("--names", nargs="+", metavar="NAME", help="of the runs; default: what their paths differ in")
    parser.add_argument(
        "--speeds",
        type=Path,
        metavar="FILE",
        help="ms a frame measured in turns, as tools/compare_methods.py --turns --json wrote them for runs of these "
        "names; default: of each run's own test",
    )
    parser.add_argument("--save-pngs", metavar="DIR", help="also write every picture to this folder")
    add_evaluation_arguments(parser)
    args = parser.parse_args(arguments)
    if args.names and len(args.names) != len(args.results):
        parser.error(f"{len(args.names)} names for {len(args.results)} runs; give one for each")
    return args


def run_names(paths: Sequence[Path]) -> list[str]:
    """The parts in which the paths differ; for a single run in the scripts' folder layout, its configuration."""
    parts = [path.absolute().with_suffix("").parts for path in paths]
    if len(paths) == 1:
        return [parts[0][-3] if paths[0].name == DETECTIONS and len(parts[0]) > 3 else parts[0][-1]]
    same = min(map(len, parts))
    start = next((i for i in range(same) if len({p[i] for p in parts}) > 1), same - 1)
    end = next((i for i in range(1, same) if len({p[-i] for p in parts}) > 1), 1) - 1
    return ["/".join(p[start : len(p) - end]) or p[-1] for p in parts]


def open_data(args: argparse.Namespace) -> tuple[EvaluationData, list[ReportVideo]]:
    """The ground truth, and its videos with the files of their frames, which COCO-VID JSON does not name."""
    if args.ground_truth:
        data = EvaluationData.of_coco(args.ground_truth)
        lengths = np.bincount(data.truth.videos, minlength=len(data.videos)).tolist()
        clips = [ReportVideo(name, [""] * length) for name, length in zip(data.videos, lengths, strict=True)]
        return data, clips
    classes = load_classes(args.classes, args.dataset_path)
    dataset = ImageNetVID(args.dataset_path, args.image_set, classes, args.cache)
    videos = dataset.videos()
    clips = [ReportVideo(video.name, [video.frame_path(i) for i in range(video.length)]) for video in videos]
    return EvaluationData.of_truth(dataset.ground_truth(), [video.name for video in videos]), clips


@dataclass(frozen=True)
class Run:
    """A run to report on. path: of its results file. found: that file, or what an unfinished run has written."""

    name: str
    path: Path
    found: Path | Unfinished


class SpeedsError(InputError):
    """A file of --speeds that cannot be used; the message names it and what to do."""


def read_speeds(path: Path) -> dict[str, dict[int, float]]:
    """Milliseconds a frame by name and training seed, from the rows that `tools/compare_methods.py --json` wrote.

    Raises SpeedsError.
    """
    what_to_do = "make it with tools/compare_methods.py --turns 3 --json"
    rows = read_json(path, SpeedsError, what_to_do)
    speeds: dict[str, dict[int, float]] = {}
    try:
        for row in rows:
            speeds.setdefault(row["method"], {})[int(row["seed"])] = float(row["ms_per_frame"])
    except (KeyError, TypeError, ValueError) as error:
        raise SpeedsError(f"{path}: not a file of rows with method, seed and ms_per_frame; {what_to_do}") from error
    return speeds


def with_speed(known: Provenance, name: str, speeds: dict[str, dict[int, float]], path: Path) -> Provenance:
    """`known` with the speed of the run `name`: of its seed, or of the only one there is. Raises SpeedsError."""
    of_run = speeds.get(name, {})
    found = of_run.get(known.seed if known.seed is not None else -1)
    if found is None and len(of_run) == 1:
        (found,) = of_run.values()
    if found is None:
        raise SpeedsError(
            f"{path}: has no speed of a run '{name}' with seed {known.seed}, but of "
            f"{', '.join(f'{one!r} (seed {seed})' for one, seeds in speeds.items() for seed in seeds) or 'none'}; "
            "give the runs the same --names"
        )
    return replace(known, ms_per_frame=found, in_turns=True)


def analyse_run(
    run: Run, origin: Provenance, data: EvaluationData, chosen: np.ndarray, motion: KnownMotion
) -> Analysis:
    """The figures of one run on the frames `chosen` (F,) bool. Raises InputError."""
    whole = data.truth
    truth = whole if chosen.all() else truth_of_frames(whole, chosen)
    table = data.read([run.found], whole.num_frames, len(whole.class_names))
    if not chosen.all():
        table = detections_of_frames(table.sorted_by_frame(), chosen)
    done = float((whole.videos < run.found.done).mean()) if isinstance(run.found, Unfinished) else 1.0
    sizes, _ = size_ranges(truth)
    return analyse(run.name, os.fspath(run.found), origin, truth, table, motion.motion, sizes, done)


def subject_of(
    args: argparse.Namespace, data: EvaluationData, clips: list[ReportVideo], chosen: np.ndarray, motion: KnownMotion
) -> Subject:
    """The subject of the report: the frames `chosen` of the image set."""
    truth = data.truth if chosen.all() else truth_of_frames(data.truth, chosen)
    part = "" if chosen.all() else f"Only a part of the image set: {Coverage.of(data.truth, chosen)}."
    where = args.ground_truth or f"{args.image_set} of {args.dataset_path}"
    return Subject(truth, clips, where, motion.source, size_ranges(truth)[1], part)


def main(arguments: Sequence[str] | None = None) -> None:
    """Write the report that `arguments` ask for, the command line where None. Raises InputError."""
    args = parse_arguments(arguments)
    for path in filter(None, (args.out, args.save_pngs and os.path.join(args.save_pngs, "class_ap.png"))):
        check_output(path)
    speeds = read_speeds(args.speeds) if args.speeds else {}
    paths = [Path(name, DETECTIONS) if Path(name).is_dir() else Path(name) for name in args.results]
    found = [find_results(path) for path in paths]
    names = args.names or run_names(paths)
    origins = [find_provenance(path) for path in paths]
    if args.speeds:
        origins = [with_speed(one, name, speeds, args.speeds) for one, name in zip(origins, names, strict=True)]
    data, clips = open_data(args)
    chosen = data.chosen_frames(found, args.videos)
    motion = find_motion(data.truth, args.motion_iou, chosen)

    analyses: list[Analysis] = []
    with tqdm(total=len(found) + len(SECTIONS), unit="part") as bar:
        for name, origin, path, results in zip(names, origins, paths, found, strict=True):
            bar.set_description(name)
            analyses.append(analyse_run(Run(name, path, results), origin, data, chosen, motion))
            bar.update()

        def begun(section: str) -> None:
            bar.set_description(section)
            bar.update()

        subject = subject_of(args, data, clips, chosen, motion)
        now = datetime.datetime.now().astimezone().strftime("%Y-%m-%d %H:%M %Z")
        page = make_page(subject, analyses, f"Made {now} by tools/report.py.", begun)
    write_text(args.out, page)
    if args.save_pngs:
        subject.album.save(args.save_pngs)
    print(f"{args.out}: {len(page) / 1e6:.1f} MB, open it in a browser")
    for run in analyses:
        print(f"{run.name}: mean AP {100 * run.mean_ap:.2f}")


if __name__ == "__main__":
    run_script(main)
