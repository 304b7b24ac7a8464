"""Geometry of flat objects in a frame: poses as 2x3 matrices, boxes, motion IoU.

A pose is a matrix (2, 3) float64 from a picture's own coordinates (see `lib.synthetic.sprites`) to frame pixels;
whole numbers are pixel centres. Boxes are `(x1, y1, x2, y2)`, 0-based frame pixels, inclusive corners, as in
`lib.boxes`.
"""

from __future__ import annotations

import numpy as np

MOTION_REACH = 10  # frames before and after that count for the motion IoU (FGFA, section 5.1)


def to_picture_coordinates(height: int, width: int) -> np.ndarray:
    """(3, 3) float64 from a picture's pixel indices to its own coordinates, in which the longer side is -1 to 1."""
    step = 2.0 / max(height, width)
    return np.array([[step, 0, 0.5 * step * (1 - width)], [0, step, 0.5 * step * (1 - height)], [0, 0, 1.0]])


def square(pose: np.ndarray) -> np.ndarray:
    """(..., 2, 3) -> (..., 3, 3): with the row (0, 0, 1) below, so that poses multiply and invert."""
    last = np.broadcast_to(np.array([0.0, 0.0, 1.0]), (*pose.shape[:-2], 1, 3))
    return np.concatenate((pose, last), axis=-2)


def applied(poses: np.ndarray, points: np.ndarray) -> np.ndarray:
    """(T, 2, 3) poses of (P, 2) points -> (T, P, 2) frame pixels."""
    return np.einsum("tij,pj->tpi", poses[..., :2], points) + poses[:, None, :, 2]


def outline_boxes(poses: np.ndarray, hull: np.ndarray) -> np.ndarray:
    """(T, 2, 3) poses of a hull (P, 2) -> (T, 4) float64 whole numbers: the pixel centres it covers, unclipped."""
    points = applied(poses, hull)  # (T, P, 2)
    return np.concatenate((np.ceil(points.min(1) - 1e-9), np.floor(points.max(1) + 1e-9)), axis=1)


def clipped(boxes: np.ndarray, height: int, width: int) -> np.ndarray:
    """(T, 4) boxes clipped to the frame. A box outside it becomes empty: its second corner lies before its first."""
    corner = np.array([width - 1, height - 1])
    return np.concatenate((np.maximum(boxes[:, :2], 0), np.minimum(boxes[:, 2:], corner)), axis=1)


def areas(boxes: np.ndarray) -> np.ndarray:
    """(..., 4) -> (...,) pixels, corners included; 0 for an empty box."""
    return np.prod(np.maximum(boxes[..., 2:] - boxes[..., :2] + 1, 0), axis=-1)


def motion_iou(boxes: np.ndarray, present: np.ndarray) -> np.ndarray:
    """(T, 4) boxes of one track and (T,) bool -> (T,) mean IoU with itself in the frames up to 10 before and after.

    Only frames in which the object is present count, and not the frame itself; NaN where the object is absent, 1 where
    it has no other frame.
    """
    frames = len(boxes)
    other = np.arange(frames)[:, None] + np.delete(np.arange(-MOTION_REACH, MOTION_REACH + 1), MOTION_REACH)  # (T, 20)
    inside = (other >= 0) & (other < frames)
    other = np.clip(other, 0, frames - 1)
    counted = inside & present[other]
    a, b = boxes[:, None], boxes[other]
    shared = areas(np.concatenate((np.maximum(a[..., :2], b[..., :2]), np.minimum(a[..., 2:], b[..., 2:])), axis=-1))
    overlap = shared / np.maximum(areas(a) + areas(b) - shared, 1)
    number = counted.sum(1)
    mean = np.where(number > 0, (overlap * counted).sum(1) / np.maximum(number, 1), 1.0)
    return np.where(present, mean, np.nan)
