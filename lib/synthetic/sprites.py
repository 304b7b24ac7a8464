"""Sprites: one individual of a class as a picture with transparency, and its outline."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.random import Generator

from lib.synthetic import textures
from lib.synthetic.catalogue import DRAWINGS
from lib.synthetic.outlines import ACCENT, DARK, HOLE, LIGHT, SECOND, SKIN, Part, ellipse, polygon, smooth

_SHIFT = 4  # fractional bits of OpenCV's polygon coordinates
_EXTENT = 0.94  # the drawing fills this share of the picture, so that its edge is inside


@dataclass(frozen=True)
class Sprite:
    """A picture of one object, in sprite coordinates: x, y in -1..1 from the left and top edge to the right and bottom.

    pixels: (S, S, 4) uint8, BGR already multiplied by alpha, and alpha. Pixel i covers sprite coordinates
        2 * i / S - 1 to 2 * (i + 1) / S - 1.
    hull: (P, 2) float64, the corners of the convex hull of the opaque part (alpha of at least a half).
    contours: the outer outlines of the opaque part, each (n, 2) float64.
    """

    pixels: np.ndarray
    hull: np.ndarray
    contours: list[np.ndarray]

    @property
    def alpha(self) -> np.ndarray:
        """(S, S) uint8."""
        return self.pixels[..., 3]


def make_sprite(vary: Generator, label: int, size: int, hue: float | None = None) -> Sprite:
    """One individual of class `label` (from 1), `size` pixels square; hue: of a background that it should resemble."""
    return _painted(vary, DRAWINGS[label - 1](vary), size, hue)


def _painted(vary: Generator, parts: list[Part], size: int, hue: float | None) -> Sprite:
    material, ink = _drawn(_fitted(parts), 2 * size)
    colours = _coloured(vary, material, size, hue)
    colours *= (1.0 - vary.uniform(0.35, 0.75) * (ink > 0))[..., None].astype(np.float32)
    alpha = (material > 0).astype(np.float32) * 255.0
    picture = np.dstack((colours * (alpha[..., None] / 255.0), alpha))  # (2S, 2S, 4)
    return sprite_from(_shaded(vary, cv2.resize(picture, (size, size), interpolation=cv2.INTER_AREA)))


def make_scenery(vary: Generator, size: int, hue: float) -> Sprite:
    """An object of no class: a post, a bush or a boulder in the colours of the background."""
    kind = vary.integers(3)
    if kind == 0:
        wide = vary.uniform(0.07, 0.14)
        parts = [Part(polygon((-wide, -1), (wide, -1), (wide, 1), (-wide, 1)), SKIN)]
    elif kind == 1:
        tufts = vary.uniform((-0.8, -0.3), (0.8, 0.6), (14, 2))
        parts = [
            Part(ellipse(x, y, *vary.uniform(0.18, 0.35, 2)), SKIN if n % 2 else SECOND)
            for n, (x, y) in enumerate(tufts)
        ]
    else:
        angle = np.linspace(0, 2 * np.pi, 9, endpoint=False)
        rim = np.stack((np.cos(angle), 0.7 * np.sin(angle)), 1) * vary.uniform(0.7, 1.0, (9, 1))
        parts = [Part(smooth(*rim), SKIN)]
    return _painted(vary, parts, size, hue)


def sprite_from(pixels: np.ndarray) -> Sprite:
    """The sprite of an (S, S, 4) float32 picture with its colours already multiplied by alpha, all 0..255."""
    pixels = np.clip(pixels + 0.5, 0, 255).astype(np.uint8)
    opaque = (pixels[..., 3] >= 128).astype(np.uint8)
    contours, _ = cv2.findContours(opaque, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
    step = 2.0 / len(pixels)
    outlines = [c[:, 0].astype(np.float64) for c in contours]
    # A contour runs through pixel centres; the opaque region ends half a pixel further out.
    corners = np.concatenate([o[:, None] + 0.5 * np.array([(-1, -1), (1, -1), (-1, 1), (1, 1)]) for o in outlines])
    hull = cv2.convexHull(corners.reshape(-1, 2).astype(np.float32))[:, 0].astype(np.float64)
    return Sprite(pixels, (hull + 0.5) * step - 1, [(o + 0.5) * step - 1 for o in outlines if len(o) > 2])


def _fitted(parts: list[Part]) -> list[Part]:
    """The drawing centred and scaled so that its longer side fills the picture."""
    points = np.concatenate([part.points for part in parts if part.material != HOLE])
    low, high = points.min(0), points.max(0)
    scale = 2 * _EXTENT / (high - low).max()
    return [Part((part.points - (low + high) / 2) * scale, part.material) for part in parts]


def _drawn(parts: list[Part], size: int) -> tuple[np.ndarray, np.ndarray]:
    """Label maps: (size, size) uint8 of material + 1 (0: empty), and (size, size) uint8 of drawn outlines."""
    material, ink = np.zeros((size, size), np.uint8), np.zeros((size, size), np.uint8)
    line = max(1, round(size / 160))
    for points, kind in parts:
        corners = np.rint(((points + 1) * size / 2 - 0.5) * (1 << _SHIFT)).astype(np.int32)
        cv2.fillPoly(material, [corners], 0 if kind == HOLE else kind + 1, shift=_SHIFT)
        cv2.fillPoly(ink, [corners], 0, shift=_SHIFT)
        cv2.polylines(ink, [corners], True, 255, line, shift=_SHIFT)
    return material, ink


def _coloured(vary: Generator, material: np.ndarray, size: int, hue: float | None) -> np.ndarray:
    """(2S, 2S, 3) float32: the label maps filled with this individual's colours and patterns."""
    base = vary.random() if hue is None else hue + vary.normal(0, 0.03)
    other = base + vary.choice([0.08, -0.08, 0.33, -0.33, 0.5])
    rich = vary.uniform(0.35, 0.95) if hue is None else vary.uniform(0.2, 0.6)
    first = textures.colour(base, rich, vary.uniform(0.55, 1.0))
    second = textures.colour(base + vary.normal(0, 0.05), rich * vary.uniform(0.3, 1.0), vary.uniform(0.25, 0.9))
    third = textures.colour(other, rich, vary.uniform(0.45, 0.95))
    fourth = textures.colour(other + vary.normal(0, 0.05), rich * 0.7, vary.uniform(0.3, 0.9))
    fills = {
        SKIN: textures.skin(vary, size, first, second),
        SECOND: textures.skin(vary, size, third, fourth),
        ACCENT: textures.colour(other + 0.5, vary.uniform(0.5, 0.9), vary.uniform(0.7, 1.0)),
        DARK: textures.colour(base, 0.4, vary.uniform(0.08, 0.25)),
        LIGHT: textures.colour(other, vary.uniform(0.02, 0.2), vary.uniform(0.85, 1.0)),
    }
    colours = np.zeros((*material.shape, 3), np.float32)
    for kind, fill in fills.items():
        where = material == kind + 1
        if fill.ndim == 3:
            fill = cv2.resize(fill, material.shape[::-1], interpolation=cv2.INTER_LINEAR)[where]
        colours[where] = fill
    return colours


def _shaded(vary: Generator, picture: np.ndarray) -> np.ndarray:
    """Light from one side on the rounded-up silhouette; `picture` is (S, S, 4), its colours multiplied by alpha."""
    size = len(picture)
    height = cv2.GaussianBlur(picture[..., 3] / 255.0, (0, 0), size / 24)
    angle = vary.uniform(-0.75, -0.25) * np.pi  # from above
    slope = cv2.Sobel(height, cv2.CV_32F, 1, 0) * np.cos(angle) + cv2.Sobel(height, cv2.CV_32F, 0, 1) * np.sin(angle)
    light = np.clip(1.0 - slope * size / 24 * vary.uniform(0.2, 0.4), 0.5, 1.35)[..., None]
    alpha = picture[..., 3:]
    return np.dstack((np.minimum(picture[..., :3] * light, alpha), alpha))
