"""eval_*: ground truth, average precision by motion and size, and Seq-NMS."""

from __future__ import annotations

import itertools
import re
import tarfile
import tempfile
from pathlib import Path

import numpy as np

from lib.data.classes import IMAGENET_VID
from lib.data.imagenet_vid import ImageNetVID
from lib.evaluation.mean_ap import ObjectRange, RangeResult, mean_ap
from lib.evaluation.motion import Motion, motion_from_file
from lib.evaluation.results_file import DetectionTable, read_results
from lib.evaluation.seq_nms import SeqNMS, seq_nms_table
from lib.structures import GroundTruth
from tools.parity.rows import Recording, Tolerance

_MOTIONS = [(0.0, 1.0), (0.0, 0.7), (0.7, 0.9), (0.9, 1.0)]
_AREAS = [(0.0, 1e10), (0.0, 50.0**2), (50.0**2, 150.0**2), (150.0**2, 1e10)]
_RANGES = [ObjectRange("", *pair) for pair in itertools.product(_MOTIONS, _AREAS)]
_FLOAT64 = Tolerance(absolute=1e-9)
_COARSE = Tolerance(absolute=0.5)  # README and spec: what an unstable sort may make of ties, in a rare class
_PRINTED = Tolerance(absolute=0.5001e-4)  # four decimals
# The files beside the arrays: the end of the name after eval_<name>
ANNOTATIONS, MOTION, DETECTIONS = "_annotations.tar.gz", "_motion_iou.mat", "_dets_{}.txt"


def compare_evaluation(recording: Recording, base: Path) -> None:
    """Every array of an eval_* set. base: the path of its files up to where their names begin to differ."""
    with tempfile.TemporaryDirectory() as folder:
        with tarfile.open(f"{base}{ANNOTATIONS}") as archive:
            archive.extractall(folder, filter="data")
        truth = ImageNetVID(folder, "VID_val_videos", IMAGENET_VID, Path(folder) / "cache").ground_truth()
    recording.compare("frames", np.array([truth.num_frames]))
    motion = motion_from_file(f"{base}{MOTION}", truth)
    _compare_truth(recording, truth, motion)
    kinds = [match[1] for match in recording.matching(r"([a-z0-9]+)_ap")]
    tables = {kind: read_results(f"{base}{DETECTIONS.format(kind)}", truth.num_frames, 30) for kind in kinds}
    for kind, detections in tables.items():
        results = mean_ap(truth, detections, motion.values, _RANGES, motion.zero_entries)
        _compare_ap(recording, kind, results, exact=_all_differ(detections))
    _compare_detections(recording, truth, tables)
    _compare_seq_nms(recording)


def _all_differ(detections: DetectionTable) -> bool:
    """Whether no two scores of a class are equal."""
    pairs = np.column_stack((detections.labels, detections.scores))
    return len(np.unique(pairs, axis=0)) == len(pairs)


def _compare_truth(recording: Recording, truth: GroundTruth, motion: Motion) -> None:
    """gt: video, frame in it, frame id, class, x1, y1, x2, y2, motion IoU."""
    frames = truth.frame_of_object()
    columns = (*_places(truth, frames), frames + 1, truth.labels, truth.boxes, motion.values)
    recording.compare("gt", np.column_stack(columns), _FLOAT64)


