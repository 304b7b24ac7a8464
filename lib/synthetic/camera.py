"""Camera effects: exposure, defocus, sensor noise, JPEG compression."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np
from numpy.random import Generator


@dataclass(frozen=True)
class Camera:
    """The settings of one clip of T frames.

    shutter: how long the shutter is open, in frames (0..1). gain: (T, 3) factor on each of B, G, R. defocus: (T,) sigma
    of the blur in pixels. noise: (T,) sigma in grey values. noise_at: (T, 2) int64, where the noise of a frame is cut
    from the common field. quality: JPEG quality.
    """

    shutter: float
    gain: np.ndarray
    defocus: np.ndarray
    noise: np.ndarray
    noise_at: np.ndarray
    quality: int

    def taken(self, picture: np.ndarray, index: int) -> np.ndarray:
        """The (H, W, 3) float32 light of frame `index` as the camera delivers it: uint8."""
        if self.defocus[index] > 0.3:
            picture = cv2.GaussianBlur(picture, (0, 0), float(self.defocus[index]))
        picture = picture * self.gain[index].astype(np.float32)
        if self.noise[index] > 0:
            height, width = picture.shape[:2]
            y, x = self.noise_at[index]
            field = _noise_field(height + _SPARE, width + _SPARE)[y : y + height, x : x + width]
            picture += field * np.float32(self.noise[index])
        return np.clip(picture + 0.5, 0, 255).astype(np.uint8)

    def encoded(self, image: np.ndarray) -> bytes:
        """The (H, W, 3) uint8 image as a JPEG file."""
        return cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, self.quality])[1].tobytes()


def video_camera(vary: Generator, frames: int, unit: float) -> Camera:
    """A hand-held camera: long exposures, now and then out of focus or noisy.

    `unit`: frame pixels for each 1/240 of the frame's shorter side.
    """
    defocus = np.zeros(frames)
    for begin in np.flatnonzero(vary.random(frames) < 1 / 45):
        defocus = np.maximum(defocus, _bump(frames, begin, vary.uniform(5, 14)) * vary.uniform(1.5, 3.6) * unit)
    noise = np.full(frames, vary.uniform(1.0, 7.0))
    for begin in np.flatnonzero(vary.random(frames) < 1 / 70):
        noise += _bump(frames, begin, vary.uniform(4, 12)) * vary.uniform(6, 16)
    flicker = np.sin(np.arange(frames) * 2 * np.pi / vary.uniform(10, 40) + vary.uniform(0, 6)) * vary.uniform(0, 0.08)
    return Camera(
        shutter=vary.uniform(0.45, 1.0),
        gain=_tint(vary, 0.75) * (1 + flicker)[:, None],
        defocus=defocus,
        noise=noise,
        noise_at=vary.integers(0, _SPARE, (frames, 2)),
        quality=int(vary.integers(45, 93)),
    )


def still_camera(vary: Generator) -> Camera:
    """A photographer's: sharp, little noise, good JPEG."""
    return Camera(
        shutter=0.0,
        gain=_tint(vary, 0.85)[None],
        defocus=np.array([vary.uniform(0.4, 1.0) if vary.random() < 0.15 else 0.0]),
        noise=np.array([vary.uniform(0.5, 4.0)]),
        noise_at=vary.integers(0, _SPARE, (1, 2)),
        quality=int(vary.integers(75, 96)),
    )


_SPARE = 128  # by how much the common noise field is larger than a frame


@lru_cache(maxsize=4)
def _noise_field(height: int, width: int) -> np.ndarray:
    """(height, width, 3) float32 normal noise, alike in all channels by half; the same in every process."""
    random = np.random.default_rng(20171027)
    field = random.standard_normal((height, width, 3), dtype=np.float32)
    return 0.7 * field + 0.7 * random.standard_normal((height, width, 1), dtype=np.float32)


def _bump(frames: int, begin: int, length: float) -> np.ndarray:
    """(frames,): rises from 0 at `begin` to 1 and falls again within `length` frames."""
    share = np.clip((np.arange(frames) - begin) / length, 0, 1)
    return np.sin(np.pi * share)


def _tint(vary: Generator, darkest: float) -> np.ndarray:
    """(3,) brightness and white balance."""
    return vary.uniform(darkest, 1.1) * (1 + vary.normal(0, 0.03, 3))
