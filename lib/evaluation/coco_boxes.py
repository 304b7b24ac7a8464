"""Boxes as COCO has them, x, y, width and height, and as we do, corners within the box."""

from __future__ import annotations

import numpy as np

DECIMALS = 6  # that survive the way there and back


def xywh(boxes: np.ndarray) -> np.ndarray:
    """(n, 4) corners, both within the box -> (n, 4) x, y, width, height as COCO has them."""
    return np.hstack((boxes[:, :2], boxes[:, 2:] - boxes[:, :2] + 1))


def corners(boxes: np.ndarray) -> np.ndarray:
    """(n, 4) x, y, width, height -> (n, 4) corners, both within the box."""
    return np.round(np.hstack((boxes[:, :2], boxes[:, :2] + boxes[:, 2:] - 1)), DECIMALS)
