"""Time Seq-NMS beside its reference version, and alone on whole videos.

The data are synthetic: proposals that crowd around drifting objects or lie anywhere, the same boxes for every class and
all of them scored above 0.001, as a network leaves them without NMS. The two versions run in turns, on one class, and
their results are compared too.

Example: python tools/benchmark_seq_nms.py --side-by-side-frames 10 20 --workers 1 2 --json seq_nms.json
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import time
from collections.abc import Sequence

import numpy as np

from lib.command_line import count, run_script
from lib.engine.memory import peak_host_gib
from lib.evaluation.results_file import DetectionTable
from lib.evaluation.seq_nms import seq_nms, seq_nms_videos
from lib.evaluation.seq_nms_reference import seq_nms_reference
from lib.files import check_output, write_json

OBJECTS = 6
LABELLED = {number: 1 + number % 3 for number in range(OBJECTS)}  # the class of each object


def make_video(frames: int, boxes: int, classes: int, seed: int) -> DetectionTable:
    """Raw detections of one 1280 x 720 video: frames * classes * boxes rows, by frame and class."""
    rng = np.random.default_rng(seed)
    side = rng.uniform(80, 300, (OBJECTS, 2))
    speed = rng.normal(0, 4, (OBJECTS, 2))
    centre = rng.uniform((200, 150), (1080, 570), (OBJECTS, 2))
    all_boxes, all_scores = [], []
    for _ in range(frames):
        centre += speed
        speed = np.where((centre < 100) | (centre > (1180, 620)), -speed, speed)
        near = rng.random(boxes) < 0.7
        which = rng.integers(0, OBJECTS, boxes)
        anywhere = rng.uniform((0, 0), (1280, 720), (boxes, 2))
        at = np.where(near[:, None], centre[which] + rng.normal(0, 0.12, (boxes, 2)) * side[which], anywhere)
        half = side[which] * np.exp(rng.normal(0, 0.15, (boxes, 2))) / 2
        all_boxes.append(np.hstack((at - half, at + half)).clip(0, (1279, 719, 1279, 719)))
        scores = 10 ** rng.uniform(-3, -1, (classes, boxes))
        for number, label in LABELLED.items():
            if label <= classes:
                mine = near & (which == number)
                scores[label - 1, mine] = rng.beta(2, 2, mine.sum())
        all_scores.append(scores)
    return DetectionTable(
        np.repeat(np.arange(frames, dtype=np.int32), classes * boxes),
        np.tile(np.repeat(np.arange(1, classes + 1, dtype=np.int16), boxes), frames),
        np.concatenate(all_scores).ravel(),
        np.repeat(np.stack(all_boxes)[:, None], classes, axis=1).reshape(-1, 4),
    )


def side_by_side(frames: int, boxes: int, seed: int, repeats: int) -> dict[str, float]:
    """Both versions on one class, in turns: the reference once, the compiled one before and after it."""
    video = make_video(frames, boxes, 1, seed)
    by_frame = video.boxes.reshape(frames, boxes, 4), video.scores.reshape(frames, boxes)
    compiled = []

    def run_compiled() -> tuple[np.ndarray, np.ndarray]:
        for _ in range(repeats):
            start = time.perf_counter()
            result = seq_nms(video.frames, video.boxes, video.scores)
            compiled.append(time.perf_counter() - start)
        return result

    run_compiled()
    start = time.perf_counter()
    wanted, wanted_scores = seq_nms_reference(*by_frame)
    reference = time.perf_counter() - start
    kept, scores = run_compiled()
    wanted_rows = np.concatenate([t * boxes + np.array(k, int) for t, k in enumerate(wanted)])
    same = np.array_equal(np.flatnonzero(kept), wanted_rows) and np.array_equal(
        scores[kept], np.concatenate(wanted_scores)[kept]
    )
    if not same:
        sys.exit(f"the two versions disagree on {frames} frames of {boxes} boxes, seed {seed}")
    seconds = statistics.median(compiled)
    return {
        "frames": frames, "boxes": boxes, "classes": 1, "reference_s": reference, "compiled_s": seconds,
        "ratio": reference / seconds, "kept": int(kept.sum()), "of": len(kept),
    }  # fmt: skip


def whole_videos(args: argparse.Namespace, workers: int) -> dict[str, float]:
    """All classes of `args.videos` videos, with the NMS after it; making the data is not timed."""
    videos = [make_video(args.frames, args.boxes, args.classes, args.seed + v) for v in range(args.videos)]
    start, busy = time.perf_counter(), time.process_time()
    kept = sum(len(found) for found in seq_nms_videos(videos, workers=workers))
    return {
        "videos": args.videos, "frames": args.frames, "boxes": args.boxes, "classes": args.classes,
        "workers": workers, "seconds": time.perf_counter() - start, "cpu_seconds": time.process_time() - busy,
        "kept": kept, "of": sum(map(len, videos)),
        "peak_gib": peak_host_gib(),
    }  # fmt: skip


def parse_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--boxes", type=count, default=300, help="per frame and class; default: %(default)s")
    parser.add_argument("--classes", type=count, default=30, help="default: %(default)s")
    parser.add_argument("--frames", type=count, default=300, help="of a video; default: %(default)s")
    parser.add_argument("--videos", type=count, default=1, help="whole videos; default: %(default)s")
    parser.add_argument("--workers", type=count, nargs="+", default=[1], help="threads over videos; default: 1")
    parser.add_argument(
        "--side-by-side-frames",
        type=count,
        nargs="*",
        default=[10],
        metavar="FRAMES",
        help="lengths of the videos that both versions do; default: 10",
    )
    parser.add_argument("--repeats", type=count, default=3, help="of the compiled version; default: %(default)s")
    parser.add_argument("--seed", type=count, default=0, help="of the data; default: %(default)s")
    parser.add_argument("--json", metavar="OUT", help="also write the figures to this file")
    args = parser.parse_args(arguments)
    if not all((args.boxes, args.classes, args.frames, args.repeats, *args.side_by_side_frames)):
        parser.error("--boxes, --classes, --frames, --side-by-side-frames and --repeats must be at least 1")
    return args


def main(arguments: Sequence[str] | None = None) -> None:
    args = parse_arguments(arguments)
    if args.json:
        check_output(args.json)
    figures: dict[str, object] = {"cores": os.cpu_count(), "side_by_side": [], "whole": []}
    for frames in args.side_by_side_frames:
        row = side_by_side(frames, args.boxes, args.seed, args.repeats)
        figures["side_by_side"].append(row)
        print(
            f"{frames} frames x {args.boxes} boxes x 1 class: reference {row['reference_s']:.2f} s, compiled "
            f"{row['compiled_s'] * 1e3:.2f} ms: {row['ratio']:.0f} times as fast, same result",
            flush=True,
        )
    for workers in args.workers:
        row = whole_videos(args, workers)
        figures["whole"].append(row)
        print(
            f"{args.videos} x {args.frames} frames x {args.boxes} boxes x {args.classes} classes, {workers} workers: "
            f"{row['seconds']:.2f} s ({row['cpu_seconds']:.2f} s of CPU), kept {row['kept']} of {row['of']}, "
            f"peak memory so far {row['peak_gib'] or float('nan'):.2f} GiB with the data",
            flush=True,
        )
    if args.json:
        write_json(args.json, figures)


if __name__ == "__main__":
    run_script(main)
