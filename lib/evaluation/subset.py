"""Restrict an evaluation to some frames of an image set.

AP of a part is computed as if the image set had no other frames: objects in other frames are not counted as missed, and
other frames without objects do not enter the shares of motion (see `lib.evaluation.motion`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from lib.errors import InputError
from lib.evaluation.results_file import DetectionTable
from lib.structures import GroundTruth


class SubsetError(InputError):
    """A choice of videos that the image set does not have; the message names them."""


def choose_videos(wanted: str, names: Sequence[str]) -> np.ndarray:
    """(V,) bool: the videos that `wanted` selects.

    wanted: a number N, the first N; or names joined with commas, whole or only their last folder.
    names: of all videos, as the list has them. Raises SubsetError.
    """
    if wanted.isdecimal() and len(wanted) < 10:
        if not 1 <= int(wanted) <= len(names):
            raise SubsetError(f"{wanted} videos asked for; the image set has 1 to {len(names)}")
        return np.arange(len(names)) < int(wanted)
    chosen = np.zeros(len(names), bool)
    for name in filter(None, (part.strip().strip("/") for part in wanted.split(","))):
        found = [v for v, known in enumerate(names) if name in (known, known.rpartition("/")[2])]
        if len(found) != 1:
            example = f"; names are like '{names[0]}'" if len(names) else ""
            raise SubsetError(f"video '{name}': the image set has {len(found) or 'no'} such video{example}")
        chosen[found] = True
    if not chosen.any():
        raise SubsetError(f"no video in '{wanted}'; give a number or names")
    return chosen


def truth_of_frames(truth: GroundTruth, chosen: np.ndarray) -> GroundTruth:
    """The ground truth of the frames `chosen` (F,) bool alone. Videos keep their numbers."""
    objects = objects_of_frames(truth, chosen)
    return replace(
        truth,
        videos=truth.videos[chosen],
        offsets=np.concatenate(([0], np.cumsum(np.diff(truth.offsets)[chosen]))),
        boxes=truth.boxes[objects],
        labels=truth.labels[objects],
        track_ids=truth.track_ids[objects],
    )


def objects_of_frames(truth: GroundTruth, chosen: np.ndarray) -> np.ndarray:
    """(G,) bool: the objects in the frames `chosen` (F,) bool."""
    return np.repeat(chosen, np.diff(truth.offsets))


def detections_of_frames(detections: DetectionTable, chosen: np.ndarray) -> DetectionTable:
    """The detections in the frames `chosen` (F,) bool, which are numbered anew."""
    part = detections[chosen[detections.frames]]
    number = np.cumsum(chosen) - 1
    return replace(part, frames=number[part.frames].astype(np.int32))
