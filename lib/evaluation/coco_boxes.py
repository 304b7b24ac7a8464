"""Convert boxes between COCO's form (x, y, width, height) and ours (inclusive corners)."""

from __future__ import annotations

import numpy as np

DECIMALS = 6  # that survive the way there and back


def xywh(boxes: np.ndarray) -> np.ndarray:
    """(n, 4) inclusive corners -> (n, 4) x, y, width, height."""
    return np.hstack((boxes[:, :2], boxes[:, 2:] - boxes[:, :2] + 1))


def corners(boxes: np.ndarray) -> np.ndarray:
    """(n, 4) x, y, width, height -> (n, 4) inclusive corners."""
    return np.round(np.hstack((boxes[:, :2], boxes[:, :2] + boxes[:, 2:] - 1)), DECIMALS)
