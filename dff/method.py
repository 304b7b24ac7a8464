"""Deep Feature Flow for the scripts and the Python API."""

from __future__ import annotations

from functools import partial

from dff.model import build_dff, key_frame_interval
from lib.config import Config
from lib.data.sampling import ChooseReferences, one_reference, training_offsets
from lib.engine.run import Method


def references(cfg: Config) -> ChooseReferences:
    """One frame from as far back as a key frame can be in testing."""
    first, last = training_offsets(cfg, (1 - key_frame_interval(cfg), 0))
    return partial(one_reference, min_offset=first, max_offset=last)


METHOD = Method("dff", build_dff, score_threshold=1e-4)
