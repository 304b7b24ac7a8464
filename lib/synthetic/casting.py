"""Random scenes: the objects of a clip, their positions and their motion, each scene from its own seed."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.random import Generator

from lib.synthetic import motion
from lib.synthetic.background import make_background
from lib.synthetic.camera import still_camera, video_camera
from lib.synthetic.catalogue import DRAWINGS
from lib.synthetic.motion import Trajectory, Waves
from lib.synthetic.scene import Clip, Layer
from lib.synthetic.sprites import Sprite, make_scenery, make_sprite

SPLITS = ("train", "val", "stills")
# Longer side of an object in frames 240 pixels high, by the number of objects in the clip.
_SIZES = {1: (100, 185), 2: (85, 150), 3: (75, 125), 4: (70, 105)}
_LEAVING = {motion.SLOW: 0.0, motion.MEDIUM: 0.12, motion.FAST: 0.2}  # how many make a trip out of the frame
_SHORTEST_TRIP = 16  # frames a clip must have for that
_STILL_SHAPES = ((1.0, 1.0), (0.75, 4 / 3), (1.0, 0.75), (0.9, 0.9))  # width and height of stills over the frame's


@dataclass(frozen=True)
class Settings:
    """What the clips of one data set have in common. motion_mix: shares of fast, medium, slow objects."""

    classes: int = 10
    width: int = 320
    height: int = 240
    frames: int = 24
    motion_mix: tuple[float, float, float] = (27, 35, 37)
    seed: int = 0

    def __post_init__(self) -> None:
        if not 1 <= self.classes <= len(DRAWINGS):
            raise ValueError(f"classes: {self.classes} is not between 1 and {len(DRAWINGS)}")
        if self.frames < 1:
            raise ValueError(f"frames: a video needs at least one, not {self.frames}")
        if min(self.width, self.height) < 64:
            raise ValueError(f"size: {self.width}x{self.height} is too small, at least 64x64 is needed")
        if len(self.motion_mix) != 3 or min(self.motion_mix) < 0 or sum(self.motion_mix) <= 0:
            raise ValueError(f"motion mix: three shares (fast, medium, slow) are needed, not {self.motion_mix}")
        if self.seed < 0:
            raise ValueError(f"seed: {self.seed} is negative")


def make_clip(settings: Settings, split: str, index: int) -> Clip:
    """Clip `index` (from 0) of a split, the same for the same arguments whatever else is made.

    `train` and `val` are videos; `stills` are single frames of several sizes, with a wider range of scales and angles.
    """
    vary = np.random.default_rng([settings.seed, SPLITS.index(split), index])
    return _still(vary, settings, index) if split == "stills" else _video(vary, settings, index)


def _video(vary: Generator, settings: Settings, index: int) -> Clip:
    height, width, frames = settings.height, settings.width, settings.frames
    unit = min(height, width) / 240
    waves = motion.make_camera(vary, 60 * unit)
    back, hue = _background(vary, waves, height, width, 60 * unit)
    number = int(vary.choice((1, 2, 3, 4), p=(0.4, 0.3, 0.2, 0.1)))
    labels = _labels(vary, number, settings.classes, index)
    mix = np.array(settings.motion_mix) / sum(settings.motion_mix)
    layers = []
    sizes = [vary.uniform(*_SIZES[number]) * unit for _ in labels]
    for track, (label, size, place) in enumerate(zip(labels, sizes, _places(vary, sizes, height, width), strict=True)):
        kind = str(vary.choice((motion.FAST, motion.MEDIUM, motion.SLOW), p=mix))
        sprite = make_sprite(vary, label, _pixels(size * 1.1), hue if vary.random() < 0.2 else None)
        home = _home(vary, place, size, turn=0.25)
        trajectory = motion.make_trajectory(vary, kind, home, frames)
        if vary.random() < _LEAVING[kind] and frames >= _SHORTEST_TRIP:
            trajectory = motion.with_trip(vary, trajectory, frames, height, width)
        target = vary.uniform(*motion.TARGETS[kind])
        trajectory = motion.calibrated(trajectory, sprite.hull, frames, height, width, target)
        layers.append(_layer(sprite, trajectory, label, track))
    if vary.random() < 0.35:
        layers.insert(int(vary.integers(len(layers) + 1)), _scenery(vary, waves, height, width, unit, hue))
    return Clip(height, width, frames, [back, *layers], video_camera(vary, frames, unit))


def _still(vary: Generator, settings: Settings, index: int) -> Clip:
    wide, tall = _STILL_SHAPES[int(vary.integers(len(_STILL_SHAPES)))]
    height, width = round(settings.height * tall), round(settings.width * wide)
    unit = min(height, width) / 240
    back, hue = _background(vary, _no_waves(), height, width, 60 * unit * vary.uniform(0.6, 1.8))
    number = int(vary.choice((1, 2, 3, 4), p=(0.5, 0.25, 0.15, 0.1)))
    sizes = [vary.uniform(50, 230 - 25 * number) * unit for _ in range(number)]
    labels = _labels(vary, number, settings.classes, index)
    layers = []
    for label, size, place in zip(labels, sizes, _places(vary, sizes, height, width), strict=True):
        sprite = make_sprite(vary, label, _pixels(size), hue if vary.random() < 0.25 else None)
        trajectory = Trajectory(_home(vary, place, size, turn=0.5), _no_waves(), mirrored=bool(vary.random() < 0.5))
        layers.append(_layer(sprite, trajectory, label, len(layers)))
    return Clip(height, width, 1, [back, *layers], still_camera(vary))


def _labels(vary: Generator, number: int, classes: int, index: int) -> list[int]:
    """The first object's class goes round with the index, so that a small set has all; the others' are random."""
    return [index % classes + 1, *(int(label) + 1 for label in vary.integers(classes, size=number - 1))]


def _home(vary: Generator, place: np.ndarray, size: float, turn: float) -> np.ndarray:
    """(6,) a place, a size and a random attitude; `turn` in radians is one standard deviation."""
    attitude = vary.normal(0, (turn, 0.08, 0.07))
    return np.array((*place, np.log(size), *np.clip(attitude, -3 * turn, 3 * turn)))


def _places(vary: Generator, sizes: list[float], height: int, width: int) -> list[np.ndarray]:
    """A centre for each object: of three random ones that which is furthest from the others, for its size."""
    places: list[np.ndarray] = []
    for size in sizes:
        margin = np.minimum(0.42 * size, 0.45 * np.array((width, height)))
        tries = vary.uniform(margin, np.array((width, height)) - margin, (3, 2))
        if places:
            gaps = [np.linalg.norm(tries - p, axis=1) - 0.4 * s for p, s in zip(places, sizes, strict=False)]
            places.append(tries[np.min(gaps, axis=0).argmax()])
        else:
            places.append(tries[0])
    return places


def _background(vary: Generator, waves: Waves, height: int, width: int, detail: float) -> tuple[Layer, float]:
    """The backmost layer, just large enough for where the camera goes, and its hue."""
    reach = np.abs(waves.amplitude).sum(0)  # (6,)
    turn = reach[motion.ANGLE]
    zoom = np.exp(reach[motion.SIZE])
    half_width = zoom * (width / 2 + reach[motion.X] + turn * height / 2) + 3
    half_height = zoom * (height / 2 + reach[motion.Y] + turn * width / 2) + 3
    rows, columns = int(2 * half_height), int(2 * half_width)
    picture, hue = make_background(vary, rows, columns, detail)
    home = np.array(((width - 1) / 2, (height - 1) / 2, np.log(max(rows, columns)), 0, 0, 0))
    return Layer(picture, Trajectory(home, waves), np.zeros((0, 2)), []), hue


def _scenery(vary: Generator, waves: Waves, height: int, width: int, unit: float, hue: float) -> Layer:
    """A post or a bush near the camera, of no class: it moves a little more than the background does."""
    near = vary.uniform(1.1, 1.5)
    size = vary.uniform(80, 150) * unit
    sprite = make_scenery(vary, _pixels(size), hue)
    place = vary.uniform((0.05, 0.45), (0.95, 1.0)) * (width, height)
    trajectory = Trajectory(
        _home(vary, place, size, turn=0.05), Waves(waves.period, waves.phase, waves.amplitude * near)
    )
    return _layer(sprite, trajectory, 0, -1)


def _layer(sprite: Sprite, trajectory: Trajectory, label: int, track_id: int) -> Layer:
    return Layer(sprite.pixels, trajectory, sprite.hull, sprite.contours, label, track_id)


def _no_waves() -> Waves:
    return Waves(np.ones(1), np.zeros((1, 6)), np.zeros((1, 6)))


def _pixels(size: float) -> int:
    """Side of a sprite's picture for an object of that many pixels: a multiple of 16."""
    return int(np.ceil(size / 16) * 16)
