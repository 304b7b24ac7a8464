"""Make the synthetic video data set: a small stand-in for ImageNet VID in the same layout, and a picture of it.

Example: python tools/make_synthetic_vid.py --out data/synthetic_vid --preview data/synthetic_vid.png
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from pathlib import Path

from tqdm import tqdm

from lib.command_line import add_workers_argument, count, run_script
from lib.errors import InputError
from lib.files import check_output
from lib.synthetic.casting import Settings
from lib.synthetic.dataset import Plan, make_dataset, summary
from lib.synthetic.preview import contact_sheet
from lib.visualize.clip import check_image_name, write_image


def parse_arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder of the data set")
    parser.add_argument("--train-videos", type=count, default=240, metavar="N", help="default: %(default)s")
    parser.add_argument("--val-videos", type=count, default=60, metavar="N", help="default: %(default)s")
    parser.add_argument("--frames", type=count, default=24, metavar="N", help="of each video; default: %(default)s")
    parser.add_argument(
        "--stills", type=count, default=400, metavar="N", help="single images to train on; default: %(default)s"
    )
    parser.add_argument("--size", default="320x240", metavar="WxH", help="in pixels; default: %(default)s")
    parser.add_argument("--classes", type=count, default=10, metavar="N", help="up to 30; default: %(default)s")
    parser.add_argument(
        "--motion-mix",
        default="27,35,37",
        metavar="F,M,S",
        help="shares of fast, medium and slow objects; default: %(default)s",
    )
    parser.add_argument("--seed", type=count, default=0, help="default: %(default)s")
    add_workers_argument(parser)
    parser.add_argument(
        "--flow", action="store_true", help="also write the flow from each frame to the next (KITTI's PNG format)"
    )
    parser.add_argument("--preview", type=Path, metavar="FILE", help="also write a contact sheet with boxes (.png)")
    parser.add_argument("--overwrite", action="store_true", help="replace a synthetic data set of other parameters")
    return parser.parse_args(argv)


def plan_of(args: argparse.Namespace) -> Plan:
    """The plan that the command line asks for. Raises InputError."""
    try:
        width, height = (int(side) for side in args.size.lower().split("x"))
        mix = tuple(float(share) for share in args.motion_mix.split(","))
    except ValueError as error:
        raise InputError(f"--size is like 320x240 and --motion-mix like 27,35,37: {error}") from error
    try:
        settings = Settings(args.classes, width, height, args.frames, mix, args.seed)
        return Plan(settings, args.train_videos, args.val_videos, args.stills, args.flow)
    except ValueError as error:
        raise InputError(f"command line: {error}") from error


def main(argv: Sequence[str] | None = None) -> None:
    """Make what `argv` asks for, the command line where None. Raises InputError."""
    args = parse_arguments(argv)
    plan = plan_of(args)
    if args.preview:
        check_output(check_image_name(args.preview))
    begin = time.perf_counter()
    bar = lambda items, total: tqdm(items, total=total, desc="synthetic videos and stills", unit="item")  # noqa: E731
    tally, made = make_dataset(args.out, plan, args.workers, args.overwrite, bar)
    seconds = time.perf_counter() - begin
    if made:
        print(f"{args.out}: {tally.frames} images in {seconds:.1f} s ({tally.frames / seconds:.0f} a second)")
    else:
        print(f"{args.out}: is there already, made with the same parameters")
    print(summary(tally, plan.settings.classes))
    if args.preview:
        write_image(args.preview, contact_sheet(plan.settings))
        print(f"picture: {args.preview}")


if __name__ == "__main__":
    run_script(main)
