"""The best and worst clips of the runs, and pictures of them: ground truth and detections on some frames."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import torch

from lib.data.transforms import ImageError, read_image
from lib.report.analysis import Analysis
from lib.report.errors import CORRECT, KINDS
from lib.structures import Detections, GroundTruth
from lib.visualize.clip import fit
from lib.visualize.draw import draw_caption, draw_detections

_FRAMES, _WIDTH, _GAP = 3, 378, 5  # pictures of a clip, pixels of each, pixels between them
_LINE = 2  # pixels of a box: its colour is to be seen
_MOST_RUNS = 4  # with a row of pictures
_CORRECT, _FALSE = (110, 205, 70), (70, 80, 245)  # BGR: green and red
_JPEG_QUALITY = 82


@dataclass(frozen=True)
class ReportVideo:
    """A video of the image set. images: the files of its frames, in order; "" for those that are not known."""

    name: str
    images: list[str]


@dataclass(frozen=True)
class Choice:
    """Clips to show: (heading, what it says, video numbers)."""

    heading: str
    meaning: str
    videos: list[int]


def f1_of_videos(counts: np.ndarray) -> np.ndarray:
    """(V, 3) of `Analysis.videos` -> (V,): F1 in each video; NaN where there is neither an object nor a detection."""
    true, false, lost = counts.T
    total = 2 * true + false + lost
    return np.divide(2 * true, total, out=np.full(len(total), np.nan), where=total > 0)


def choose_clips(runs: Sequence[Analysis], count: int = 3) -> list[Choice]:
    """The worst and the best clips by mean F1 of the runs, and those in which the runs' F1 differs most.

    Ties are broken by the number of errors, or of objects found; no clip is chosen twice.
    """
    f1 = np.stack([f1_of_videos(run.videos) for run in runs])  # (runs, V)
    known = np.flatnonzero(~np.isnan(f1).all(axis=0))
    mean = np.nanmean(f1[:, known], axis=0)
    true, false, lost = (sum(run.videos[known, column] for run in runs) for column in range(3))
    spread = np.nanmax(f1[:, known], axis=0) - np.nanmin(f1[:, known], axis=0)
    worst = known[np.lexsort((-(false + lost), mean))].tolist()
    best = known[np.lexsort((-true, -mean))].tolist()
    choices = []
    count = min(count, max(1, len(known) // 3))  # a small set still has both kinds
    taken: set[int] = set()
    if len(runs) > 1:
        differing = [v for v in known[np.argsort(-spread, kind="stable")].tolist() if np.ptp(f1[:, v]) > 0][:count]
        taken.update(differing)
        choices.append(Choice("Where the runs differ most", "largest difference in F1 between two runs", differing))
    for heading, meaning, ranked in (
        ("Worst clips", "lowest F1" + (", mean of the runs" if len(runs) > 1 else ""), worst),
        ("Best clips", "highest F1" + (", mean of the runs" if len(runs) > 1 else ""), best),
    ):
        videos = [v for v in ranked if v not in taken][:count]
        taken.update(videos)
        choices.append(Choice(heading, meaning, videos))
    return [choice for choice in choices if choice.videos]


def clip_sheet(
    clip: ReportVideo, runs: Sequence[Analysis], truth: GroundTruth, first_frame: int
) -> tuple[bytes | None, str]:
    """A JPEG with a row of frames for each run, at most four runs, or None and the reason in words.

    first_frame: index of the clip's first frame in `truth`.
    """
    length, count = len(clip.images), min(_FRAMES, len(clip.images))
    chosen = [int((i + 0.5) * length / count) for i in range(count)]  # the middles of equal parts
    paths = [clip.images[i] for i in chosen]
    absent = [path for path in paths if not os.path.isfile(path)]
    if absent:
        return None, f"No picture: {absent[0] or 'its image file'} is " + ("missing." if absent[0] else "not known.")
    try:
        images = [read_image(path) for path in paths]
    except ImageError as error:
        return None, f"No picture: {error}."
    rows = []
    for run in runs[:_MOST_RUNS]:
        cells = [_frame(image, i, run, truth, first_frame + i) for i, image in zip(chosen, images, strict=True)]
        rows.append(_joined([fit(cell, cells[0].shape[:2]) for cell in cells], axis=1))
    sheet = _joined([fit(row, rows[0].shape[:2]) for row in rows], axis=0)
    _, data = cv2.imencode(".jpg", sheet, [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY])
    return data.tobytes(), ""


def _frame(image: np.ndarray, place: int, run: Analysis, truth: GroundTruth, frame: int) -> np.ndarray:
    """One frame: the objects dashed, correct detections green, false ones red with the type of their error."""
    rows = slice(*np.searchsorted(run.shown.frames, [frame, frame + 1]).tolist())
    kinds, classes = run.outcomes.kind[rows].astype(np.int64), len(truth.class_names)
    # A name for every class and outcome, and so a label for each
    names = [f"{name} {suffix}".rstrip() for suffix in ("", *KINDS[:-1]) for name in truth.class_names]
    detections = Detections(
        torch.from_numpy(run.shown.boxes[rows].astype(np.float32)),
        torch.from_numpy(run.shown.scores[rows].astype(np.float32)),
        torch.from_numpy(run.shown.labels[rows] + classes * kinds),
    )
    objects = truth.boxes[truth.offsets[frame] : truth.offsets[frame + 1]]
    drawn = draw_detections(
        image,
        detections,
        names,
        ground_truth=objects,
        scale=_WIDTH / image.shape[1],
        colour_of=lambda label: _CORRECT if label <= classes else _FALSE,
        width=_LINE,
    )
    correct = int((kinds == CORRECT).sum())
    return draw_caption(drawn, f"{run.name} · frame {place + 1} · {correct} of {len(objects)} found")


def _joined(images: Sequence[np.ndarray], axis: int) -> np.ndarray:
    """`images` in a row (axis 1) or a column (axis 0), a white gap between them."""
    shape = list(images[0].shape)
    shape[axis] = _GAP
    gap = np.full(shape, 255, np.uint8)
    return np.concatenate([part for image in images for part in (gap, image)][1:], axis=axis)
