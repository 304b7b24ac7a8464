"""Checkpoints of small networks of every method, which say what they are."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

import dff.method
import fgfa.method
import rfcn.method
from lib.config import Config, to_dict
from lib.data.classes import Classes
from lib.engine.checkpoint import Identity, save_tensors
from tests.models.small import NUM_CLASSES, small_config, small_rfcn, with_video_keys
from tests.models.small_video import small_dff, small_fgfa

CLASSES = Classes(("cat", "dog", "horse", "cow", "bird"), ("n1", "n2", "n3", "n4", "n5"))
METHODS = {"rfcn": rfcn.method.METHOD, "dff": dff.method.METHOD, "fgfa": fgfa.method.METHOD}
assert len(CLASSES.names) + 1 == NUM_CLASSES


def small_model(method: str) -> nn.Module:
    """DFF has a key frame interval of 3, FGFA a reach of 2."""
    return {"rfcn": small_rfcn, "dff": small_dff, "fgfa": small_fgfa}[method]().eval()


def small_method_config(method: str, *overrides: str) -> Config:
    """What `small_model` was built with; frames of `clip` stay as they are but for the mean."""
    interval = {"rfcn": 0, "dff": 3, "fgfa": 2}[method]
    cfg = with_video_keys(small_config("network.PIXEL_MEANS=[110, 110, 110]", *overrides), interval)
    cfg.SCALES = [[96, 128]]
    return cfg


def clip(length: int, seed: int = 0, height: int = 96, width: int = 128) -> list[np.ndarray]:
    """Frames (height, width, 3) uint8 that `small_model` sees as numbers of the order of 1."""
    rng = np.random.RandomState(seed)
    return [np.rint(110 + 2 * rng.standard_normal((height, width, 3))).astype(np.uint8) for _ in range(length)]


def identity_of(method: str, name: str = "small", **changes: Any) -> Identity:
    return Identity(method, to_dict(small_method_config(method)), changes.pop("classes", CLASSES), name, **changes)


def write_checkpoint(path: Path, method: str, **changes: Any) -> Path:
    """A checkpoint of `small_model`; changes: of its identity."""
    state = {"model": small_model(method).state_dict(), "epoch": 1}
    return save_tensors(state | identity_of(method, **changes).to_content(), path)


def write_old_checkpoint(path: Path, method: str) -> Path:
    """One that does not say what it is."""
    return save_tensors({"model": small_model(method).state_dict(), "epoch": 1}, path)