def _places(truth: GroundTruth, frames: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Video of each of `frames`, and its number in the video."""
    videos = truth.videos[frames]
    return videos, frames - np.searchsorted(truth.videos, videos)


def _compare_ap(recording: Recording, kind: str, results: list[RangeResult], exact: bool) -> None:
    """<kind>_ap of the plain evaluator and <kind>_ap_motion; both recorded once more with stable sorting, as ours is.

    exact: all scores differ, so that both ways of sorting must give the same.
    """
    ap = np.array([result.ap for result in results])  # (16, K), NaN: no object
    by_range = np.where(np.isnan(ap), -1.0, ap).reshape(len(_MOTIONS), len(_AREAS), -1)
    for array, values in ((f"{kind}_ap", ap[0]), (f"{kind}_ap_motion", by_range)):
        recording.compare(f"{array}_stable_sort", values, _FLOAT64)
        note = "" if exact else "equal scores in the order of an unstable sort: not reproducible"
        recording.compare(array, values, _FLOAT64 if exact else _COARSE, note)
        _compare_without_objects(recording, array, values)
    printed = _printed_means(str(recording.input(f"{kind}_info").item()))
    own = recording[f"{kind}_ap_motion"]
    means = [row[row >= 0].mean() for row in (by_range if exact else own)[:, 0]]
    note = "printed means" if exact else "printed means of the recorded unstable APs"
    recording.compare_with(f"{kind}_info", np.array(means), np.array(printed), _PRINTED, note)
    if not exact:
        plain, same = recording[f"{kind}_ap"], own[0, 0]
        note = "the two recorded evaluators agree"
        recording.compare_with(f"{kind}_ap", np.where(same < 0, np.nan, same), plain, _FLOAT64, note)


def _compare_without_objects(recording: Recording, array: str, values: np.ndarray) -> None:
    """Classes without objects are marked (NaN or -1) in the same places; only then are the others worth comparing."""
    marks = [~(as_ap >= 0) for as_ap in (values, recording[array])]
    recording.compare_with(array, marks[0], marks[1], note="classes without objects")


def _printed_means(text: str) -> list[float]:
    return [float(value) for value in re.findall(r"Mean AP@0\.5 = ([0-9.]*[0-9])", text)]


def _compare_detections(recording: Recording, truth: GroundTruth, tables: dict[str, DetectionTable]) -> None:
    """dets_rows: the detections of the results files, in any order; coarse scores are not those of the rows."""
    recorded = recording.input("dets_rows")
    for kind, table in tables.items():
        columns = (*_places(truth, table.frames), table.frames + 1, table.labels, table.boxes, table.scores)
        compared = slice(None) if _all_differ(table) else slice(-1)
        note = f"{kind}, as sets" + ("" if compared.stop is None else ", without scores")
        rows = _sorted(np.column_stack(columns)[:, compared])
        recording.compare_with("dets_rows", rows, _sorted(recorded[:, compared]), _FLOAT64, note)


def _compare_seq_nms(recording: Recording) -> None:
    """Rows video, frame, class, x1, y1, x2, y2, score, in any order."""
    given = recording.input("seqnms_in")
    lengths = np.zeros(int(given[:, 0].max()) + 1, int)
    np.maximum.at(lengths, given[:, 0].astype(int), given[:, 1].astype(int) + 1)
    first = np.cumsum(lengths) - lengths
    videos = np.repeat(np.arange(len(lengths)), lengths)
    frames = (first[given[:, 0].astype(int)] + given[:, 1]).astype(np.int32)
    table = DetectionTable(frames, given[:, 2].astype(np.int16), given[:, 7], given[:, 3:7])
    for array, threshold in (("seqnms_out", None), *_thresholds(recording)):
        found = seq_nms_table(table, videos, SeqNMS(nms=threshold))
        own = videos[found.frames]
        rows = np.column_stack((own, found.frames - first[own], found.labels, found.boxes, found.scores))
        recording.input(array)
        recording.compare_with(array, _sorted(rows), _sorted(recording[array]), _FLOAT64, "as sets")


def _thresholds(recording: Recording) -> list[tuple[str, float]]:
    """seqnms_out_nms03: the NMS of each frame at 0.3 after it."""
    return [(match[0], int(match[1]) / 10) for match in recording.matching(r"seqnms_out_nms(\d+)")]


def _sorted(rows: np.ndarray) -> np.ndarray:
    """By video, frame, class, box, so that sets can be compared row by row."""
    return rows[np.lexsort(rows.T[::-1])]
