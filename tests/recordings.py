"""What the tests of recorded models and of the parity tool share: recordings, and recordings with a changed number."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from tools.parity.rows import Recording
from tools.parity.training import recorded_anchor_targets, recorded_batch


def assert_all_pass(recorded: Recording, at_least: int) -> None:
    """Every row passes, and there are `at_least` of them."""
    rows = recorded.finish()
    failed = [f"{row.array}: {row.max_abs} (relative {row.max_rel}), {row.note}" for row in rows if not row.passed]
    assert not failed, "\n".join(failed)
    assert len(rows) >= at_least


def changed(array: np.ndarray, after_middle: int = 0) -> np.ndarray:
    """A copy in which one element is another: a number by a tenth and more, a text by a letter, a truth turned.

    It is the element so many places after the middle one.
    """
    array = array.astype(f"<U{array.itemsize // 4 + 1}") if array.dtype.kind == "U" else array.copy()
    flat = array.reshape(-1)
    place = len(flat) // 2 + after_middle
    if array.dtype.kind == "f":
        flat[place] = 1.1 * np.nan_to_num(flat[place]) + 0.37
    elif array.dtype.kind == "b":
        flat[place] = not flat[place]
    else:
        flat[place] = flat[place] + ("x" if array.dtype.kind == "U" else 1)
    return flat.reshape(array.shape)


def noticed(recorded: Recording, array: str, compare: Callable[[Recording], None], after_middle: int = 0) -> bool:
    """Whether `compare` gives a failing row when one number of `array` is changed."""
    recorded = Recording("changed", recorded.arrays() | {array: changed(recorded[array], after_middle)})
    compare(recorded)
    return not all(row.passed for row in recorded.finish())


def assert_losses_from_a_batch(model, recorded: Recording, detector_module, monkeypatch) -> None:
    """What `model.losses` gives for the recorded sample and choice of anchors are the recorded metrics."""
    monkeypatch.setattr(detector_module, "assign_anchors", lambda *_: recorded_anchor_targets(recorded))
    terms = model.losses(recorded_batch(recorded), np.random.RandomState(0))
    names, values = recorded["metric_names"].tolist(), recorded["metric_values"].tolist()
    for name, value in zip(names, values, strict=True):
        assert terms[name].item() == pytest.approx(value, rel=1e-5), name
