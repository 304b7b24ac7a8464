"""Hostile inputs of every kind end in one clear error or in a right result (tools/fuzz.py tries more of them)."""

from __future__ import annotations

import pytest

from tools.fuzzing.attempts import ERROR, RECOVERY
from tools.fuzzing.kinds import KINDS
from tools.fuzzing.runner import Tally, fixed_count, run

# Kind -> how many of the inputs written by hand, spread evenly, and how many damaged ones
SAMPLES = {
    "image": (60, 40),
    "video": (20, 20),
    "annotation": (120, 60),
    "list": (120, 40),
    "classes": (60, 40),
    "cache": (4, 40),
    "yaml": (60, 40),
    "key": (400, 100),
    "pth": (50, 20),
    "params": (60, 60),
    "pickle": (30, 60),
    "results": (120, 60),
    "coco": (100, 40),
    "motion": (20, 60),
    "output": (110, 0),
    "command": (30, 0),
    "signal": (3, 0),
    "environment": (6, 0),
}
SEED = 0


def numbers_of(kind: str) -> list[int]:
    """The inputs to try: always the same ones."""
    by_hand, damaged = SAMPLES[kind]
    known = fixed_count(kind)
    chosen = [i * known // min(by_hand, known) for i in range(min(by_hand, known))]
    return [*chosen, *range(known, known + damaged)]


def test_every_kind_is_tried_with_inputs_enough():
    assert SAMPLES.keys() == KINDS.keys()
    assert sum(len(numbers_of(kind)) for kind in KINDS) >= 1500


@pytest.mark.parametrize("kind", KINDS)
def test_hostile_inputs_end_well(kind):
    numbers, tally = numbers_of(kind), Tally(kind)
    run(kind, SEED, numbers, tally)
    assert not tally.failures, "\n".join(
        f"{name}: {what} (python tools/fuzz.py --kind {kind} --seed {SEED} --number {number})"
        for number, name, what in tally.failures
    )
    assert tally.inputs == len(numbers)
    if kind not in ("cache", "signal", "environment"):
        assert tally.outcomes[ERROR] > 0, "nothing was refused: the inputs are not hostile"
    if kind not in ("output", "command"):
        assert tally.outcomes[RECOVERY] > 0, "nothing was read: the good ones among them neither"
