"""True flow between two frames of a clip, from the poses of its layers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import cv2
import numpy as np

from lib.synthetic.geometry import square
from lib.synthetic.render import layer_map

if TYPE_CHECKING:
    from lib.synthetic.scene import Layer

# 16-bit PNG as the KITTI flow benchmark keeps it: (value - 2^15) / 64 pixels, third channel 1 where visible.
_PNG_ZERO, _PNG_SCALE = 1 << 15, 64.0


@dataclass(frozen=True)
class Flow:
    """From frame a to frame b, both at the middle of their exposure.

    flow: (2, H, W) float32 pixels (dx, dy): what is seen at pixel p of a lies at p + flow[:, p] in b. Defined
        everywhere, also where it is hidden in b.
    visible: (H, W) bool: that place is inside b and nothing lies before it.
    layers: (H, W) int16: the layer seen at p of a; 0 is the background, others are rows of `clip.layers`.
    """

    flow: np.ndarray
    visible: np.ndarray
    layers: np.ndarray


def between(layers: list[Layer], index: int, other: int, height: int, width: int) -> Flow:
    """The flow from frame `index` to frame `other` (from 0)."""
    here, there = (layer_map(layers, float(t), height, width) for t in (index, other))
    times = np.array([index, other], dtype=np.float64)
    y, x = np.mgrid[0:height, 0:width].astype(np.float64)
    target = np.zeros((2, height, width))
    for number in np.unique(here):
        a, b = square(layers[number].trajectory.poses(times))
        move = b @ np.linalg.inv(a)
        at = here == number
        target[:, at] = move[:2, :2] @ np.stack((x[at], y[at])) + move[:2, 2:]
    column, row = np.rint(target).astype(int)
    inside = (column >= 0) & (column < width) & (row >= 0) & (row < height)
    same = there[np.clip(row, 0, height - 1), np.clip(column, 0, width - 1)] == here
    return Flow((target - np.stack((x, y))).astype(np.float32), inside & same, here)


def encoded(flow: Flow) -> bytes:
    """The flow as the bytes of a 16-bit PNG in KITTI's form (steps of 1/64 pixel, up to 511 pixels)."""
    values = np.clip(np.rint(flow.flow * _PNG_SCALE + _PNG_ZERO), 0, 65535).astype(np.uint16)
    rgb = np.dstack((values[0], values[1], flow.visible.astype(np.uint16)))
    return cv2.imencode(".png", rgb[..., ::-1], [cv2.IMWRITE_PNG_COMPRESSION, 1])[1].tobytes()


def decoded(data: bytes) -> tuple[np.ndarray, np.ndarray]:
    """What `encoded` wrote: flow (2, H, W) float32 in pixels, and visible (H, W) bool."""
    image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    if image is None or image.dtype != np.uint16 or image.ndim != 3:
        raise ValueError("not a 16-bit three-channel PNG of flow")
    rgb = image[..., ::-1]
    return (rgb[..., :2].astype(np.float32).transpose(2, 0, 1) - _PNG_ZERO) / _PNG_SCALE, rgb[..., 2] > 0
