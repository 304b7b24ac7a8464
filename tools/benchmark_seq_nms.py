"""Time Seq-NMS beside its readable version, and alone on a whole video.

The data are made here: proposals that crowd around drifting objects or lie anywhere, the same boxes for every class and
all of them scored above 0.001, as a network leaves them without NMS. Side by side means in turns, on one class, and the
results are compared too.

Example: python tools/benchmark_seq_nms.py --side-by-side-frames 10 20 --workers 1 2 --json seq_nms.json
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np

from lib.evaluation.results_file import DetectionTable
from lib.evaluation.seq_nms import seq_nms, seq_nms_videos
from lib.evaluation.seq_nms_reference import seq_nms_reference

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
    """Both versions on one class, in turns: the readable one once, the compiled one before and after it."""
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
    readable = time.perf_counter() - start
    kept, scores = run_compiled()
    wanted_rows = np.concatenate([t * boxes + np.array(k, int) for t, k in enumerate(wanted)])
    same = np.array_equal(np.flatnonzero(kept), wanted_rows) and np.array_equal(
        scores[kept], np.concatenate(wanted_scores)[kept]
    )
    if not same:
        sys.exit(f"the two versions disagree on {frames} frames of {boxes} boxes, seed {seed}")
    seconds = statistics.median(compiled)
    return {
        "frames": frames, "boxes": boxes, "classes": 1, "readable_s": readable, "compiled_s": seconds,
        "ratio": readable / seconds, "kept": int(kept.sum()), "of": len(kept),
    }  # fmt: skip


def whole_videos(args: argparse.Namespace, workers: int) -> dict[str, float]:
    """All classes of `args.videos` videos, with the NMS after it; the making of the data is not timed."""
    videos = [make_video(args.frames, args.boxes, args.classes, args.seed + v) for v in range(args.videos)]
    start, busy = time.perf_counter(), time.process_time()
    kept = sum(len(found) for found in seq_nms_videos(videos, workers=workers))
    return {
        "videos": args.videos, "frames": args.frames, "boxes": args.boxes, "classes": args.classes,
        "workers": workers, "seconds": time.perf_counter() - start, "cpu_seconds": time.process_time() - busy,
        "kept": kept, "of": sum(map(len, videos)),
        "peak_gib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20,
    }  # fmt: skip


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--boxes", type=int, default=300, help="of a frame and class; default: %(default)s")
    parser.add_argument("--classes", type=int, default=30, help="default: %(default)s")
    parser.add_argument("--frames", type=int, default=300, help="of a video; default: %(default)s")
    parser.add_argument("--videos", type=int, default=1, help="whole ones; default: %(default)s")
    parser.add_argument("--workers", type=int, nargs="+", default=[1], help="threads over videos; default: 1")
    parser.add_argument(
        "--side-by-side-frames", type=int, nargs="*", default=[10], metavar="FRAMES", help="default: 10"
    )
    parser.add_argument("--repeats", type=int, default=3, help="of the compiled version; default: %(default)s")
    parser.add_argument("--seed", type=int, default=0, help="of the data; default: %(default)s")
    parser.add_argument("--json", metavar="OUT", help="also write the figures to this file")
    return parser.parse_args()


def main() -> None:
    args = parse_arguments()
    figures: dict[str, object] = {"cores": os.cpu_count(), "side_by_side": [], "whole": []}
    for frames in args.side_by_side_frames:
        row = side_by_side(frames, args.boxes, args.seed, args.repeats)
        figures["side_by_side"].append(row)
        print(
            f"{frames} frames x {args.boxes} boxes x 1 class: readable {row['readable_s']:.2f} s, compiled "
            f"{row['compiled_s'] * 1e3:.2f} ms: {row['ratio']:.0f} times as fast, same result",
            flush=True,
        )
    for workers in args.workers:
        row = whole_videos(args, workers)
        figures["whole"].append(row)
        print(
            f"{args.videos} x {args.frames} frames x {args.boxes} boxes x {args.classes} classes, {workers} workers: "
            f"{row['seconds']:.2f} s ({row['cpu_seconds']:.2f} s of CPU), kept {row['kept']} of {row['of']}, "
            f"peak memory so far {row['peak_gib']:.2f} GiB with the data",
            flush=True,
        )
    if args.json:
        temporary = Path(f"{args.json}.part")
        temporary.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")
        os.replace(temporary, args.json)


if __name__ == "__main__":
    main()
