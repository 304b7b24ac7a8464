"""Seq-NMS: re-score detections along tracks (Han et al. 2016; docs/rules.md, section 7).

For one class of one video: boxes of consecutive frames are linked if their IoU is at least 0.5. The path of links with
the largest SUM of scores is selected, all its boxes get the path's mean score, and boxes that overlap one of them in
its frame by 0.3 or more are dropped; then the next path is selected among the remaining boxes. The search ends when no
path's sum reaches 0.01, or when no link is left: the remaining boxes keep their scores, even if they overlap. Of equal
sums the path that ends first is selected, of equal boxes the first one. NMS in every frame follows.

The input is every box that the network scored, before NMS. Boxes are in pixels of the original frame with inclusive
corners, and all arithmetic is float64.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch

from lib.evaluation.compiled import load_compiled
from lib.evaluation.results_file import DetectionTable, ResultsError
from lib.structures import Detections, Frame

_seq_nms = load_compiled("_seq_nms", __name__)


@dataclass(frozen=True)
class SeqNMS:
    """Parameters of Seq-NMS, by default the original's. Raises ValueError for one that is out of range.

    link: least IoU of linked boxes. suppress: least IoU with a path's box that drops a box of the same frame.
    stop: least sum of a path. nms: the final NMS of a frame drops above this IoU; None leaves it out.
    """

    link: float = 0.5
    suppress: float = 0.3
    stop: float = 0.01
    nms: float | None = 0.3

    def __post_init__(self) -> None:
        for name in ("link", "suppress", "stop"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} of Seq-NMS must be more than 0, not {getattr(self, name)}")
        if self.nms is not None and not self.nms >= 0:
            raise ValueError(f"nms of Seq-NMS must be None or at least 0, not {self.nms}")


ORIGINAL = SeqNMS()


def seq_nms(
    frames: np.ndarray, boxes: np.ndarray, scores: np.ndarray, rules: SeqNMS = ORIGINAL
) -> tuple[np.ndarray, np.ndarray]:
    """Seq-NMS of one class of one video, without the NMS after it.

    frames: (n,) integers, ascending; only whether two are consecutive matters. boxes: (n, 4). scores: (n,).
    Returns which boxes are kept (n,) bool, and their scores (n,) float64; those of the dropped ones mean nothing.
    Raises ValueError for other shapes, frames that do not ascend and numbers that are not finite.
    """
    frames, boxes, scores = np.asarray(frames), np.asarray(boxes), np.array(scores, np.float64)
    n = scores.size
    if frames.shape != (n,) or boxes.shape != (n, 4) or scores.shape != (n,):
        raise ValueError(
            "seq_nms wants frames (n,), boxes (n, 4) and scores (n,), "
            f"not {frames.shape}, {boxes.shape} and {scores.shape}"
        )
    if not (np.isfinite(scores).all() and np.isfinite(boxes).all()):
        raise ValueError("seq_nms wants finite boxes and scores")
    if (frames[1:] < frames[:-1]).any():
        raise ValueError("seq_nms wants its boxes by ascending frame")
    kept = np.ones(n, bool)
    if n:
        first = _group_starts(frames)
        joined = np.diff(frames[first[:-1]], prepend=frames[0] - 2) == 1
        columns = _columns(boxes)
        addresses = (a.ctypes.data for a in (first, joined, columns, scores, kept))
        _seq_nms.rescore(len(first) - 1, *addresses, rules.link, rules.suppress, rules.stop)
    return kept, scores


def seq_nms_video(video: DetectionTable, rules: SeqNMS = ORIGINAL) -> DetectionTable:
    """Seq-NMS of all classes of one video, and the NMS after it: rows by frame, class, descending score.

    Raises ValueError for numbers that are not finite.
    """
    # Boxes of a frame and class stay in their order, which decides between equal ones
    video = video[np.lexsort((video.frames, video.labels))]
    kept, scores = np.ones(len(video), bool), np.empty(len(video))
    ends = _group_starts(video.labels)
    for begin, end in zip(ends[:-1], ends[1:], strict=True):
        rows = slice(begin, end)
        kept[rows], scores[rows] = seq_nms(video.frames[rows], video.boxes[rows], video.scores[rows], rules)
    found = DetectionTable(video.frames, video.labels, scores, video.boxes)[kept]
    found = found[np.lexsort((-found.scores, found.labels, found.frames))]
    return found if rules.nms is None else found[_suppress(found, rules.nms)]


def seq_nms_videos(
    videos: Iterable[DetectionTable], rules: SeqNMS = ORIGINAL, workers: int = 1
) -> Iterator[DetectionTable]:
    """`seq_nms_video` of one video after the other, in order, whatever the number of workers.

    workers: threads, which run side by side as the compiled loops do not hold the GIL. Not more than `workers` + 1
    videos of `videos` are held at a time.
    """
    if workers <= 1:
        yield from (seq_nms_video(video, rules) for video in videos)
        return
    with ThreadPoolExecutor(workers) as pool:
        running: deque[Future[DetectionTable]] = deque()
        for video in videos:
            running.append(pool.submit(seq_nms_video, video, rules))
            if len(running) > workers:
                yield running.popleft().result()
        while running:
            yield running.popleft().result()


def seq_nms_blocks(
    blocks: Iterable[DetectionTable], videos: np.ndarray, rules: SeqNMS = ORIGINAL, workers: int = 1
) -> Iterator[DetectionTable]:
    """Seq-NMS, and the NMS after it, of saved raw detections that come piece by piece: one table per video with boxes.

    blocks: the boxes of a video must follow one another; where they begin and end does not matter. videos: (F,) the
    video of each frame of the image set. Holds the raw boxes of `workers` + 1 videos, and a block.
    Raises ResultsError where a video comes back after another one.
    """
    return seq_nms_videos(_whole_videos(blocks, videos), rules, workers)


def _whole_videos(blocks: Iterable[DetectionTable], videos: np.ndarray) -> Iterator[DetectionTable]:
    """`blocks` cut and joined anew, so that each part is one video."""
    begun: list[DetectionTable] = []
    seen: set[int] = set()
    current = -1
    for block in blocks:
        video_of_row = videos[block.frames]
        ends = _group_starts(video_of_row)
        for begin, end in zip(ends[:-1], ends[1:], strict=True):
            video = int(video_of_row[begin])
            if video != current:
                if begun:
                    yield DetectionTable.cat(begun)
                if video in seen:
                    frame_id = int(block.frames[begin]) + 1
                    raise ResultsError(
                        f"frame {frame_id} comes after another video, but belongs to one before it; Seq-NMS takes "
                        "video after video: sort the file first (sort -s -n -k1,1)"
                    )
                seen.add(video)
                begun, current = [], video
            begun.append(block[begin:end])
    if begun:
        yield DetectionTable.cat(begun)


def seq_nms_table(
    table: DetectionTable, videos: np.ndarray, rules: SeqNMS = ORIGINAL, workers: int = 1
) -> DetectionTable:
    """Seq-NMS, and the NMS after it, of saved raw detections: rows by frame, class, descending score.

    videos: (F,) the video of each frame of the image set, ascending (`GroundTruth.videos`).
    Raises ValueError for frames outside 0..F-1 and numbers that are not finite.
    """
    return DetectionTable.cat(list(seq_nms_videos(split_videos(table, videos), rules, workers)))


def seq_nms_answers(
    answers: Iterable[tuple[Frame, Detections]], rules: SeqNMS = ORIGINAL
) -> Iterator[tuple[Frame, Detections]]:
    """Apply Seq-NMS, and the NMS after it, to the answers of an inference loop: (frame, detections) of each frame.

    The detections must not be reduced by NMS. Holds those of one video, which `Frame.first` begins, and yields its
    frames when it is over. Scores and boxes that come out are float64, not rounded in between.
    """
    held: list[tuple[Frame, Detections]] = []
    for frame, found in answers:
        if frame.first and held:
            yield from _rescored(held, rules)
            held = []
        held.append((frame, found))
    if held:
        yield from _rescored(held, rules)


def _rescored(video: list[tuple[Frame, Detections]], rules: SeqNMS) -> Iterator[tuple[Frame, Detections]]:
    """The answers of one whole video after Seq-NMS."""
    table = DetectionTable.cat([DetectionTable.of_frame(i, found) for i, (_, found) in enumerate(video, 1)])
    table = seq_nms_video(table, rules)
    ends = np.searchsorted(table.frames, np.arange(len(video) + 1))
    for (frame, _), begin, end in zip(video, ends[:-1], ends[1:], strict=True):
        rows = table[begin:end]
        columns = (rows.boxes, rows.scores, rows.labels.astype(np.int64))
        yield frame, Detections(*(torch.from_numpy(np.ascontiguousarray(column)) for column in columns))


def split_videos(table: DetectionTable, videos: np.ndarray) -> Iterator[DetectionTable]:
    """The rows of each video that has any, in order; `videos` as for `seq_nms_table`."""
    table = table.sorted_by_frame()
    if len(table) and (table.frames[0] < 0 or table.frames[-1] >= len(videos)):
        raise ValueError(
            f"frames {table.frames[0]} to {table.frames[-1]} of an image set that has frames 0 to {len(videos) - 1}"
        )
    ends = _group_starts(np.asarray(videos)[table.frames])
    for begin, end in zip(ends[:-1], ends[1:], strict=True):
        yield table[begin:end]


def _suppress(table: DetectionTable, threshold: float) -> np.ndarray:
    """(n,) bool: what NMS keeps of each frame and class; the rows are by frame, class and descending score."""
    kept = np.ones(len(table), bool)
    first = _group_starts(table.frames, table.labels)
    columns = _columns(table.boxes)
    # IoU > threshold is IoU >= the next larger number
    addresses = (a.ctypes.data for a in (first, columns, kept))
    _seq_nms.suppress(len(first) - 1, *addresses, np.nextafter(threshold, np.inf))
    return kept


def _columns(boxes: np.ndarray) -> np.ndarray:
    """(n, 4) -> (5, n) float64: x1, y1, x2, y2 and area, each in one piece."""
    x1, y1, x2, y2 = np.asarray(boxes, np.float64).T
    return np.stack((x1, y1, x2, y2, (x2 - x1 + 1) * (y2 - y1 + 1)))


def _group_starts(*keys: np.ndarray) -> np.ndarray:
    """First row of each run of equal keys, and the number of rows: (groups + 1,) int64."""
    n = len(keys[0])
    new = np.zeros(n, bool)
    new[:1] = True
    for key in keys:
        new[1:] |= key[1:] != key[:-1]
    return np.append(np.flatnonzero(new), n).astype(np.int64)
