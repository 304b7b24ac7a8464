"""The record of a conversion: the origin of each parameter, what was left out or added, and whether the result fits."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from lib.errors import InputError, some_of

_COUNTER = "num_batches_tracked"  # of nn.BatchNorm2d; frozen normalisation has none, and nothing depends on it
_SHOWN = 20  # names listed per kind of mismatch


class WeightsError(InputError):
    """Weights that cannot be converted; the message names the parameter or the file, and what to do."""


@dataclass
class Conversion:
    """Weights by this project's names, and the record of their conversion.

    Unknown entries are in `state` with their name in the file; `misfits` lists them.
    mapped: (name in the file, name here). dropped: (name in the file, reason). added: (name here, reason).
    notes: sentences for the user. origin: data for the conversion back (`mxnet_state`).
    """

    state: dict[str, Tensor] = field(default_factory=dict)
    mapped: list[tuple[str, str]] = field(default_factory=list)
    dropped: list[tuple[str, str]] = field(default_factory=list)
    added: list[tuple[str, str]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    origin: dict[str, Any] | None = None


def misfits(own: Mapping[str, Tensor], state: Mapping[str, Tensor], may_miss: str | None = None) -> str:
    """The differences between `state` and a model's state `own`, one line per kind of problem; "" if there are none.

    may_miss: prefix of names that need not be present.
    """
    optional = (may_miss,) if may_miss else ()
    common = [name for name in own if name in state]
    problems = {
        "missing in the file": [
            n for n in own if n not in state and not n.endswith(_COUNTER) and not n.startswith(optional)
        ],
        "in the file, but not in the model": [n for n in state if n not in own and not n.endswith(_COUNTER)],
        "of another shape": [
            f"{n} (file {tuple(state[n].shape)}, model {tuple(own[n].shape)})"
            for n in common
            if state[n].shape != own[n].shape
        ],
        "of another type": [
            f"{n} (file {state[n].dtype}, model {own[n].dtype})"
            for n in common
            if own[n].is_floating_point() and not state[n].is_floating_point()
        ],
    }
    return "\n".join(f"  {len(names)} {kind}: {some_of(names, _SHOWN)}" for kind, names in problems.items() if names)
