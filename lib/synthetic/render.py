"""Render a frame: composite the layers of a scene, each averaged over the exposure time (motion blur)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import cv2
import numpy as np

from lib.synthetic.geometry import applied, outline_boxes

if TYPE_CHECKING:
    from lib.synthetic.scene import Layer

_STRIDE = 1.5  # a moving thing is drawn again for about every so many pixels that it moves
_MOST_MOMENTS = 16


def light(layers: list[Layer], time: float, shutter: float, height: int, width: int) -> np.ndarray:
    """(H, W, 3) float32, 0..255: the mean of the scene while the shutter is open, centred on `time`.

    Each layer is averaged by itself and only inside the window it passes through; then the layers are put over each
    other. For a thing before a still background that is the exact integral; where two moving things cross it leaves
    out that their edges move together.
    """
    corners = np.array([(0, 0), (width - 1, 0), (0, height - 1), (width - 1, height - 1)], np.float64)
    back = layers[0]
    moments = _moments(back.trajectory.poses, time, shutter, _seen_corners(back, time, corners))
    poses = back.pixel_poses(moments)
    picture = _mean(back.pixels, poses, (width, height), cv2.BORDER_REFLECT_101)
    for layer in layers[1:]:
        moments = _moments(layer.trajectory.poses, time, shutter, layer.hull)
        window = _window(outline_boxes(layer.trajectory.poses(moments), layer.hull), height, width)
        if window is None:
            continue
        x1, y1, x2, y2 = window
        poses = layer.pixel_poses(moments)
        poses[:, :, 2] -= (x1, y1)
        paint = _mean(layer.pixels, poses, (x2 - x1, y2 - y1), cv2.BORDER_CONSTANT)  # (h, w, 4)
        under = picture[y1:y2, x1:x2]
        under *= 1.0 - paint[..., 3:] * np.float32(1 / 255)
        under += paint[..., :3]
    return picture


def layer_map(layers: list[Layer], time: float, height: int, width: int) -> np.ndarray:
    """(H, W) int16: the frontmost layer whose alpha is at least a half at each pixel; 0 is the background."""
    seen = np.zeros((height, width), np.int16)
    moment = np.array([time])
    for number, layer in enumerate(layers[1:], 1):
        window = _window(outline_boxes(layer.trajectory.poses(moment), layer.hull), height, width)
        if window is None:
            continue
        x1, y1, x2, y2 = window
        pose = layer.pixel_poses(moment)[0]
        pose[:, 2] -= (x1, y1)
        alpha = cv2.warpAffine(layer.pixels[..., 3], pose, (x2 - x1, y2 - y1), flags=cv2.INTER_LINEAR)
        seen[y1:y2, x1:x2][alpha >= 128] = number
    return seen


def _moments(poses, time: float, shutter: float, points: np.ndarray) -> np.ndarray:
    """Evenly spaced moments within the shutter's time: the more, the further any of `points` moves."""
    track = applied(poses(time + shutter * np.array([-0.5, -0.25, 0, 0.25, 0.5])), points)  # (5, P, 2)
    way = np.linalg.norm(np.diff(track, axis=0), axis=-1).sum(0).max()
    number = 1 if way < 0.75 else int(min(np.ceil(way / _STRIDE) + 1, _MOST_MOMENTS))
    return time + shutter * ((np.arange(number) + 0.5) / number - 0.5)


def _seen_corners(back: Layer, time: float, corners: np.ndarray) -> np.ndarray:
    """The background's own coordinates of the frame's corners."""
    pose = back.trajectory.poses(np.array([time]))[0]
    return (corners - pose[:, 2]) @ np.linalg.inv(pose[:, :2]).T


def _mean(pixels: np.ndarray, poses: np.ndarray, size: tuple[int, int], border: int) -> np.ndarray:
    """The mean, float32, of the uint8 picture drawn at each of the poses; `size` is (width, height)."""
    total = np.zeros((size[1], size[0], pixels.shape[2]), np.float32)
    for pose in poses:
        cv2.accumulate(cv2.warpAffine(pixels, pose, size, flags=cv2.INTER_LINEAR, borderMode=border), total)
    total *= np.float32(1.0 / len(poses))
    return total


def _window(boxes: np.ndarray, height: int, width: int) -> tuple[int, int, int, int] | None:
    """The part of the frame that holds all boxes and one pixel around them, as x1, y1 and x2, y2 past the end."""
    x1, y1 = np.maximum(boxes[:, :2].min(0) - 1, 0).astype(int)
    x2, y2 = np.minimum(boxes[:, 2:].max(0) + 2, (width, height)).astype(int)
    return (x1, y1, x2, y2) if x2 > x1 and y2 > y1 else None
