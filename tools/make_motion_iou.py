"""Compute the motion IoU of an image set's objects from their track ids; write, show and compare .mat files of it.

Motion IoU is an object's mean IoU with itself up to 10 frames before and after: below 0.7 it is fast, up to 0.9 medium,
above slow. FGFA's authors published the values of ImageNet VID val as such a file.

Example: python tools/make_motion_iou.py --dataset-path data/ILSVRC2015 --out data/motion_iou.mat
Example: python tools/make_motion_iou.py --dataset-path data/ILSVRC2015 --check imagenet_vid_groundtruth_motion_iou.mat
Example: python tools/make_motion_iou.py --check imagenet_vid_groundtruth_motion_iou.mat
"""

from __future__ import annotations

import argparse
import logging
from collections.abc import Sequence

import numpy as np

from lib.command_line import (
    add_cache_argument,
    add_classes_argument,
    add_dataset_argument,
    add_image_set_argument,
    run_script,
)
from lib.data.classes import load_classes
from lib.data.imagenet_vid import ImageNetVID
from lib.evaluation.motion import Motion, motion_from_file, motion_of, read_motion, write_motion
from lib.files import check_output
from lib.structures import GroundTruth

KINDS = {"fast": (0.0, 0.7), "medium": (0.7, 0.9), "slow": (0.9, float("inf"))}
ROUNDING = 1e-6  # files of other programs may have been rounded


def parse_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_dataset_argument(parser)
    add_image_set_argument(parser)
    parser.add_argument("--out", metavar="FILE", help="write the motion IoU of the image set to this .mat file")
    parser.add_argument("--check", metavar="FILE", help="show this .mat file; with --dataset-path, compare it too")
    add_classes_argument(parser)
    add_cache_argument(parser)
    args = parser.parse_args(arguments)
    if not args.check and not args.dataset_path:
        parser.error("give --dataset-path, to compute motion IoU, or --check, to look at a file, or both")
    if args.out and not args.dataset_path:
        parser.error("--out needs --dataset-path")
    return args


def summary(motion: Motion, frames: int) -> str:
    """Numbers of frames and objects, and the shares of fast, medium and slow ones."""
    shares = ", ".join(f"{motion.share(*ends):.1%} {name}" for name, ends in KINDS.items())
    return (
        f"{frames} frames ({motion.zero_entries} without objects count as fast), {len(motion.values)} objects: {shares}"
    )


def compare(file: str, truth: GroundTruth, computed: Motion) -> bool:
    """Print how a file's values differ from the computed ones; returns whether they are equal except for rounding."""
    given = motion_from_file(file, truth).values
    difference = np.abs(given - computed.values)
    ends = [high for _, high in KINDS.values()][:-1]
    moved = int((np.digitize(given, ends) != np.digitize(computed.values, ends)).sum())
    apart = int((difference > ROUNDING).sum())
    largest = float(difference.max(initial=0.0))
    print(
        f"{apart} of {len(given)} values differ by more than {ROUNDING:g}, by {largest:.3g} at most; "
        f"{moved} change their group"
    )
    if apart:
        worst = int(difference.argmax())
        frame = int(np.searchsorted(truth.offsets, worst, side="right"))
        place = f"frame {frame}, object {worst - truth.offsets[frame - 1] + 1}"
        print(f"largest: {place}: {given[worst]:.6f} in the file, {computed.values[worst]:.6f} computed")
    return apart == 0


def main(arguments: Sequence[str] | None = None) -> int:
    """0: done, and all the same where files were compared; 1: they differ. Raises InputError."""
    args = parse_arguments(arguments)
    if args.out:
        check_output(args.out)
    if args.check:
        file = read_motion(args.check)
        print(f"{args.check}: {summary(file.motion, len(file.counts))}")
    if not args.dataset_path:
        return 0
    classes = load_classes(args.classes, args.dataset_path)
    truth = ImageNetVID(args.dataset_path, args.image_set, classes, args.cache).ground_truth()
    untracked = int((truth.track_ids < 0).sum())
    if untracked:
        logging.warning("%d of %d objects have no track id and count as standing still", untracked, len(truth.labels))
    motion = motion_of(truth)
    print(f"{args.image_set}, from track ids: {summary(motion, truth.num_frames)}")
    if args.out:
        write_motion(args.out, motion.values, truth.offsets)
        print(f"written: {args.out}")
    return 0 if not args.check or compare(args.check, truth, motion) else 1


if __name__ == "__main__":
    run_script(main)
