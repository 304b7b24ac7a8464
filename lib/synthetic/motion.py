"""Trajectories: a pose for any time, with a given motion IoU.

A trajectory is a home pose plus waves plus steps. Its `gain` scales waves and steps alike, so that a trajectory with a
given motion IoU is found by bisection on one number. Time is in frames and may be any real number, because motion blur
integrates over it.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
from numpy.random import Generator

from lib.synthetic.geometry import clipped, motion_iou, outline_boxes

# Columns of everything that moves: x, y (frame pixels), log size, angle (radians), shear, log aspect.
X, Y, SIZE, ANGLE, SHEAR, ASPECT = range(6)

SLOW, MEDIUM, FAST = "slow", "medium", "fast"
# Wanted mean motion IoU of a track: off the limits 0.7 and 0.9, as single frames scatter about the mean.
TARGETS = {SLOW: (0.905, 0.98), MEDIUM: (0.76, 0.86), FAST: (0.42, 0.66)}


@dataclass(frozen=True)
class Waves:
    """K sine waves. period: (K,) frames. phase, amplitude: (K, 6)."""

    period: np.ndarray
    phase: np.ndarray
    amplitude: np.ndarray

    def at(self, time: np.ndarray) -> np.ndarray:
        """(T,) -> (T, 6)."""
        turn = 2 * np.pi * time[:, None, None] / self.period[:, None] + self.phase  # (T, K, 6)
        return (np.sin(turn) * self.amplitude).sum(1)


@dataclass(frozen=True)
class Steps:
    """M permanent changes. begin, length: (M,) frames. change: (M, 6)."""

    begin: np.ndarray = field(default_factory=lambda: np.zeros(0))
    length: np.ndarray = field(default_factory=lambda: np.ones(0))
    change: np.ndarray = field(default_factory=lambda: np.zeros((0, 6)))

    def at(self, time: np.ndarray) -> np.ndarray:
        """(T,) -> (T, 6)."""
        share = np.clip((time[:, None] - self.begin) / self.length, 0, 1)  # (T, M)
        return (share * share * (3 - 2 * share)) @ self.change


@dataclass(frozen=True)
class Trajectory:
    """home: (6,) with the size as its logarithm in pixels. trips: steps that the gain does not scale."""

    home: np.ndarray
    waves: Waves
    steps: Steps = field(default_factory=Steps)
    trips: Steps = field(default_factory=Steps)
    gain: float = 1.0
    mirrored: bool = False

    def poses(self, time: np.ndarray) -> np.ndarray:
        """(T,) frames -> (T, 2, 3) float64 from picture coordinates to frame pixels."""
        time = np.asarray(time, dtype=np.float64)
        state = self.home + self.gain * (self.waves.at(time) + self.steps.at(time)) + self.trips.at(time)
        half = 0.5 * np.exp(state[:, SIZE])
        wide, tall = half * np.exp(state[:, ASPECT]), half * np.exp(-state[:, ASPECT])
        c, s, k = np.cos(state[:, ANGLE]), np.sin(state[:, ANGLE]), state[:, SHEAR]
        sign = -1.0 if self.mirrored else 1.0
        # rotation @ shear @ scale, written out
        rows = ((sign * c * wide, (c * k - s) * tall, state[:, X]), (sign * s * wide, (s * k + c) * tall, state[:, Y]))
        return np.stack([np.stack(row, axis=-1) for row in rows], axis=-2)


def make_trajectory(vary: Generator, kind: str, home: np.ndarray, frames: int) -> Trajectory:
    """A random trajectory of the given kind about `home` (6,), with a gain of 1."""
    size = float(np.exp(home[SIZE]))
    drift = _waves(vary, vary.uniform(18, 60, 3), size * np.array([0.14, 0.1, 0, 0, 0, 0]) + _SWAY)
    mirrored = bool(vary.random() < 0.5)
    if kind == SLOW:
        return Trajectory(home, drift, mirrored=mirrored)
    if kind == MEDIUM:
        return Trajectory(home, drift, _dashes(vary, size, frames, rest=(5, 12)), mirrored=mirrored)
    style = vary.integers(3)
    quick = vary.uniform(4.5, 10, 2)
    if style == 0:  # shakes
        shake = _waves(vary, quick, size * np.array([0.4, 0.3, 0, 0, 0, 0]) + 0.5 * _SWAY)
        return Trajectory(home, _joined(drift, shake), mirrored=mirrored)
    if style == 1:  # dashes about
        return Trajectory(home, drift, _dashes(vary, size, frames, rest=(1, 5)), mirrored=mirrored)
    # springs to and fro, swinging and swelling
    bounce = _waves(vary, quick, size * np.array([0.25, 0.35, 0, 0, 0, 0]) + np.array([0, 0, 0.1, 0.35, 0.1, 0.08]))
    return Trajectory(home, _joined(drift, bounce), mirrored=mirrored)


_SWAY = np.array([0, 0, 0.06, 0.12, 0.05, 0.04])  # how much a body turns and changes shape while it drifts


def with_trip(vary: Generator, trajectory: Trajectory, frames: int, height: int, width: int) -> Trajectory:
    """The trajectory with one trip out of the frame: away and back, or in from outside."""
    size = float(np.exp(trajectory.home[SIZE]))
    out = np.zeros(6)
    ways = (
        trajectory.home[X],
        width - trajectory.home[X],
        trajectory.home[Y],
        height - trajectory.home[Y],
    )  # left, right, up, down
    nearest = int(np.argmin(ways))
    out[X if nearest < 2 else Y] = (-1 if nearest % 2 == 0 else 1) * (ways[nearest] + 0.85 * size)
    length = vary.uniform(5, 9)
    if vary.random() < 0.3:
        begin = vary.uniform(2, max(frames * 0.4, 3))
        return replace(trajectory, trips=Steps(np.array([-1e6, begin]), np.array([1.0, length]), np.stack((out, -out))))
    leave = vary.uniform(3, max(frames - 2 * length - 3, 4))
    back = leave + length + vary.uniform(2, 5)
    return replace(trajectory, trips=Steps(np.array([leave, back]), np.array([length, length]), np.stack((out, -out))))


def calibrated(
    trajectory: Trajectory, hull: np.ndarray, frames: int, height: int, width: int, target: float
) -> Trajectory:
    """The trajectory with the gain that brings its mean motion IoU to `target`, moved so that it keeps to the frame."""
    if frames < 2:
        return trajectory  # one frame has no motion IoU
    time = np.arange(frames, dtype=np.float64)
    low, high = 0.0, 8.0
    for _ in range(14):
        gain = (low + high) / 2
        trial = _kept_inside(replace(trajectory, gain=gain), time, height, width)
        boxes = clipped(outline_boxes(trial.poses(time), hull), height, width)
        present = (boxes[:, 2:] >= boxes[:, :2]).all(1)
        mean = np.nanmean(motion_iou(boxes, present)) if present.any() else 0.0
        low, high = (gain, high) if mean > target else (low, gain)
    return _kept_inside(replace(trajectory, gain=(low + high) / 2), time, height, width)


def make_camera(vary: Generator, unit: float) -> Waves:
    """The motion of the background in frame pixels: a hand-held camera that rests, pans or shakes. `unit`: pixels."""
    still = np.array([0.02, 0.02, 0.004, 0.006, 0, 0]) * (unit, unit, 1, 1, 1, 1)
    waves = _waves(vary, vary.uniform(9, 25, 2), still)
    style = vary.choice(4, p=(0.15, 0.35, 0.3, 0.2))
    if style == 1:  # slow pan and zoom
        reach = np.array([0.6, 0.2, 0.05, 0.02, 0, 0]) * (unit, unit, 1, 1, 1, 1)
        return _joined(waves, _waves(vary, vary.uniform(40, 90, 1), reach))
    if style == 2:  # follows something
        reach = np.array([1.0, 0.25, 0.03, 0.02, 0, 0]) * (unit, unit, 1, 1, 1, 1)
        return _joined(waves, _waves(vary, vary.uniform(24, 45, 1), reach))
    if style == 3:  # shakes
        reach = np.array([0.12, 0.1, 0.01, 0.015, 0, 0]) * (unit, unit, 1, 1, 1, 1)
        return _joined(waves, _waves(vary, vary.uniform(5, 12, 2), reach))
    return waves


def _waves(vary: Generator, period: np.ndarray, reach: np.ndarray) -> Waves:
    """One wave a period, of random phase and of up to `reach` (6,) in all."""
    amplitude = vary.uniform(0.4, 1.0, (len(period), 6)) * vary.choice((-1, 1), (len(period), 6)) * reach / len(period)
    return Waves(np.asarray(period), vary.uniform(0, 2 * np.pi, (len(period), 6)), amplitude)


def _joined(a: Waves, b: Waves) -> Waves:
    return Waves(*(np.concatenate((getattr(a, f), getattr(b, f))) for f in ("period", "phase", "amplitude")))


def _dashes(vary: Generator, size: float, frames: int, rest: tuple[float, float]) -> Steps:
    """Short dashes between places about the home, with rests in between."""
    begin, length, places = [], [], [np.zeros(6)]
    now = vary.uniform(-6, 0)
    while now < frames:
        begin.append(now)
        length.append(vary.uniform(2.0, 5.0))
        now += length[-1] + vary.uniform(*rest)
        angle = vary.uniform(0, 2 * np.pi)
        place = np.zeros(6)
        place[[X, Y]] = size * vary.uniform(0.2, 0.5) * np.array((np.cos(angle), 0.7 * np.sin(angle)))
        place[[SIZE, ANGLE]] = vary.normal(0, (0.06, 0.15))
        places.append(place)
    return Steps(np.array(begin), np.array(length), np.diff(np.array(places), axis=0))


def _kept_inside(trajectory: Trajectory, time: np.ndarray, height: int, width: int) -> Trajectory:
    """The trajectory moved, not bent, so that its middle stays in the frame where that is possible."""
    centres = replace(trajectory, trips=Steps()).poses(time)[..., 2]  # (T, 2)
    size = float(np.exp(trajectory.home[SIZE]))
    home = trajectory.home.copy()
    for axis, side in ((X, width), (Y, height)):
        margin = min(0.35 * size, 0.5 * side)
        low, high = centres[:, axis].min(), centres[:, axis].max()
        if high - low > side - 2 * margin:
            home[axis] += side / 2 - (low + high) / 2
        else:
            home[axis] += max(margin - low, 0) + min(side - margin - high, 0)
    return replace(trajectory, home=home)
