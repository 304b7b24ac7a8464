"""Motion IoU: the mean IoU of an object with itself up to ten frames before and after (FGFA paper).

It divides objects into slow, medium and fast ones. The originals include the values of ImageNet VID val in a MATLAB
file; here they can be computed from the track ids of any data set, and written to and read from such files.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import scipy.io

from lib.errors import InputError
from lib.evaluation.mat_cells import MatError, read_cells
from lib.evaluation.mean_ap import paired_iou
from lib.files import writing

if TYPE_CHECKING:
    from lib.structures import GroundTruth

REACH = 10  # frames before and after
_KEY = "motion_iou"
# The official file shows this floor under the sum and under the number of IoUs: objects that nowhere overlap their
# neighbours have exactly 1e-10 / n in it, and the only object without neighbours (in frame 88176) has 1.
_FLOOR = 1e-10


class MotionError(InputError):
    """Motion IoU that cannot be read, or belongs to other data; the message names the file and what to do."""


class Motion(NamedTuple):
    """values: (G,) float64 in the order of the objects. zero_entries: frames without objects entered as a value of 0.

    The official file is read so that each of its frames without objects is one 0, which counts only in the shares of
    motion values (docs/rules.md, section 6).
    """

    values: np.ndarray
    zero_entries: int

    def share(self, low: float, high: float) -> float:
        """The share of all entries in [low, high)."""
        inside = ((self.values >= low) & (self.values < high)).sum() + self.zero_entries * (low <= 0 < high)
        return float(inside / max(len(self.values) + self.zero_entries, 1))


def motion_of(truth: GroundTruth) -> Motion:
    """The mean IoU of every object with those of its track up to 10 frames before and after in its video.

    Frames in which the object is missing and frames beyond the ends of the video do not enter the mean; an object
    without such neighbours, or without a track id, has 1. If a track has two boxes in a frame, the first one is used.
    """
    frames = truth.frame_of_object()
    total, count = np.zeros(len(frames)), np.zeros(len(frames))
    known = np.flatnonzero(truth.track_ids >= 0)
    if len(known):
        rows, keys = _by_track(truth, frames, known)
        for offset in (*range(-REACH, 0), *range(1, REACH + 1)):
            place = np.minimum(np.searchsorted(keys, keys + offset), len(keys) - 1)
            met = keys[place] == keys + offset
            total[rows[met]] += paired_iou(truth.boxes[rows[met]], truth.boxes[rows[place[met]]])
            count[rows[met]] += 1
    values = np.maximum(total, _FLOOR) / np.maximum(count, _FLOOR)
    return Motion(np.minimum(values, 1.0), int((np.diff(truth.offsets) == 0).sum()))


def _by_track(truth: GroundTruth, frames: np.ndarray, known: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The objects `known`, track by track and frame by frame, and an ascending key: one more is one frame later."""
    by_track = np.lexsort((frames[known], truth.track_ids[known], truth.videos[frames[known]]))
    rows = known[by_track]
    videos, tracks = truth.videos[frames[rows]], truth.track_ids[rows]
    new_track = (np.diff(videos, prepend=videos[0]) != 0) | (np.diff(tracks, prepend=tracks[0]) != 0)
    gap = truth.num_frames + REACH  # keeps the neighbours of one track apart from the next track
    return rows, np.cumsum(new_track) * gap + frames[rows]


class MotionFile(NamedTuple):
    """A file of the originals' form: values (G,) float64 in frame order; counts (F,) int64, how many each frame has.

    zero_entries: (F,) bool, the frames without objects that count as one value of 0.
    """

    values: np.ndarray
    counts: np.ndarray
    zero_entries: np.ndarray

    @property
    def motion(self) -> Motion:
        return Motion(self.values, int(self.zero_entries.sum()))


def read_motion(path: str | os.PathLike) -> MotionFile:
    """Read a file in the originals' form.

    It is a MATLAB file with a cell array `motion_iou`, one cell (n, 1) per frame. A frame without objects is (1, 0) in
    the official file, which the originals count as one entry 0; as (0, 0) they do not count it. Raises MotionError.
    """
    try:
        frames = read_cells(Path(path).read_bytes(), _KEY)
    except KeyError as error:
        raise MotionError(f"{path}: holds no '{_KEY}'; give a motion IoU file") from error
    except OSError as error:
        raise MotionError(f"{path}: cannot be read ({error.strerror or error}); give a motion IoU file") from error
    except MatError as error:
        raise MotionError(f"{path}: {error}; give a motion IoU file") from error
    counts = np.array([frame.size for frame in frames], np.int64)
    values = np.concatenate([np.zeros(0), *(frame.reshape(-1) for frame in frames)])
    inside = (values >= 0) & (values <= 1)
    if not inside.all():
        worst = int(np.argmin(inside))
        frame = int(np.searchsorted(np.cumsum(counts), worst, side="right"))
        raise MotionError(f"{path}: frame {frame + 1} has a motion IoU of {values[worst]}, not from 0 to 1")
    zero_entries = np.array([frame.size == 0 and frame.shape[0] > 0 for frame in frames], bool)
    return MotionFile(values, counts, zero_entries)


def motion_from_file(path: str | os.PathLike, truth: GroundTruth, chosen: np.ndarray | None = None) -> Motion:
    """The values of a file for the objects of `truth`, or those in the frames `chosen` (F,) bool alone.

    Raises MotionError where file and truth do not fit.
    """
    file = read_motion(path)
    counts = file.counts
    if len(counts) != truth.num_frames:
        raise MotionError(
            f"{path}: made for {len(counts)} frames, but the image set has {truth.num_frames}; give the file of this "
            "image set, or none: motion IoU is then computed from the track ids"
        )
    objects = np.diff(truth.offsets)
    different = np.flatnonzero(counts != objects)
    if len(different):
        frame = int(different[0])
        raise MotionError(
            f"{path}: {counts[frame]} values for frame {frame + 1}, which has {objects[frame]} known objects "
            f"({len(different)} such frames); give the file of these annotations and classes, or none: motion IoU is "
            "then computed from the track ids"
        )
    if chosen is None:
        return file.motion
    return Motion(file.values[np.repeat(chosen, counts)], int((file.zero_entries & chosen).sum()))


def write_motion(path: str | os.PathLike, values: np.ndarray, offsets: np.ndarray) -> None:
    """Write (G,) values in the official file's form, whole or not at all; frame f has
    `values[offsets[f]:offsets[f + 1]]`. Raises OutputError.
    """
    cells = np.empty((len(offsets) - 1, 1), object)
    for frame, (start, end) in enumerate(zip(offsets[:-1].tolist(), offsets[1:].tolist(), strict=True)):
        cells[frame, 0] = values[start:end, None] if end > start else np.zeros((1, 0))
    with writing(path) as file:
        scipy.io.savemat(file, {_KEY: cells}, do_compression=True)
