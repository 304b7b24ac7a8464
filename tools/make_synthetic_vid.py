"""Make the synthetic video data set: a small stand-in for ImageNet VID in the same layout, and a picture of it.

Example: python tools/make_synthetic_vid.py --out data/synthetic_vid --preview data/synthetic_vid.png
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from pathlib import Path

import cv2
from tqdm import tqdm

from lib.synthetic.casting import Settings
from lib.synthetic.dataset import Plan, make_dataset, summary
from lib.synthetic.preview import contact_sheet


def parse_arguments(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder of the data set")
    parser.add_argument("--train-videos", type=int, default=240)
    parser.add_argument("--val-videos", type=int, default=60)
    parser.add_argument("--frames", type=int, default=24, help="frames of each video")
    parser.add_argument("--stills", type=int, default=400, help="DET-style single images for training")
    parser.add_argument("--size", default="320x240", help="WIDTHxHEIGHT in pixels")
    parser.add_argument("--classes", type=int, default=10, help="number of object classes, up to 30")
    parser.add_argument("--motion-mix", default="27,35,37", help="shares of fast, medium, slow objects")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1, help="processes; the result is the same")
    parser.add_argument(
        "--flow", action="store_true", help="also write the flow from each frame to the next (KITTI PNG)"
    )
    parser.add_argument("--preview", type=Path, help="PNG file for a contact sheet with boxes")
    parser.add_argument("--overwrite", action="store_true", help="replace a synthetic data set of other parameters")
    return parser.parse_args(argv)


def plan_of(args: argparse.Namespace) -> Plan:
    """The plan that the command line asks for. Raises ValueError naming what is wrong."""
    try:
        width, height = (int(side) for side in args.size.lower().split("x"))
        mix = tuple(float(share) for share in args.motion_mix.split(","))
    except ValueError as error:
        raise ValueError(f"--size is like 320x240 and --motion-mix like 27,35,37: {error}") from error
    settings = Settings(args.classes, width, height, args.frames, mix, args.seed)
    return Plan(settings, args.train_videos, args.val_videos, args.stills, args.flow)


def write_preview(plan: Plan, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part.png")
    cv2.imwrite(str(part), contact_sheet(plan.settings))
    os.replace(part, path)
    print(f"picture: {path}")


def main(argv: list[str] | None = None) -> int:
    args = parse_arguments(argv)
    try:
        plan = plan_of(args)
        begin = time.perf_counter()
        bar = lambda items, total: tqdm(items, total=total, desc="synthetic videos and stills", unit="item")  # noqa: E731
        tally, made = make_dataset(args.out, plan, args.workers, args.overwrite, bar)
    except ValueError as error:
        print(f"make_synthetic_vid: {error}", file=sys.stderr)
        return 2
    seconds = time.perf_counter() - begin
    if made:
        print(f"{args.out}: {tally.frames} images in {seconds:.1f} s ({tally.frames / seconds:.0f} a second)")
    else:
        print(f"{args.out}: is there already, made with the same parameters")
    print(summary(tally, plan.settings.classes))
    if args.preview:
        write_preview(plan, args.preview)
    return 0


if __name__ == "__main__":
    sys.exit(main())
