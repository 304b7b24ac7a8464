"""eval_*: ground truth, average precision by motion and size, and Seq-NMS."""

from __future__ import annotations

import itertools
import re
import tarfile
import tempfile
from collections.abc import Iterator
from dataclasses import replace
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
_ORDERS = 32  # of equal scores that are tried, to see what an unstable sort may make of them
_PRINTED = Tolerance(absolute=0.5001e-4)  # four decimals
_PRINTED_AREA = (0.0, 0.0, 1e5, 1e5)  # what the originals print for all areas
_REPORT = re.compile(r"motion \[([-\d. ]+)\], area \[([-\d. ]+)\]\s*Mean AP@0\.5 = ([0-9.]*[0-9])")
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
        exact = _all_differ(detections)
        ap = _by_range(mean_ap(truth, detections, motion.values, _RANGES, motion.zero_entries))
        orders = (
            []
            if exact
            else [
                _by_range(mean_ap(truth, other, motion.values, _RANGES, motion.zero_entries))
                for other in _other_orders(detections)
            ]
        )
        _compare_ap(recording, kind, np.stack([ap, *orders]), exact)
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


def _other_orders(detections: DetectionTable) -> Iterator[DetectionTable]:
    """The detections with equal scores made different at random, by less than scores that differ are apart."""
    rng = np.random.RandomState(0)
    gap = np.diff(np.unique(detections.scores)).min(initial=1.0)
    for _ in range(_ORDERS):
        yield replace(detections, scores=detections.scores + 1e-3 * gap * rng.rand(len(detections)))


def _by_range(results: list[RangeResult]) -> np.ndarray:
    """AP (motions, areas, K) of _RANGES; -1: no object."""
    ap = np.array([result.ap for result in results])
    return np.where(np.isnan(ap), -1.0, ap).reshape(len(_MOTIONS), len(_AREAS), -1)


def _compare_ap(recording: Recording, kind: str, ap: np.ndarray, exact: bool) -> None:
    """<kind>_ap of the plain evaluator and <kind>_ap_motion; both recorded once more with stable sorting, as ours is.

    ap: (1 + orders, motions, areas, K), with stable sorting and with other orders of equal scores. What an unstable
    sort gave must lie among these, or beside them by no more than they span. exact: no scores are equal, so that both
    ways of sorting must give the same.
    """
    by_range = ap[0]
    plain = np.where(ap[:, 0, 0] < 0, np.nan, ap[:, 0, 0])
    for array, values in ((f"{kind}_ap", plain), (f"{kind}_ap_motion", ap)):
        recording.compare(f"{array}_stable_sort", values[0], _FLOAT64)
        _compare_without_objects(recording, array, values[0])
        if exact:
            recording.compare(array, values[0], _FLOAT64)
        elif values[0].shape == recording[array].shape:
            low, high = values.min(axis=0), values.max(axis=0)
            nearest = np.clip(recording[array], 2 * low - high, 2 * high - low)
            note = f"equal scores in the order of an unstable sort: beside what {_ORDERS} orders of them give"
            recording.compare(array, nearest, _FLOAT64, note)
    own = recording[f"{kind}_ap_motion"]
    means = [row[row >= 0].mean() for row in (by_range if exact else own)[:, 0]]
    _compare_report(recording, kind, means, "" if exact else " of the recorded unstable APs")
    if not exact:
        plain, same = recording[f"{kind}_ap"], own[0, 0]
        note = "the two recorded evaluators agree"
        recording.compare_with(f"{kind}_ap", np.where(same < 0, np.nan, same), plain, _FLOAT64, note)


def _compare_report(recording: Recording, kind: str, means: list[float], whose: str) -> None:
    """<kind>_info, the text of the originals' report: a line for each motion range, in all areas."""
    found = _REPORT.findall(str(recording.input(f"{kind}_info").item()))
    mean = [float(line[-1]) for line in found]
    recording.compare_with(f"{kind}_info", np.array(means), np.array(mean), _PRINTED, f"printed means{whose}")
    ranges = np.array([[float(number) for line in found for group in line[:2] for number in group.split()]])
    wanted = np.array([[number for motion in _MOTIONS for number in (*motion, *_PRINTED_AREA)]])
    recording.compare_with(f"{kind}_info", wanted, ranges, note="printed ranges")


def _compare_without_objects(recording: Recording, array: str, values: np.ndarray) -> None:
    """Classes without objects are marked (NaN or -1) in the same places; only then are the others worth comparing."""
    marks = [np.where(as_ap >= 0, 0.0, as_ap) for as_ap in (values, recording[array])]
    recording.compare_with(array, marks[0], marks[1], note="classes without objects")


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
