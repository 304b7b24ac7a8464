"""Pairs of pictures in which everything moves: cut-outs of the generator's objects over its backgrounds.

The recipe of Flying Chairs (Dosovitskiy et al. 2015): random affine motions of a background and of what lies on it.
Cheap, because a background or a sprite is painted once and drawn many times.
"""

from __future__ import annotations

from functools import lru_cache

import cv2
import numpy as np
from numpy.random import Generator

from lib.synthetic.background import make_background
from lib.synthetic.camera import video_camera
from lib.synthetic.catalogue import DRAWINGS
from lib.synthetic.flow_pairs import FlowPair, in_use
from lib.synthetic.sprites import make_sprite

_BACKGROUNDS, _SPRITES = 64, 256  # in use at a time
_SPRITE_SIDE = 128  # pixels in which sprites are painted, on frames of any size
_CAMERA_FRAMES = 16  # a camera of that many frames takes the two pictures


class Cutouts:
    """Pairs of pictures of height x width pixels; two with different `seed` have nothing in common."""

    def __init__(self, height: int, width: int, seed: int) -> None:
        self.height, self.width, self.seed = height, width, seed

    def pair(self, number: int, vary: Generator, clean: bool = False) -> FlowPair:
        """Pair `number`; `clean` is without exposure, defocus and noise."""
        size, unit = (self.width, self.height), min(self.height, self.width) / 240
        slot = int(vary.integers(_BACKGROUNDS))
        picture = _background(self.seed, in_use(slot, _BACKGROUNDS, number), self.height, self.width)
        middle = np.array(((self.width - 1) / 2, (self.height - 1) / 2))
        pose = _pose(vary, picture.shape, middle, vary.uniform(0.85, 1.5), turn=0.3)
        drift = _motion(vary, middle, 10 * unit, turn=0.04, zoom=0.04)
        images = [_drawn(picture, matrix, size) for matrix in (pose, drift @ pose)]
        flow, layers = _affine_flow(drift, self.height, self.width), np.zeros((self.height, self.width), np.int16)
        for layer in range(1, int(vary.integers(3, 8))):
            sprite = _sprite(self.seed, in_use(int(vary.integers(_SPRITES)), _SPRITES, number))
            place = vary.uniform(0, 1, 2) * size
            pose = _pose(vary, sprite.shape, place, vary.uniform(50, 190) * unit / _SPRITE_SIDE, turn=1.0)
            motion = drift @ _motion(vary, place, 22 * unit, turn=0.2, zoom=0.1)
            _put_over(images[1], sprite, motion @ pose)
            window, alpha = _put_over(images[0], sprite, pose)
            if window is not None:
                seen = alpha >= 128
                layers[window][seen] = layer
                for axis, motion_of_axis in enumerate(_affine_flow(motion, self.height, self.width, window)):
                    flow[axis][window][seen] = motion_of_axis[seen]
        if not clean:
            camera = video_camera(vary, _CAMERA_FRAMES, unit)
            moments = vary.integers(_CAMERA_FRAMES, size=2)
            images = [camera.taken(image.astype(np.float32), t) for image, t in zip(images, moments, strict=True)]
        return FlowPair(images[0], images[1], flow, layers)


