"""Anchor boxes (docs/rules.md, section 2)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor


def make_anchors(base_size: int, ratios: Sequence[float], scales: Sequence[float]) -> Tensor:
    """(A, 4) float32 anchors of the cell at row 0, column 0, network-input pixels; ratios (h / w) outer, scales inner.

    The sides are rounded once per ratio, before they are scaled. Centre: the middle of the base box.
    """
    ratios, scales = np.asarray(ratios, np.float64), np.asarray(scales, np.float64)
    widths = np.round(np.sqrt(np.floor(base_size * base_size / ratios)))  # (number of ratios,)
    heights = np.round(widths * ratios)
    widths, heights = np.outer(widths, scales).ravel(), np.outer(heights, scales).ravel()  # (A,)
    centre = 0.5 * (base_size - 1)
    half_widths, half_heights = 0.5 * (widths - 1), 0.5 * (heights - 1)
    sides = (centre - half_widths, centre - half_heights, centre + half_widths, centre + half_heights)
    return torch.from_numpy(np.stack(sides, axis=1).astype(np.float32))


def all_anchors(anchors: Tensor, height: int, width: int, stride: int) -> Tensor:
    """Anchors (A, 4) of one cell -> (height * width * A, 4) of a whole map, in (row, column, anchor) order."""
    x = torch.arange(width, dtype=anchors.dtype, device=anchors.device) * stride
    y = torch.arange(height, dtype=anchors.dtype, device=anchors.device) * stride
    y, x = torch.meshgrid(y, x, indexing="ij")  # (height, width)
    shifts = torch.stack((x, y, x, y), dim=-1)  # (height, width, 4)
    return (shifts[:, :, None] + anchors).reshape(-1, 4)  # (height * width * A, 4)
