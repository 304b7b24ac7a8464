"""Textures and colours: noise, stripes, dots, checks. All colours are BGR, 0..255, as OpenCV keeps them."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.random import Generator


def colour(hue: float, saturation: float, value: float) -> np.ndarray:
    """(3,) float32 BGR of a hue (turns, any real number), a saturation and a value (0..1)."""
    hsv = np.array([[[hue % 1.0 * 360.0, saturation, value]]], dtype=np.float32)
    return cv2.cvtColor(hsv, cv2.COLOR_HSV2BGR)[0, 0] * 255.0


def noise(vary: Generator, height: int, width: int, cell: float, octaves: int = 3) -> np.ndarray:
    """(height, width) float32 smooth noise in 0..1 whose largest spots are about `cell` pixels wide."""
    total = np.zeros((height, width), np.float32)
    weight = 0.0
    for octave in range(octaves):
        step = max(cell / 2**octave, 1.0)
        rows, columns = int(height / step) + 3, int(width / step) + 3
        grid = vary.random((rows, columns), dtype=np.float32)
        total += cv2.resize(grid, (width, height), interpolation=cv2.INTER_CUBIC) * 0.6**octave
        weight += 0.6**octave
    return np.clip((total / weight - 0.5) * 1.6 + 0.5, 0, 1)


def blend(low: np.ndarray, high: np.ndarray, share: np.ndarray) -> np.ndarray:
    """(h, w, 3) float32: colour `low` where the (h, w) `share` is 0, `high` where it is 1."""
    return low + share[..., None] * (high - low)


def pattern(vary: Generator, size: int) -> np.ndarray:
    """(size, size) float32 in 0..1: one of seven regular patterns at a random pitch and angle, slightly warped."""
    turn, pitch = vary.uniform(0, np.pi), size / vary.uniform(5, 13)
    y, x = np.mgrid[0:size, 0:size].astype(np.float32)
    warp = (noise(vary, size, size, size / 3, 2) - 0.5) * pitch * vary.uniform(0.2, 1.2)
    u = ((x * np.cos(turn) + y * np.sin(turn) + warp) / pitch).astype(np.float32)
    v = ((y * np.cos(turn) - x * np.sin(turn) + warp) / pitch).astype(np.float32)
    kind = vary.integers(7)
    if kind == 0:  # stripes
        return _edge(np.sin(2 * np.pi * u))
    if kind == 1:  # spots in a brick order
        row = np.floor(v)
        fu, fv = (u + 0.5 * (row % 2)) % 1 - 0.5, v % 1 - 0.5
        return _edge((vary.uniform(0.22, 0.36) - np.hypot(fu, fv)) * 8)
    if kind == 2:  # checks
        return _edge(np.sin(np.pi * u) * np.sin(np.pi * v) * 3)
    if kind == 3:  # zigzag
        return _edge(np.sin(2 * np.pi * (v + 0.5 * np.abs(u % 1 - 0.5))))
    if kind == 4:  # scales
        row = np.floor(v)
        fu, fv = (u + 0.5 * (row % 2)) % 1 - 0.5, v % 1
        return np.clip(np.hypot(fu * 1.4, fv) * 1.1 - 0.1, 0, 1)
    if kind == 5:  # patches
        return _edge((noise(vary, size, size, pitch * 1.6, 2) - 0.5) * 8)
    return np.clip(noise(vary, size, size, pitch, 3) * 1.2 - 0.1, 0, 1)  # marble


def skin(vary: Generator, size: int, low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """(size, size, 3) float32: a pattern between two colours with a little grain."""
    grain = noise(vary, size, size, size / 40, 2)
    return blend(low, high, pattern(vary, size)) * (0.88 + 0.24 * grain[..., None])


def _edge(value: np.ndarray) -> np.ndarray:
    """A step with a soft flank: negative -> 0, positive -> 1."""
    return np.clip(value * 2.5 + 0.5, 0, 1).astype(np.float32)
