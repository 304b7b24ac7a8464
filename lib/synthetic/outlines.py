"""Closed outlines from a few numbers, with which the shapes of the object classes are drawn.

Every function returns (n, 2) float64 points (x, y) of a closed outline in the drawing's own units; x points right and
y down. A `Part` is an outline filled with one material; later parts paint over earlier ones.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

# Materials of a drawing: two textured skins, a plain accent, a dark and a light tone, and a cut-out.
SKIN, SECOND, ACCENT, DARK, LIGHT, HOLE = range(6)


class Part(NamedTuple):
    """One filled outline: points (n, 2) float64 in drawing units, and what it is filled with."""

    points: np.ndarray
    material: int


def polygon(*points: Sequence[float]) -> np.ndarray:
    """The straight-edged outline through `points`."""
    return np.array(points, dtype=np.float64)


def ellipse(x: float, y: float, rx: float, ry: float, turn: float = 0.0) -> np.ndarray:
    """An ellipse at (x, y) with half axes rx, ry, turned clockwise by `turn` radians."""
    angle = np.linspace(0, 2 * np.pi, 40, endpoint=False)
    return rotated(np.stack((rx * np.cos(angle), ry * np.sin(angle)), axis=1), turn) + (x, y)


def smooth(*points: Sequence[float], steps: int = 8) -> np.ndarray:
    """The rounded outline (closed Catmull-Rom spline) through `points`."""
    p1 = np.array(points, dtype=np.float64)
    return _spline(np.roll(p1, 1, 0), p1, np.roll(p1, -1, 0), np.roll(p1, -2, 0), steps)


def tube(points: Sequence[Sequence[float]], start: float, end: float | None = None) -> np.ndarray:
    """A round-ended tube along the spline through `points`, its radius running from `start` to `end`."""
    p = np.array(points, dtype=np.float64)
    padded = np.concatenate((2 * p[:1] - p[1:2], p, 2 * p[-1:] - p[-2:-1]))
    line = np.concatenate((_spline(padded[:-3], padded[1:-2], padded[2:-1], padded[3:], 8), p[-1:]))
    radius = np.linspace(start, start if end is None else end, len(line))[:, None]
    direction = np.gradient(line, axis=0)
    direction /= np.linalg.norm(direction, axis=1, keepdims=True) + 1e-12
    normal = np.stack((-direction[:, 1], direction[:, 0]), axis=1)
    turn = np.linspace(0, np.pi, 8)[1:-1, None]
    tail = line[-1] + radius[-1] * (normal[-1] * np.cos(turn) + direction[-1] * np.sin(turn))
    head = line[0] + radius[0] * (-normal[0] * np.cos(turn) - direction[0] * np.sin(turn))
    return np.concatenate((line + normal * radius, tail, (line - normal * radius)[::-1], head))


def bar(x1: float, y1: float, x2: float, y2: float, radius: float) -> np.ndarray:
    """A straight round-ended bar from (x1, y1) to (x2, y2)."""
    return tube(((x1, y1), (x2, y2)), radius)


def sector(x: float, y: float, radius: float, begin: float, end: float) -> np.ndarray:
    """A slice of a disc between two angles (radians, clockwise from the x axis)."""
    angle = np.linspace(begin, end, 24)
    return np.concatenate(([(x, y)], np.stack((x + radius * np.cos(angle), y + radius * np.sin(angle)), axis=1)))


def star(x: float, y: float, outer: float, inner: float, tips: int, turn: float = 0.0) -> np.ndarray:
    """A star with `tips` tips, or a gear, a flower: radii alternate between `outer` and `inner`."""
    angle = np.arange(2 * tips) * np.pi / tips + turn - np.pi / 2
    radius = np.where(np.arange(2 * tips) % 2 == 0, outer, inner)
    return np.stack((x + radius * np.cos(angle), y + radius * np.sin(angle)), axis=1)


def mirrored(points: np.ndarray) -> np.ndarray:
    """The outline seen in a mirror on the y axis."""
    return points * (-1.0, 1.0)


def rotated(points: np.ndarray, turn: float) -> np.ndarray:
    """The outline turned clockwise about the origin by `turn` radians."""
    c, s = np.cos(turn), np.sin(turn)
    return points @ np.array([[c, s], [-s, c]])


def both(points: np.ndarray, material: int) -> list[Part]:
    """An outline and its mirror image, of one material."""
    return [Part(points, material), Part(mirrored(points), material)]


def _spline(p0: np.ndarray, p1: np.ndarray, p2: np.ndarray, p3: np.ndarray, steps: int) -> np.ndarray:
    """Catmull-Rom pieces from p1 to p2, `steps` points each, without the last end point."""
    t = np.linspace(0, 1, steps, endpoint=False)[None, :, None]
    a, b, c, d = (p[:, None, :] for p in (p0, p1, p2, p3))
    curve = 0.5 * (2 * b + (c - a) * t + (2 * a - 5 * b + 4 * c - d) * t**2 + (3 * b - a - 3 * c + d) * t**3)
    return curve.reshape(-1, 2)
