"""Evaluate results files: AP by class and motion as a table, as JSON and as CSV."""

from __future__ import annotations

import csv
import io
import logging
import math
import os
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

import numpy as np

from lib.evaluation.mean_ap import MOTION_RANGES, ObjectRange, RangeResult, mean_ap
from lib.evaluation.motion import Motion, motion_from_file, motion_of
from lib.evaluation.results_file import DetectionTable, read_results
from lib.evaluation.subset import detections_of_frames, objects_of_frames, truth_of_frames

if TYPE_CHECKING:
    from lib.evaluation.coco_ap import CocoAP
    from lib.structures import GroundTruth

_LOGGER = logging.getLogger(__name__)

EVALUATION = "evaluation.json"  # beside the results of a test


@dataclass(frozen=True)
class KnownMotion:
    """Motion of the objects in the frames to evaluate; None if it is unknown or not requested.

    source: its origin, in words. wanted: whether AP by motion was requested.
    """

    motion: Motion | None
    source: str
    wanted: bool = True

    @staticmethod
    def not_wanted() -> KnownMotion:
        return KnownMotion(None, "not asked for", wanted=False)


@dataclass(frozen=True)
class Coverage:
    """The part of an image set that was evaluated."""

    videos: int
    of_videos: int
    frames: int
    of_frames: int

    @staticmethod
    def of(truth: GroundTruth, chosen: np.ndarray) -> Coverage:
        """The frames `chosen` (F,) bool of the image set that `truth` describes."""
        videos, of_videos = (len(np.unique(v)) for v in (truth.videos[chosen], truth.videos))
        return Coverage(videos, of_videos, int(chosen.sum()), len(chosen))

    def __str__(self) -> str:
        share = self.frames / max(self.of_frames, 1)
        return f"{self.videos} of {self.of_videos} videos, {self.frames} of {self.of_frames} frames ({share:.1%})"


@dataclass
class Evaluation:
    """The figures of a results file. results: one per range, all objects first.

    motion: of the objects; None if unknown, in which case only all objects have an AP. motion_source: its origin, in
    words. frames_found: number of frames with at least one detection. coverage: the part of the image set that was
    evaluated; None: all of it. coco: COCO's AP, if requested.
    """

    class_names: list[str]
    results: list[RangeResult]
    motion: Motion | None
    motion_source: str
    files: list[str]
    frames: int
    frames_found: int
    detections: int
    coverage: Coverage | None = None
    coco: CocoAP | None = None

    def to_json(self) -> dict:
        """The content of evaluation.json; null for an AP without ground truth."""
        overall = self.results[0]
        return {
            "ap": _numbers(overall.ap),
            "mean_ap": _number(overall.mean_ap),
            "motion": [
                {
                    "range": list(r.range.motion),
                    "name": r.range.name,
                    "ap": _numbers(r.ap),
                    "mean_ap": _number(r.mean_ap),
                }
                for r in self.results
            ],
            "class_names": self.class_names,
            "objects": overall.objects.tolist(),
            "frames": self.frames,
            "frames_with_detections": self.frames_found,
            "detections": self.detections,
            "part": asdict(self.coverage) if self.coverage else None,
            "coco": self.coco
            and {
                "ap50": _numbers(self.coco.ap50),
                "mean_ap50": _number(self.coco.mean_ap50),
                "ap": _numbers(self.coco.ap),
                "mean_ap": _number(self.coco.mean_ap),
            },
            "motion_iou": self.motion_source,
            "results": self.files,
        }

    def columns(self) -> list[tuple[str, np.ndarray, float]]:
        """(name, APs (K,), mean AP) of each column of the table."""
        columns = [(r.range.name, r.ap, r.mean_ap) for r in self.results]
        if self.coco:
            columns += [("COCO .5", self.coco.ap50, self.coco.mean_ap50), ("COCO", self.coco.ap, self.coco.mean_ap)]
        return columns

    def table(self) -> str:
        """AP in per cent by class and range, as text; a dash for classes without objects."""
        width, columns = max(5, *map(len, self.class_names)), self.columns()
        rows = [f"{'AP (%)':<{width}} {'objects':>8}" + "".join(f" {name:>7}" for name, _, _ in columns)]
        for k, name in enumerate(self.class_names):
            aps = "".join(f" {_per_cent(ap[k]):>7}" for _, ap, _ in columns)
            rows.append(f"{name:<{width}} {self.results[0].objects[k]:>8}{aps}")
        means = "".join(f" {_per_cent(mean):>7}" for _, _, mean in columns)
        rows.append(f"{'mean':<{width}} {self.results[0].objects.sum():>8}{means}")
        return "\n".join([*rows, *self._account()])

    def to_csv(self) -> str:
        """AP from 0 to 1 by class and range as CSV, the mean last; empty for classes without objects."""
        text = io.StringIO()
        rows, columns = csv.writer(text, lineterminator="\n"), self.columns()
        rows.writerow(["class", "objects", *(name for name, _, _ in columns)])
        for k, name in enumerate(self.class_names):
            rows.writerow([name, self.results[0].objects[k], *(_exact(ap[k]) for _, ap, _ in columns)])
        rows.writerow(["mean", self.results[0].objects.sum(), *(_exact(mean) for _, _, mean in columns)])
        return text.getvalue()

    def _account(self) -> list[str]:
        lines = [f"{self.detections} detections in {self.frames_found} of {self.frames} frames"]
        if self.coverage:
            lines.append(f"only a part of the image set: {self.coverage}")
        if self.motion is None:
            return [*lines, f"motion: {self.motion_source}"]
        shares = [self.motion.share(low, high) for low, high in ((0, 0.7), (0.7, 0.9), (0.9, math.inf))]
        named = ", ".join(f"{share:.1%} {name}" for share, name in zip(shares, ("fast", "medium", "slow"), strict=True))
        return [*lines, f"motion: {named} ({self.motion_source})"]


