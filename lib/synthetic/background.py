"""Backgrounds: one large textured picture over which the camera moves."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.random import Generator

from lib.synthetic.textures import blend, colour, noise

# Earth, sand, moss, grass, water, slate: the tones of most landscapes.
_HUES = (0.05, 0.08, 0.11, 0.18, 0.28, 0.36, 0.45, 0.54, 0.6, 0.7)


def make_background(vary: Generator, height: int, width: int, unit: float) -> tuple[np.ndarray, float]:
    """A picture (height, width, 3) uint8 BGR without plain areas, and its main hue (turns).

    `unit` is the size in pixels of the details: a quarter of the frame's shorter side or so.
    """
    hue = float(vary.choice(_HUES) + vary.normal(0, 0.03))
    paint = (_hills, _meadow, _water, _wall, _pebbles, _leaves, _lights)[vary.integers(7)]
    picture = paint(vary, height, width, unit, hue)
    # Grain everywhere: without texture there is no flow to be seen.
    grain = noise(vary, height, width, unit / 8, 3) - 0.5
    picture = picture * (1.0 + vary.uniform(0.25, 0.5) * grain[..., None])
    return np.clip(picture, 0, 255).astype(np.uint8), hue


def _hills(vary: Generator, height: int, width: int, unit: float, hue: float) -> np.ndarray:
    """A sky with clouds and several ridges, the nearer the darker."""
    sky, cloud = colour(0.58 + vary.normal(0, 0.04), vary.uniform(0.3, 0.6), 0.9), colour(0.1, 0.06, 1.0)
    share = np.clip(noise(vary, height, width, unit * 1.6, 4) * 1.8 - 0.6, 0, 1)
    picture = blend(sky, cloud, share)
    x = np.arange(width) / unit
    rows = np.arange(height)[:, None]
    for depth in np.linspace(0.3, 1.0, vary.integers(3, 6)):
        ridge = np.sin(x * vary.uniform(0.5, 1.2) + vary.uniform(0, 6)) + 0.4 * np.sin(x * vary.uniform(2, 5))
        line = height * (0.2 + 0.65 * depth) + ridge * unit * 0.3 * vary.uniform(0.5, 1.5)
        near = colour(hue + vary.normal(0, 0.04), 0.2 + 0.4 * depth, 0.8 - 0.45 * depth)
        far = colour(hue + vary.normal(0, 0.06), 0.2 + 0.3 * depth, 0.95 - 0.45 * depth)
        ground = blend(near, far, noise(vary, height, width, unit * 0.5, 4))
        below = np.clip(rows - line[None], 0, 1)[..., None]
        picture += below * (ground - picture)
    return picture


def _meadow(vary: Generator, height: int, width: int, unit: float, hue: float) -> np.ndarray:
    """Blotches of two tones with small flowers."""
    low, high = colour(hue, vary.uniform(0.3, 0.6), 0.4), colour(hue + 0.06, vary.uniform(0.3, 0.6), 0.8)
    picture = blend(low, high, noise(vary, height, width, unit * 1.5, 5))
    for _ in range(int(height * width / unit**2 * vary.uniform(5, 14))):
        centre = (int(vary.integers(width)), int(vary.integers(height)))
        petals = colour(hue + vary.choice([0.3, 0.5, 0.7]), vary.uniform(0.1, 0.7), vary.uniform(0.7, 1.0))
        radius = max(1, round(unit * vary.uniform(0.025, 0.07)))
        cv2.circle(picture, centre, radius, petals.tolist(), -1, cv2.LINE_AA)
        cv2.circle(picture, centre, max(1, radius // 2), (40, 180, 220), -1, cv2.LINE_AA)
    return picture


def _water(vary: Generator, height: int, width: int, unit: float, hue: float) -> np.ndarray:
    """Ripples: noise stretched along the horizontal, with glints."""
    hue = 0.55 + 0.15 * (hue - 0.5)
    flat = noise(vary, int(height * 3), width, unit, 4)
    ripple = cv2.resize(flat, (width, height), interpolation=cv2.INTER_AREA)
    picture = blend(colour(hue, 0.75, 0.35), colour(hue - 0.05, 0.4, 0.85), ripple)
    glint = np.clip(noise(vary, height, width, unit * 0.35, 2) * 4 - 2.9, 0, 1)
    return blend(picture, np.float32([250, 250, 245]), glint * 0.8)


def _wall(vary: Generator, height: int, width: int, unit: float, hue: float) -> np.ndarray:
    """Bricks or tiles of uneven colour."""
    tall, wide = unit * vary.uniform(0.25, 0.5), unit * vary.uniform(0.4, 1.0)
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    row = np.floor(y / tall).astype(int)
    column = np.floor(x / wide + 0.5 * (row % 2) * vary.integers(2)).astype(int)
    tones = vary.random((row.max() + 1, column.max() + 1), dtype=np.float32)
    picture = blend(colour(hue, 0.45, 0.4), colour(hue + 0.05, 0.3, 0.85), tones[row, column])
    joint = (y % tall < unit * 0.04) | ((x / wide + 0.5 * (row % 2)) % 1 * wide < unit * 0.04)
    picture[joint] = colour(hue + 0.5, 0.08, vary.uniform(0.35, 0.85))
    return picture


def _pebbles(vary: Generator, height: int, width: int, unit: float, hue: float) -> np.ndarray:
    """Round stones, the later on top of the earlier."""
    picture = np.tile(colour(hue, 0.3, 0.25), (height, width, 1))
    for _ in range(int(height * width / unit**2 * 18)):
        centre = (int(vary.integers(width)), int(vary.integers(height)))
        axes = tuple(max(2, round(unit * r)) for r in vary.uniform(0.09, 0.28, 2))
        tone = colour(hue + vary.normal(0, 0.05), vary.uniform(0.05, 0.4), vary.uniform(0.4, 0.9))
        turn = float(vary.uniform(0, 180))
        cv2.ellipse(picture, centre, axes, turn, 0, 360, (tone * 0.55).tolist(), -1, cv2.LINE_AA)
        inner = tuple(max(1, round(a * 0.85)) for a in axes)
        cv2.ellipse(picture, (centre[0] - 1, centre[1] - 1), inner, turn, 0, 360, tone.tolist(), -1, cv2.LINE_AA)
    return picture


def _leaves(vary: Generator, height: int, width: int, unit: float, hue: float) -> np.ndarray:
    """A litter of pointed leaves of many colours, each with a midrib."""
    picture = blend(colour(hue, 0.4, 0.15), colour(hue, 0.5, 0.4), noise(vary, height, width, unit, 3))
    for _ in range(int(height * width / unit**2 * 12)):
        centre, turn = vary.uniform(0, 1, 2) * (width, height), vary.uniform(0, 2 * np.pi)
        along = np.array((np.cos(turn), np.sin(turn))) * unit * vary.uniform(0.15, 0.4)
        across = np.array((-along[1], along[0])) * vary.uniform(0.25, 0.5)
        sides = [along, along * 0.3 + across, -along * 0.4 + across * 0.8, -along, -along * 0.4 - across * 0.8,
                 along * 0.3 - across]  # fmt: skip
        tone = colour(hue + vary.normal(0, 0.07), vary.uniform(0.3, 0.8), vary.uniform(0.35, 0.9))
        points = np.rint((centre + sides) * 16).astype(np.int32)
        cv2.fillPoly(picture, [points], tone.tolist(), cv2.LINE_AA, shift=4)
        cv2.polylines(picture, [points[[0, 3]]], False, (tone * 0.6).tolist(), 1, cv2.LINE_AA, shift=4)
    return picture


def _lights(vary: Generator, height: int, width: int, unit: float, hue: float) -> np.ndarray:
    """Out-of-focus lamps before a dim, mottled scene."""
    picture = blend(colour(hue, 0.5, 0.12), colour(hue + 0.1, 0.4, 0.5), noise(vary, height, width, unit, 4))
    for _ in range(int(height * width / unit**2 * 4)):
        centre = (int(vary.integers(width)), int(vary.integers(height)))
        radius = max(2, round(unit * vary.uniform(0.08, 0.35)))
        lamp = colour(hue + vary.choice([0.0, 0.1, 0.45]), vary.uniform(0.2, 0.7), vary.uniform(0.6, 1.0))
        disc = np.zeros((2 * radius + 3, 2 * radius + 3), np.float32)
        cv2.circle(disc, (radius + 1, radius + 1), radius, vary.uniform(0.15, 0.5), -1, cv2.LINE_AA)
        top, left = centre[1] - radius - 1, centre[0] - radius - 1
        y1, x1, y2, x2 = max(top, 0), max(left, 0), min(top + len(disc), height), min(left + len(disc), width)
        share = disc[y1 - top : y2 - top, x1 - left : x2 - left, None]
        picture[y1:y2, x1:x2] += share * (lamp - picture[y1:y2, x1:x2])
    return picture
