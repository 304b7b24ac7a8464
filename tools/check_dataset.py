"""Check a data set: count objects by class, list and motion, and name everything that is missing, broken or left out.

The exit status is 1 if something is wrong: a file that is missing or cannot be read, an impossible box, a video with
gaps or of another length than the list says, a list without one object of the class list. Items that are only left out
are listed too: objects outside the class list, classes that no object has, and names that are spelt otherwise.

Example: python tools/check_dataset.py --dataset-path data/ILSVRC2015
Example: python tools/check_dataset.py --dataset-path data/mine --image-set VID_val_videos --images --json check.json
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from itertools import groupby

import numpy as np

from lib.command_line import (
    add_classes_argument,
    add_dataset_argument,
    add_workers_argument,
    count,
    run_script,
)
from lib.data.classes import Classes, load_classes
from lib.data.dataset_check import LEFT_OUT, WRONG, SetCheck, check_image_set, count_findings, find_image_sets
from lib.errors import some_of
from lib.evaluation.motion import motion_of
from lib.files import check_output, write_json
from lib.structures import GroundTruth

ENDS = (0.7, 0.9)  # of fast and medium motion
KINDS = ("fast", "medium", "slow")


def parse_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_dataset_argument(parser, required=True)
    parser.add_argument("--image-set", nargs="+", metavar="NAME", help="default: every list in ImageSets")
    images = parser.add_mutually_exclusive_group()
    images.add_argument("--images", action="store_true", help="also decode every listed image and compare its size")
    images.add_argument("--annotations-only", action="store_true", help="do not check that the images are there")
    parser.add_argument(
        "--show", type=count, default=20, metavar="N", help="findings of each kind to print; 0: all; default: 20"
    )
    add_classes_argument(parser)
    add_workers_argument(parser)
    parser.add_argument("--json", metavar="OUT", help="also write all findings to this file")
    return parser.parse_args(arguments)


def motion_groups(check: SetCheck, classes: Classes) -> np.ndarray | None:
    """(G,) 0, 1, 2: fast, medium, slow; None for single frames and where track ids are missing."""
    index = check.index
    labels = index.labels(classes)
    if check.videos is None or (index.track_ids[labels > 0] < 0).any():
        return None
    truth = GroundTruth(list(classes.names), check.videos, index.offsets, index.boxes, labels, index.track_ids)
    return np.digitize(motion_of(truth).values, ENDS)


def counts(check: SetCheck, classes: Classes) -> dict[str, dict[str, int]]:
    """Of each class that is there: frames, objects, and where it is known how many are fast, medium and slow."""
    labels, frames = check.index.labels(classes), check.index.frame_of_object()
    groups = motion_groups(check, classes)
    found = {}
    for label, name in enumerate(classes.names, 1):
        mine = labels == label
        if mine.any():
            found[name] = {"frames": len(np.unique(frames[mine])), "objects": int(mine.sum())}
            if groups is not None:
                found[name] |= {kind: int((groups[mine] == k).sum()) for k, kind in enumerate(KINDS)}
    return found


def absent_classes(per_class: dict[str, dict[str, int]], classes: Classes) -> list[str]:
    """The display names of the classes that no object has."""
    return [name for name in classes.names if name not in per_class]


def describe(check: SetCheck, per_class: dict[str, dict[str, int]], classes: Classes, show: int) -> str:
    """The table of an image set, and its findings, `show` of each kind (0: all)."""
    videos = f" of {int(check.videos[-1]) + 1} videos" if check.videos is not None else ""
    lines = [f"{check.name}: {check.frames} frames{videos}"]
    if per_class:
        columns = list(next(iter(per_class.values())))
        width = max(5, *map(len, per_class))
        lines.append(f"  {'class':<{width}}" + "".join(f" {column:>9}" for column in columns))
        rows = [*per_class.items(), ("all", {c: sum(row[c] for row in per_class.values()) for c in columns})]
        known = check.index.frame_of_object()[check.index.labels(classes) > 0]
        rows[-1][1]["frames"] = len(np.unique(known))  # one with two classes is in the rows of both
        lines += [f"  {name:<{width}}" + "".join(f" {row[c]:>9}" for c in columns) for name, row in rows]
    if check.index is not None:
        absent = absent_classes(per_class, classes)
        without = f"; no object of {some_of(absent, show or len(absent))}" if absent else ""
        lines.append(f"  {len(per_class)} of {len(classes.names)} classes{without}")
    order = list(WRONG | LEFT_OUT)
    findings = sorted(check.findings, key=lambda finding: order.index(finding.kind))
    for kind, group in groupby(findings, key=lambda finding: finding.kind):
        group = list(group)
        mark = "WRONG" if group[0].wrong else "left out"
        lines.append(f"  {mark}: {len(group)} x {(WRONG | LEFT_OUT)[kind]}")
        shown = group[:show] if show else group
        lines += [f"    {finding.place}: {finding.detail}" for finding in shown]
        if len(shown) < len(group):
            lines.append(f"    and {len(group) - len(shown)} more (--show 0 shows all)")
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> int:
    """0: all is well; 1: something is wrong. Raises InputError."""
    args = parse_arguments(arguments)
    if args.json:
        check_output(args.json)
    root = args.dataset_path
    classes = load_classes(args.classes, root)
    names = args.image_set or find_image_sets(root)
    report, wrong, similar = [], 0, 0
    for name in names:
        check = check_image_set(root, name, classes, args.images, args.annotations_only, args.workers)
        per_class = counts(check, classes) if check.index else {}
        print(describe(check, per_class, classes, args.show), flush=True)
        wrong += sum(finding.wrong for finding in check.findings)
        similar += sum(finding.kind == "similar name" for finding in check.findings)
        report.append({
            "image_set": name, "frames": check.frames,
            "videos": None if check.videos is None else int(check.videos[-1]) + 1,
            "classes": per_class, "classes_without_objects": absent_classes(per_class, classes),
            "counts": count_findings(check.findings),
            "findings": [finding._asdict() | {"wrong": finding.wrong} for finding in check.findings],
        })  # fmt: skip
    but = ", but look at the names that are like those of the class list ('did you mean', above)" if similar else ""
    print(f"{wrong} things are wrong" if wrong else f"nothing is wrong{but}")
    if args.json:
        write_json(args.json, {"dataset_path": root, "wrong": wrong, "image_sets": report})
    return 1 if wrong else 0


if __name__ == "__main__":
    run_script(main)
