"""Accuracy of Deep Feature Flow by distance from the key frame."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np

from dff.key_frames import KeyFrameRule
from lib.engine.testing import TestSet
from lib.evaluation.evaluate import KnownMotion, evaluate
from lib.evaluation.results_file import DETECTIONS

_LOGGER = logging.getLogger(__name__)
_GROUPS = 4  # distances are grouped: key frames, and thirds of those between


def log_by_distance(test_set: TestSet, folder: Path, rule: KeyFrameRule) -> dict[str, float]:
    """Log mean AP of the detections in `folder` on key frames and by distance from the nearest one, in frames.

    Returns the mean AP by group, such as {"0": 0.92, "1-3": 0.9}; empty if the flow decides on key frames.
    """
    if rule.flow_limit:
        return {}
    distance = np.full(test_set.truth.num_frames, -1)
    distance[test_set.chosen] = np.concatenate([_distances(video.length, rule) for video in test_set.videos])
    edges = np.unique(np.concatenate(([0], np.linspace(1, distance.max() + 1, _GROUPS).astype(int))))
    found: dict[str, float] = {}
    for first, end in zip(edges[:-1], edges[1:], strict=True):
        chosen = (distance >= first) & (distance < end)
        if chosen.any():
            name = f"{first}" if end == first + 1 else f"{first}-{end - 1}"
            part = evaluate(test_set.truth, [folder / DETECTIONS], KnownMotion.not_wanted(), chosen=chosen)
            found[name] = float(part.results[0].mean_ap)
    described = ", ".join(f"{name}: {100 * ap:.2f}" for name, ap in found.items())
    _LOGGER.info("mean AP (%%) by distance from the key frame in frames: %s", described)
    return found


def _distances(length: int, rule: KeyFrameRule) -> np.ndarray:
    """(length,) distance of each frame of a video from the key frame that most of its features come from."""
    keys, frames = np.array(rule.key_frames(length)), np.arange(length)
    if rule.offset or rule.both:
        return np.abs(frames[:, None] - keys).min(axis=1)
    return frames % rule.interval
