"""Time evaluation beside its reference version, and alone at the size of ImageNet VID, with reading the results file.

The data are synthetic: videos whose objects move as slowly and as fast as those of ImageNet VID val, frames without
objects, detections near the objects and anywhere, in a results file whose scores have four decimals and so tie often.
Both versions read and evaluate the same file and must agree to 1e-9.

Example: python tools/benchmark_evaluation.py --frames 176126 --per-frame 100 --classes 30 --json evaluation.json
Example: python tools/benchmark_evaluation.py --frames 0 --ties
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
from tqdm import tqdm

from lib.command_line import count, run_script
from lib.engine.memory import peak_host_gib
from lib.evaluation.mean_ap import MOTION_RANGES, mean_ap
from lib.evaluation.mean_ap_reference import mean_ap_reference, read_results_reference
from lib.evaluation.motion import Motion, motion_of
from lib.evaluation.results_file import DetectionTable, ResultsWriter, read_results
from lib.files import check_output, write_json
from lib.structures import GroundTruth

FRAMES_PER_VIDEO = 176126 / 555  # ImageNet VID val
LEAST_VIDEOS = 60  # so that a small set has objects of every kind too
# Shares of the objects there, and how far such objects move from frame to frame, in parts of their side
SHARES = (0.27, 0.35, 0.38)
SPEEDS = ((0.04, 0.12), (0.0115, 0.032), (0.0, 0.009))
EMPTY_VIDEOS, EMPTY_PART = 0.115, 0.2  # so many videos lack objects in such a part of them: 2.3% of the frames
WIDTH, HEIGHT = 1280, 720
AGREEMENT = 1e-9


def make_truth(frames: int, classes: int, seed: int) -> GroundTruth:
    """`frames` frames (10 or more) in as many videos as ImageNet VID would have, about 1.6 objects a frame."""
    rng = np.random.default_rng(seed)
    videos = max(round(frames / FRAMES_PER_VIDEO), min(LEAST_VIDEOS, frames // 5))
    ends = np.sort(rng.choice(np.arange(1, frames), videos - 1, replace=False))
    rows = []
    for start, end in zip((0, *ends), (*ends, frames), strict=True):
        inside = np.arange(start, end)
        if rng.random() < EMPTY_VIDEOS:
            inside = inside[max(1, round(EMPTY_PART * len(inside))) :]
        label = rng.integers(1, classes + 1)
        for track in range(1 + rng.poisson(0.65)):
            rows.append(_track(rng, inside, label if rng.random() < 0.9 else rng.integers(1, classes + 1), track))
    rows = np.concatenate(rows)
    rows = rows[np.argsort(rows[:, 0], kind="stable")]
    return GroundTruth(
        class_names=[f"class{k}" for k in range(1, classes + 1)],
        videos=np.repeat(np.arange(len(ends) + 1), np.diff((0, *ends, frames))),
        offsets=np.concatenate(([0], np.cumsum(np.bincount(rows[:, 0].astype(int), minlength=frames)))),
        boxes=rows[:, 3:],
        labels=rows[:, 1].astype(np.int64),
        track_ids=rows[:, 2].astype(np.int64),
    )


def _track(rng: np.random.Generator, frames: np.ndarray, label: int, track: int) -> np.ndarray:
    """Rows (frame, label, track, x1, y1, x2, y2) of an object that goes to and fro, with whole coordinates."""
    sides = np.exp(rng.uniform(np.log(24), np.log(360), 2))
    angle, speed = rng.uniform(0, 2 * np.pi), rng.uniform(*SPEEDS[rng.choice(3, p=SHARES)])
    step = speed * sides * (np.cos(angle), np.sin(angle)) * np.arange(len(frames))[:, None]
    room = (WIDTH, HEIGHT) - sides - 1
    corner = np.abs((rng.uniform(0, room) + step) % (2 * room) - room)
    boxes = np.round(np.hstack((corner, corner + sides)))
    return np.column_stack((frames, np.full(len(frames), label), np.full(len(frames), track), boxes))


def write_detections(path: Path, truth: GroundTruth, per_frame: int, seed: int) -> None:
    """About three guesses near each object, most of them of its class; the rest anywhere, of any class and weak."""
    rng = np.random.default_rng(seed + 1)
    classes = len(truth.class_names)
    with (
        ResultsWriter(path) as results,
        tqdm(total=truth.num_frames, unit="frame", desc="making results", delay=1) as bar,
    ):
        for first in range(0, truth.num_frames, 1000):
            last = min(first + 1000, truth.num_frames)
            frames = np.repeat(np.arange(first, last), per_frame)
            turn = np.tile(np.arange(per_frame), last - first)
            own = np.diff(truth.offsets)[frames]
            near = turn < np.minimum(3 * own, per_frame)
            objects = truth.offsets[frames] + np.where(near, turn % np.maximum(own, 1), 0)
            objects = np.minimum(objects, len(truth.labels) - 1)
            corners = rng.uniform(0, (WIDTH - 60, HEIGHT - 60), (len(frames), 2))
            stray = np.hstack((corners, corners + rng.uniform(5, 300, (len(frames), 2))))
            sides = np.tile(truth.boxes[objects, 2:] - truth.boxes[objects, :2] + 1, 2)
            guess = truth.boxes[objects] + rng.normal(0, 0.12, (len(frames), 4)) * sides
            guess[:, 2:] = np.maximum(guess[:, 2:], guess[:, :2])
            right = near & (rng.random(len(frames)) < 0.85)
            labels = np.where(right, truth.labels[objects], rng.integers(1, classes + 1, len(frames)))
            scores = np.where(near, rng.beta(2, 1.5, len(frames)), 10 ** rng.uniform(-3, -0.7, len(frames)))
            order = np.lexsort((-scores, labels, frames))
            boxes = np.where(near[:, None], guess, stray)
            table = DetectionTable(frames.astype(np.int32), labels.astype(np.int16), scores, boxes)
            results.add_table(table[order])
            bar.update(last - first)


def evaluate_file(path: Path, truth: GroundTruth, motion: Motion) -> tuple[np.ndarray, dict[str, float]]:
    """Our evaluation of a results file: AP (R, K), and what it took."""
    start, busy = time.perf_counter(), time.process_time()
    table = read_results(path, truth.num_frames, len(truth.class_names))
    read = time.perf_counter() - start
    aps = np.array([r.ap for r in mean_ap(truth, table, motion.values, MOTION_RANGES, motion.zero_entries)])
    seconds = time.perf_counter() - start
    return aps, {
        "detections": len(table), "reading_s": read, "ap_s": seconds - read, "seconds": seconds,
        "cpu_s": time.process_time() - busy,
        "peak_gib": peak_host_gib(),
    }  # fmt: skip


def side_by_side(folder: Path, args: argparse.Namespace) -> dict[str, float]:
    """Both versions on one file in turns: ours, the reference, ours again. Exits where they disagree."""
    truth, motion, path = _data(folder, args.side_by_side_frames, args)
    runs = [evaluate_file(path, truth, motion)]
    start = time.perf_counter()
    rows = read_results_reference(path)
    read = time.perf_counter() - start
    wanted = mean_ap_reference(truth, rows, motion.values)
    plain = time.perf_counter() - start
    runs += [evaluate_file(path, truth, motion) for _ in range(2)]
    difference = float(np.nanmax(np.abs(runs[0][0] - wanted)))
    if not difference <= AGREEMENT or not np.array_equal(np.isnan(runs[0][0]), np.isnan(wanted)):
        sys.exit(f"the two versions disagree by {difference:g} on {args.side_by_side_frames} frames, seed {args.seed}")
    ours = sorted(took["seconds"] for _, took in runs)[1]
    return {
        "frames": truth.num_frames, "detections": len(rows), "plain_reading_s": read, "plain_s": plain,
        "ours_s": ours, "ratio": plain / ours, "largest_difference": difference,
    }  # fmt: skip


def whole(folder: Path, args: argparse.Namespace) -> dict[str, float]:
    """Ours alone, on one core of a process of its own, so that its peak memory is its own."""
    truth, motion, path = _data(folder, args.frames, args)
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn"), initializer=_one_core) as pool:
        aps, took = pool.submit(evaluate_file, path, truth, motion).result()
    shares = [motion.share(*ends) for ends in ((0, 0.7), (0.7, 0.9), (0.9, 1.1))]
    return {
        "frames": truth.num_frames, "videos": int(truth.videos[-1]) + 1, "objects": len(truth.labels),
        "motion_shares": shares, "file_mib": path.stat().st_size / 2**20, **took,
        "mean_ap": [float(np.nanmean(ap)) if not np.isnan(ap).all() else None for ap in aps],
    }  # fmt: skip


def _one_core() -> None:
    if hasattr(os, "sched_setaffinity"):  # Linux
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})


def _data(folder: Path, frames: int, args: argparse.Namespace) -> tuple[GroundTruth, Motion, Path]:
    truth = make_truth(frames, args.classes, args.seed)
    path = folder / f"{frames}.txt"
    write_detections(path, truth, args.per_frame, args.seed)
    return truth, motion_of(truth), path


def _memory(gib: float | None) -> str:
    return "peak memory unknown" if gib is None else f"peak memory {gib:.2f} GiB"


def tie_study(folder: Path, args: argparse.Namespace) -> list[dict[str, float]]:
    """Effect of tie-breaking: change of AP from a stable order of equal scores to that of NumPy's default sort."""
    truth, motion, path = _data(folder, args.side_by_side_frames, args)
    table = read_results(path, truth.num_frames, len(truth.class_names))
    study = []
    for decimals in args.ties_decimals:
        coarse = replace(table, scores=np.round(table.scores, decimals))
        rows = np.column_stack((coarse.frames, coarse.labels, coarse.scores, coarse.boxes))
        stable, unstable = (
            mean_ap_reference(truth, rows, motion.values, sort=sort) for sort in ("stable", "quicksort")
        )
        moved = np.abs(stable - unstable)
        known = ~np.isnan(stable).all(axis=1)  # ranges with objects
        means = np.abs(np.nanmean(stable[known], axis=1) - np.nanmean(unstable[known], axis=1))
        study.append({
            "decimals": decimals, "detections": len(rows), "distinct_scores": len(np.unique(coarse.scores)),
            "largest_ap": float(np.nanmax(moved[0])), "largest_ap_by_motion": float(np.nanmax(moved)),
            "mean_ap": float(means[0]), "mean_ap_by_motion": float(means.max()),
        })  # fmt: skip
    return study