def evaluate(
    truth: GroundTruth,
    files: Sequence[str | os.PathLike],
    motion: KnownMotion | None = None,
    chosen: np.ndarray | None = None,
    read: Callable[[Sequence[str | os.PathLike], int, int], DetectionTable] = read_results,
    coco: bool = False,
) -> Evaluation:
    """Evaluate results files, the parts of one run, against `truth`.

    motion: of the objects in the chosen frames (`find_motion`); None: computed from the track ids.
    chosen: (F,) bool, the frames to evaluate, and no other; None: all. read: how to read `files`, given the numbers of
    frames and classes. coco: also COCO's AP. Raises ResultsError and MotionError.
    """
    # Before the results, which take longer to read: a wrong file shows at once
    known = find_motion(truth, "", chosen) if motion is None else motion
    table = read(files, truth.num_frames, len(truth.class_names))
    return evaluate_table(truth, table, known, chosen, [os.fspath(file) for file in files], coco)


def evaluate_table(
    truth: GroundTruth,
    table: DetectionTable,
    known: KnownMotion,
    chosen: np.ndarray | None = None,
    files: Sequence[str] = (),
    coco: bool = False,
) -> Evaluation:
    """`evaluate` for detections in memory, in the order of a results file; files: where they come from."""
    coverage = None
    if chosen is not None and not chosen.all():
        coverage = Coverage.of(truth, chosen)
        truth, table = truth_of_frames(truth, chosen), detections_of_frames(table, chosen)
    if known.motion is None:
        results = mean_ap(truth, table, ranges=MOTION_RANGES[:1])
        results += [_unknown(r, len(truth.class_names)) for r in MOTION_RANGES[1:] if known.wanted]
    else:
        results = mean_ap(truth, table, known.motion.values, MOTION_RANGES, known.motion.zero_entries)
    return Evaluation(
        class_names=list(truth.class_names),
        results=results,
        motion=known.motion,
        motion_source=known.source,
        files=list(files),
        frames=truth.num_frames,
        frames_found=int(np.count_nonzero(np.bincount(table.frames, minlength=truth.num_frames))),
        detections=len(table),
        coverage=coverage,
        coco=_coco_ap(truth, table) if coco else None,
    )


def _coco_ap(truth: GroundTruth, table: DetectionTable) -> CocoAP:
    from lib.evaluation.coco_ap import coco_ap  # pycocotools imports matplotlib, which takes its time

    return coco_ap(truth, table)


def find_motion(truth: GroundTruth, file: str | os.PathLike, chosen: np.ndarray | None = None) -> KnownMotion:
    """Motion of the objects in the chosen frames (F,) bool, None: all frames.

    file: motion IoU of the objects in the originals' .mat form; "": computed from the track ids. Raises MotionError.
    """
    if file:
        return KnownMotion(motion_from_file(file, truth, chosen), f"from {os.fspath(file)}")
    chosen = np.ones(truth.num_frames, bool) if chosen is None else chosen
    objects = objects_of_frames(truth, chosen)
    untracked = int((truth.track_ids[objects] < 0).sum())
    if untracked:
        _LOGGER.warning("%d of %d objects have no track id: no APs by motion", untracked, objects.sum())
        return KnownMotion(None, "not known, as objects lack track ids")
    empty = int((np.diff(truth.offsets)[chosen] == 0).sum())
    return KnownMotion(Motion(motion_of(truth).values[objects], empty), "from track ids")


def _unknown(wanted: ObjectRange, classes: int) -> RangeResult:
    return RangeResult(wanted, np.full(classes, np.nan), np.zeros(classes, np.int64))


def _number(value: float) -> float | None:
    return None if math.isnan(value) else float(value)


def _numbers(values: np.ndarray) -> list[float | None]:
    return [_number(value) for value in values.tolist()]


def _exact(value: float) -> str:
    return "" if math.isnan(value) else repr(float(value))


def _per_cent(value: float) -> str:
    return "-" if math.isnan(value) else f"{100 * value:.2f}"
