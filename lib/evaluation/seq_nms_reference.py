"""Reference implementation of Seq-NMS in plain Python and NumPy (docs/rules.md, section 7).

The tests of `lib.evaluation.seq_nms` compare with it, and `tools/benchmark_seq_nms.py` times both. Every path is found
by running the whole dynamic programme again, over links stored as lists of box indices.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

Links = list[list[list[int]]]  # [t][i]: the boxes of frame t + 1 that box i of frame t is linked to


def seq_nms_reference(
    boxes: Sequence[np.ndarray],
    scores: Sequence[np.ndarray],
    link: float = 0.5,
    suppress: float = 0.3,
    stop: float = 0.01,
) -> tuple[list[list[int]], list[np.ndarray]]:
    """Seq-NMS of one class of one video, frame by frame, without the NMS after it.

    boxes: (n_t, 4) of each frame. scores: (n_t,) of each frame.
    Returns, of each frame, which boxes are kept, and all scores (n_t,) float64, those of the dropped ones 0.
    """
    scores = [np.array(values, np.float64) for values in scores]
    links = _links(boxes, link)
    taken: set[tuple[int, int]] = set()
    dropped: list[set[int]] = [set() for _ in boxes]
    while any(targets for frame in links for targets in frame):
        begin, path, total = _largest_path(links, scores, taken)
        if total < stop:
            break
        for t, box in enumerate(path, begin):
            scores[t][box] = total / len(path)
            taken.add((t, box))
            near = set(np.flatnonzero(_overlaps(boxes[t][box], boxes[t]) >= suppress).tolist())
            for other in near - {box}:
                dropped[t].add(other)
                scores[t][other] = 0.0
            for other in near | {box}:
                _unlink(links, t, other)
    return [[i for i in range(len(s)) if i not in gone] for s, gone in zip(scores, dropped, strict=True)], scores


def _overlaps(box: np.ndarray, others: np.ndarray) -> np.ndarray:
    """(4,) and (n, 4) -> (n,): IoU, inclusive corners."""
    width = np.maximum(0.0, np.minimum(box[2], others[:, 2]) - np.maximum(box[0], others[:, 0]) + 1)
    height = np.maximum(0.0, np.minimum(box[3], others[:, 3]) - np.maximum(box[1], others[:, 1]) + 1)
    area = (box[2] - box[0] + 1) * (box[3] - box[1] + 1)
    areas = (others[:, 2] - others[:, 0] + 1) * (others[:, 3] - others[:, 1] + 1)
    with np.errstate(invalid="ignore", divide="ignore"):  # boxes turned inside out can make up an area of 0
        return width * height / (area + areas - width * height)


def _links(boxes: Sequence[np.ndarray], least: float) -> Links:
    return [
        [np.flatnonzero(_overlaps(box, after) >= least).tolist() for box in now]
        for now, after in zip(boxes[:-1], boxes[1:], strict=True)
    ]


def _largest_path(
    links: Links, scores: Sequence[np.ndarray], taken: set[tuple[int, int]]
) -> tuple[int, list[int], float]:
    """First frame, boxes and sum of the path with the largest sum; boxes of earlier paths add 0."""
    sums = np.zeros((len(scores), max(map(len, scores))))
    source = np.full(sums.shape, -1)
    for t, values in enumerate(scores):
        sums[t, : len(values)] = values
    for t, box in taken:
        sums[t, box] = 0.0
    for t, frame in enumerate(links, 1):
        for i, targets in enumerate(frame):
            for j in targets:
                total = sums[t - 1, i] + scores[t][j]
                if total > sums[t, j]:
                    sums[t, j], source[t, j] = total, i
    t, j = (int(k) for k in np.unravel_index(sums.argmax(), sums.shape))
    total, path = float(sums[t, j]), [j]
    while source[t, j] >= 0:
        j = int(source[t, j])
        t -= 1
        path.append(j)
    return t, path[::-1], total


def _unlink(links: Links, t: int, box: int) -> None:
    """Remove the links of a box of frame t, in both directions."""
    if t < len(links):
        links[t][box] = []
    if t > 0:
        for targets in links[t - 1]:
            if box in targets:
                targets.remove(box)
