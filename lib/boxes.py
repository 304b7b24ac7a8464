"""Boxes: their conventions and their arithmetic (docs/rules.md, section 2).

A box is `(x1, y1, x2, y2)` in 0-based pixels with INCLUSIVE corners, so its width is `x2 - x1 + 1` (R-FCN's "+1").
Which image the pixels belong to is said where the box is used: the network input inside the networks, the original
frame in annotations, `Detections` and results files. Every function takes torch tensors of any floating dtype and
keeps the dtype.
"""

from __future__ import annotations

import torch
from torch import Tensor


def areas(boxes: Tensor) -> Tensor:
    """(n, 4) boxes -> (n,) areas in pixels, corners included."""
    return (boxes[..., 2] - boxes[..., 0] + 1) * (boxes[..., 3] - boxes[..., 1] + 1)


def overlaps(boxes: Tensor, others: Tensor) -> Tensor:
    """Intersection over union of every pair: (n, 4) and (m, 4) -> (n, m)."""
    left_top = torch.maximum(boxes[:, None, :2], others[None, :, :2])  # (n, m, 2)
    right_bottom = torch.minimum(boxes[:, None, 2:], others[None, :, 2:])  # (n, m, 2)
    sides = (right_bottom - left_top + 1).clamp(min=0)  # (n, m, 2)
    intersection = sides[..., 0] * sides[..., 1]  # (n, m)
    return intersection / (areas(boxes)[:, None] + areas(others)[None, :] - intersection)


def centres_and_sizes(boxes: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """(..., 4) boxes -> centre x, centre y, width, height, each (...).

    The centre is `x1 + 0.5 * (width - 1)`: the originals' form, half a pixel from py-faster-rcnn's.
    """
    x1, y1, x2, y2 = boxes.unbind(-1)
    width, height = x2 - x1 + 1, y2 - y1 + 1
    return x1 + 0.5 * (width - 1), y1 + 0.5 * (height - 1), width, height


def encode(boxes: Tensor, targets: Tensor) -> Tensor:
    """Deltas that turn `boxes` into `targets`: two (n, 4) -> (n, 4) as (dx, dy, log dw, log dh) in box sizes."""
    x, y, width, height = centres_and_sizes(boxes)
    target_x, target_y, target_width, target_height = centres_and_sizes(targets)
    # The 1e-14 is the originals' guard; it is kept because it shows in float64.
    return torch.stack(
        (
            (target_x - x) / (width + 1e-14),
            (target_y - y) / (height + 1e-14),
            torch.log(target_width / width),
            torch.log(target_height / height),
        ),
        dim=-1,
    )


def decode(boxes: Tensor, deltas: Tensor) -> Tensor:
    """The boxes that `deltas` make of `boxes`: (n, 4) and (n, 4) -> (n, 4). dw and dh are not bounded."""
    x, y, width, height = centres_and_sizes(boxes)
    dx, dy, dw, dh = deltas.unbind(-1)
    new_x, new_y = dx * width + x, dy * height + y
    new_width, new_height = torch.exp(dw) * width, torch.exp(dh) * height
    half_width, half_height = 0.5 * (new_width - 1), 0.5 * (new_height - 1)
    return torch.stack((new_x - half_width, new_y - half_height, new_x + half_width, new_y + half_height), dim=-1)


def clip(boxes: Tensor, height: float | Tensor, width: float | Tensor) -> Tensor:
    """(..., 4) boxes with their corners moved into an image of `height` x `width` pixels.

    height, width: numbers, or tensors that broadcast with (...).
    """
    x1, y1, x2, y2 = boxes.unbind(-1)
    right, bottom = (torch.as_tensor(side - 1, dtype=boxes.dtype, device=boxes.device) for side in (width, height))
    sides = ((x1, right), (y1, bottom), (x2, right), (y2, bottom))
    return torch.stack([torch.minimum(value.clamp(min=0), last) for value, last in sides], dim=-1)
