"""FGFA for the scripts and the Python API."""

from __future__ import annotations

from functools import partial

from fgfa.model import build_fgfa, reach
from lib.config import Config, ConfigError
from lib.data.sampling import ChooseReferences, training_offsets, two_references
from lib.engine.run import Method


def references(cfg: Config) -> ChooseReferences:
    """Two reference frames, drawn from the window of the test."""
    first, last = training_offsets(cfg, (-reach(cfg), 0 if cfg.TEST.CAUSAL else reach(cfg)))
    if first == last:
        raise ConfigError(
            f"'TRAIN.MIN_OFFSET' and 'TRAIN.MAX_OFFSET' are both {first}, but FGFA draws two different frames between "
            "them; move them apart, or leave them out"
        )
    return partial(two_references, min_offset=first, max_offset=last)


METHOD = Method("fgfa", build_fgfa, score_threshold=1e-3)
