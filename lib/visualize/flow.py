"""Draw optical flow in colours: hue is direction, saturation is length, white is no motion.

Flow here is (2, h, w), (dx, dy) in cells of 16 pixels; pictures are (H, W, 3) uint8 BGR.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from lib.visualize.draw import draw_caption

_GAP = 4  # pixels between the pictures of a sheet
_STRIDE = 16  # pixels of a cell
_GAIN = 3.0  # of grey values of differences, which are small even where two pictures do not fit


@dataclass(frozen=True)
class FlowRow:
    """A line of a sheet: two frames, and the true flow and the one that was found from the first to the second."""

    current: np.ndarray
    reference: np.ndarray
    true_cells: np.ndarray
    found_cells: np.ndarray


def flow_colours(flow: np.ndarray, longest: float) -> np.ndarray:
    """(2, h, w) -> (h, w, 3): full colour where the flow is `longest` or more. Red is to the right, green-yellow down,
    cyan to the left, violet up. Where the flow is not finite: black."""
    length, angle = np.hypot(flow[0], flow[1]), np.degrees(np.arctan2(flow[1], flow[0])) % 360
    known = np.isfinite(length)
    hsv = np.stack((angle, np.minimum(length / longest, 1), np.ones_like(length)), axis=-1).astype(np.float32)
    hsv[~known] = 0
    return np.rint(cv2.cvtColor(hsv, cv2.COLOR_HSV2BGR) * 255).astype(np.uint8)


def colour_wheel(side: int) -> np.ndarray:
    """(side, side, 3): the colour of every direction and length, the longest at the rim; white outside."""
    steps = (np.arange(side) + 0.5) / side * 2 - 1
    flow = np.stack(np.meshgrid(steps, steps))
    wheel = flow_colours(flow, 1.0)
    wheel[np.hypot(*flow) > 1] = 255
    return wheel


def read_along(reference: np.ndarray, flow_cells: np.ndarray) -> np.ndarray:
    """`reference` read where each pixel's cell points to, black outside: what a perfect flow makes of it is the
    current frame, but for what is hidden in the reference."""
    height, width = reference.shape[:2]
    each = np.repeat(np.repeat(flow_cells * _STRIDE, _STRIDE, axis=1), _STRIDE, axis=2)[:, :height, :width]
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    return cv2.remap(reference, (x + each[0]).astype(np.float32), (y + each[1]).astype(np.float32), cv2.INTER_LINEAR)


def flow_sheet(rows: Sequence[FlowRow], scale: float = 0.75) -> np.ndarray:
    """A picture of several pairs: frames, true flow and found flow, and how far frames are apart without and with it.

    In a row of the sheet full colour stands for the longest true motion there, written beside the wheel, or one cell.
    """
    lines = []
    for row in rows:
        height, width = row.current.shape[:2]
        longest = max(1.0, float(np.hypot(*row.true_cells).max()))
        maps = [
            cv2.resize(flow_colours(flow, longest), (width, height), interpolation=cv2.INTER_NEAREST)
            for flow in (row.true_cells, row.found_cells)
        ]
        side = height // 4
        maps[0][-side:, -side:] = colour_wheel(side)
        panels = {
            "current": row.current,
            "reference": row.reference,
            f"true flow, up to {longest:.1f} cells": maps[0],
            "found flow": maps[1],
            "difference, zero flow": _difference(row.current, row.reference),
            "difference, found flow": _difference(row.current, read_along(row.reference, row.found_cells)),
        }
        lines.append(np.hstack([_tile(picture, text, scale) for text, picture in panels.items()]))
    return np.vstack(lines)


def _difference(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    grey = np.abs(a.astype(np.float32) - b).mean(axis=2, keepdims=True) * _GAIN
    return np.repeat(np.minimum(grey, 255).astype(np.uint8), 3, axis=2)


def _tile(picture: np.ndarray, text: str, scale: float) -> np.ndarray:
    size = (round(picture.shape[1] * scale), round(picture.shape[0] * scale))
    small = draw_caption(cv2.resize(picture, size, interpolation=cv2.INTER_AREA), text)
    return cv2.copyMakeBorder(small, 0, _GAP, 0, _GAP, cv2.BORDER_CONSTANT, value=(255, 255, 255))
