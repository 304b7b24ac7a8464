"""Deep Feature Flow for the scripts and the Python API."""

from __future__ import annotations

from functools import partial

from dff.key_frames import key_frame_rule
from dff.model import build_dff
from lib.config import Config
from lib.data.sampling import ChooseReferences, one_reference, training_offsets
from lib.engine.run import Method


def references(cfg: Config) -> ChooseReferences:
    """One reference frame, drawn from the offsets that key frames can have in testing."""
    first, last = training_offsets(cfg, key_frame_rule(cfg).training_offsets())
    return partial(one_reference, min_offset=first, max_offset=last)


METHOD = Method("dff", build_dff, score_threshold=1e-4)