@lru_cache(maxsize=_BACKGROUNDS + 8)
def _background(seed: int, number: int, height: int, width: int) -> np.ndarray:
    """(1.5 height, 1.5 width, 3) uint8 BGR."""
    vary = np.random.default_rng([seed, 0, number])
    return make_background(vary, height * 3 // 2, width * 3 // 2, min(height, width) / 4)[0]


@lru_cache(maxsize=_SPRITES + 32)
def _sprite(seed: int, number: int) -> np.ndarray:
    """(S, S, 4) uint8 BGR, multiplied by alpha, and alpha: an object of any class."""
    vary = np.random.default_rng([seed, 1, number])
    return make_sprite(vary, number % len(DRAWINGS) + 1, _SPRITE_SIDE).pixels


def _pose(vary: Generator, shape: tuple[int, ...], place: np.ndarray, scale: float, turn: float) -> np.ndarray:
    """(3, 3) from a picture's pixel indices to the frame's: its middle at `place`, mirrored or not. `turn`: radians."""
    to_middle = np.eye(3)
    to_middle[:2, 2] = -(shape[1] - 1) / 2, -(shape[0] - 1) / 2
    mirrored = np.diag((-1.0 if vary.random() < 0.5 else 1.0, 1.0, 1.0))
    stretch = np.diag((*np.exp(np.log(scale) + vary.normal(0, 0.1) * np.array((0.5, -0.5))), 1.0))
    return _turned(vary.normal(0, turn), place) @ stretch @ mirrored @ to_middle


def _motion(vary: Generator, about: np.ndarray, reach: float, turn: float, zoom: float) -> np.ndarray:
    """(3, 3) from frame pixels to frame pixels: a turn and a zoom about `about` and a shift of `reach` on average.

    `turn` in radians and `zoom` as a logarithm are standard deviations. Shifts are exponentially distributed: many
    small, some large, as real ones are, and never more than four times the average.
    """
    direction, length = vary.uniform(0, 2 * np.pi), min(vary.exponential(reach), 4 * reach)
    shifted = about + length * np.array((np.cos(direction), np.sin(direction)))
    to_origin = np.eye(3)
    to_origin[:2, 2] = -about
    scale = np.exp(vary.normal(0, zoom) + vary.normal(0, zoom / 2) * np.array((1, -1)))
    return _turned(vary.normal(0, turn), shifted) @ np.diag((*scale, 1.0)) @ to_origin


def _turned(angle: float, place: np.ndarray) -> np.ndarray:
    """(3, 3): a turn about the origin, which then lies at `place`."""
    c, s = np.cos(angle), np.sin(angle)
    return np.array(((c, -s, place[0]), (s, c, place[1]), (0, 0, 1)))


def _affine_flow(
    motion: np.ndarray, height: int, width: int, window: tuple[slice, slice] = (slice(None), slice(None))
) -> np.ndarray:
    """(2, h, w) float32: where `motion` (3, 3) takes the pixels of `window`, less where they are."""
    y, x = (np.arange(side, dtype=np.float32)[part] for side, part in zip((height, width), window, strict=True))
    change = (motion - np.eye(3)).astype(np.float32)
    return np.stack([change[axis, 0] * x + (change[axis, 1] * y + change[axis, 2])[:, None] for axis in range(2)])


def _drawn(picture: np.ndarray, pose: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """A background in a frame of `size` (width, height). Beyond its edge it goes on as its mirror image."""
    return cv2.warpAffine(picture, pose[:2], size, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101)


def _put_over(
    image: np.ndarray, sprite: np.ndarray, pose: np.ndarray
) -> tuple[tuple[slice, slice], np.ndarray] | tuple[None, None]:
    """Draw `sprite` over `image`, in place; where that was (rows, columns), and its alpha there; None outside."""
    side = len(sprite)
    corners = pose[:2] @ np.array([(-1, side, -1, side), (-1, -1, side, side), (1, 1, 1, 1)], np.float64)  # (2, 4)
    x1, y1 = np.maximum(np.floor(corners.min(1)).astype(int), 0)
    x2, y2 = np.minimum(np.ceil(corners.max(1)).astype(int) + 1, image.shape[1::-1])
    if x1 >= x2 or y1 >= y2:
        return None, None
    window = slice(y1, y2), slice(x1, x2)
    to_window = pose[:2].copy()
    to_window[:, 2] -= (x1, y1)
    paint = cv2.warpAffine(sprite, to_window, (int(x2 - x1), int(y2 - y1)), flags=cv2.INTER_LINEAR)  # (h, w, 4)
    alpha = paint[..., 3]
    through = cv2.merge([255 - alpha] * 3)
    image[window] = cv2.add(cv2.multiply(image[window], through, scale=1 / 255), paint[..., :3])
    return window, alpha
