"""Annotations of a clip in ImageNet VID's form: boxes of whole objects clipped to the frame, and occluded flags."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import cv2
import numpy as np

from lib.synthetic.geometry import applied, clipped, motion_iou, outline_boxes

if TYPE_CHECKING:
    from lib.synthetic.scene import Layer

_CELL = 4  # visibility is measured on a grid this many pixels wide
_LEAST_VISIBLE = 0.08  # an object of which less is to be seen is not annotated
_LEAST_SIDE = 6  # nor one whose box is narrower (pixels)
_OCCLUDED = 0.25  # hidden behind others or cut off by the frame by more than this: flagged


@dataclass(frozen=True)
class Objects:
    """The n annotated objects of one frame. boxes: (n, 4) int64, frame pixels, 0-based, inclusive corners.

    labels, track_ids: (n,) int64, labels from 1. occluded: (n,) bool. layers: (n,) int64, each object's layer.
    """

    boxes: np.ndarray
    labels: np.ndarray
    track_ids: np.ndarray
    occluded: np.ndarray
    layers: np.ndarray

    def __len__(self) -> int:
        return len(self.boxes)


def annotate(layers: list[Layer], frames: int, height: int, width: int) -> list[Objects]:
    """The annotation of each of `frames` frames, without rendering any."""
    time = np.arange(frames, dtype=np.float64)
    numbers = np.array([n for n, layer in enumerate(layers) if layer.label], dtype=np.int64)
    boxes = [clipped(outline_boxes(layers[n].trajectory.poses(time), layers[n].hull), height, width) for n in numbers]
    boxes = np.stack(boxes, axis=1).astype(np.int64)  # (T, n, 4)
    visible = _visible_shares(layers, time, height, width)[:, numbers]  # (T, n)
    large = (boxes[..., 2:] - boxes[..., :2] + 1 >= _LEAST_SIDE).all(-1)
    kept = large & (visible >= _LEAST_VISIBLE)
    labels = np.array([layers[n].label for n in numbers])
    tracks = np.array([layers[n].track_id for n in numbers])
    return [
        Objects(boxes[t, k], labels[k], tracks[k], visible[t, k] < 1 - _OCCLUDED, numbers[k])
        for t, k in enumerate(kept)
    ]


def motion_ious(objects: list[Objects]) -> np.ndarray:
    """(G,) motion IoU of every annotated object of a clip, track by track."""
    ious = []
    for track in sorted({int(i) for frame in objects for i in frame.track_ids}):
        boxes, present = np.zeros((len(objects), 4)), np.zeros(len(objects), bool)
        for t, frame in enumerate(objects):
            rows = np.flatnonzero(frame.track_ids == track)
            if len(rows):
                boxes[t], present[t] = frame.boxes[rows[0]], True
        ious.append(motion_iou(boxes, present)[present])
    return np.concatenate(ious) if ious else np.zeros(0)


def _visible_shares(layers: list[Layer], time: np.ndarray, height: int, width: int) -> np.ndarray:
    """(T, layers) share of each layer's own area that is inside the frame and not behind another layer."""
    rows, columns = -(-height // _CELL), -(-width // _CELL)
    shares = np.zeros((len(time), len(layers)))
    poses = [layer.trajectory.poses(time) for layer in layers]
    outlines = [[applied(poses[n], c) for c in layer.contours] for n, layer in enumerate(layers)]
    own = [sum(cv2.contourArea(c.astype(np.float32)) for c in layer.contours) for layer in layers]
    for t in range(len(time)):
        seen = np.zeros((rows, columns), np.uint8)
        for n in range(1, len(layers)):
            polygons = [np.rint((points[t] / _CELL - 0.5) * 16).astype(np.int32) for points in outlines[n]]
            cv2.fillPoly(seen, polygons, n, shift=4)
        counts = np.bincount(seen.ravel(), minlength=len(layers))
        for n in range(1, len(layers)):
            area = own[n] * abs(np.linalg.det(poses[n][t, :, :2]))
            shares[t, n] = min(counts[n] * _CELL**2 / max(area, 1e-9), 1.0)
    return shares