def parse_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--frames", type=count, default=176126, help="for ours alone; 0: skip it; default: %(default)s")
    parser.add_argument("--per-frame", type=count, default=100, help="detections per frame; default: %(default)s")
    parser.add_argument("--classes", type=count, default=30, help="default: %(default)s")
    parser.add_argument("--side-by-side-frames", type=count, default=3000, help="for both; default: %(default)s")
    parser.add_argument("--ties", action="store_true", help="also measure the effect of tie-breaking")
    parser.add_argument(
        "--ties-decimals", type=count, nargs="+", default=[4, 2, 1], metavar="N", help="of scores; default: 4 2 1"
    )
    parser.add_argument("--seed", type=count, default=0, help="of the data; default: %(default)s")
    parser.add_argument(
        "--folder", metavar="DIR", help="for the results files, about 45 bytes a detection; default: temporary"
    )
    parser.add_argument("--json", metavar="OUT", help="also write the figures to this file")
    args = parser.parse_args(arguments)
    if args.side_by_side_frames < 10 or 0 < args.frames < 10 or args.per_frame < 1 or args.classes < 1:
        parser.error("--frames and --side-by-side-frames must be at least 10, --per-frame and --classes at least 1")
    return args


def main(arguments: Sequence[str] | None = None) -> None:
    args = parse_arguments(arguments)
    if args.json:
        check_output(args.json)
    figures: dict[str, object] = {"per_frame": args.per_frame, "classes": args.classes, "ranges": len(MOTION_RANGES)}
    with tempfile.TemporaryDirectory(dir=args.folder) as name:
        folder = Path(name)
        row = figures["side_by_side"] = side_by_side(folder, args)
        print(
            f"{row['frames']} frames, {row['detections']} detections, {args.classes} classes, {len(MOTION_RANGES)} "
            f"ranges: plain {row['plain_s']:.2f} s, ours {row['ours_s']:.3f} s: {row['ratio']:.0f} times as fast, "
            f"largest difference {row['largest_difference']:.1e}",
            flush=True,
        )
        if args.ties:
            figures["ties"] = tie_study(folder, args)
            for row in figures["ties"]:
                print(
                    f"scores of {row['decimals']} decimals ({row['distinct_scores']} different ones): AP of a class "
                    f"moves by up to {row['largest_ap']:.1e} (by motion {row['largest_ap_by_motion']:.1e}), mean AP by "
                    f"{row['mean_ap']:.1e} (by motion {row['mean_ap_by_motion']:.1e})",
                    flush=True,
                )
        if args.frames:
            row = figures["whole"] = whole(folder, args)
            shares = ", ".join(f"{share:.1%}" for share in row["motion_shares"])
            print(
                f"{row['frames']} frames of {row['videos']} videos, {row['objects']} objects ({shares} fast, medium, "
                f"slow), {row['detections']} detections in {row['file_mib']:.0f} MiB: reading {row['reading_s']:.1f} s "
                f"+ AP {row['ap_s']:.1f} s = {row['seconds']:.1f} s on one core, {_memory(row['peak_gib'])}"
            )
    if args.json:
        write_json(args.json, figures)


if __name__ == "__main__":
    run_script(main)
