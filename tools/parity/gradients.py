"""The recorded gradients of a training step, parameter by parameter."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from torch import nn

from lib.models.mxnet_names import mxnet_names
from tools.parity.rows import Recording

NORM = 1e-3  # relative, of a parameter's L2 norm
# A ReLU whose input rounding moves across 0 changes all gradients before it. The recordings therefore allow twice as
# much; where that is needed the row says so.
KINKS = 2e-3
ENTRY = 0.05  # of the root mean square of a parameter's gradient, absolute
SUM = 1e-3  # of `_sum_scale`
# Measured in the public sets: sums differ by 4 to 7 times the largest error of a sampled entry, of the norm where
# entries are of the root mean square. So the noise of the entries says what a sum may be off by.
_SUM_OF_NOISE = 20.0
_LEAST_SUM_OF_NORM = 5e-3  # a kink may lie where no entry was sampled


@dataclass
class _Worst:
    """The largest error of an array over all parameters, and whose it is."""

    error: float = 0.0  # in the units of the tolerance
    absolute: float = 0.0
    name: str = ""

    def add(self, error: float, absolute: float, name: str) -> None:
        """NaN counts as infinite."""
        error, absolute = (math.inf if math.isnan(value) else float(value) for value in (error, absolute))
        self.absolute = max(self.absolute, absolute)
        if error > self.error:
            self.error, self.name = error, name


def compare_gradients(recording: Recording, model: nn.Module) -> None:
    """grad_*: L2 norm, sum and sampled entries of the gradient of every parameter, and some gradients whole.

    A parameter without a gradient counts as one whose gradient is 0.
    """
    names, parameters = mxnet_names(model), dict(model.named_parameters())
    recorded = recording.input("grad_names").tolist()
    wanted = sorted(name for name, torch_name in names.items() if torch_name in parameters)
    if sorted(recorded) != wanted:
        recording.fail("grad_names", f"not the parameters of this network: {sorted(set(recorded) ^ set(wanted))[:5]}")
        return
    gradients = {
        name: np.zeros(p.shape) if (p := parameters[names[name]]).grad is None else p.grad.double().numpy()
        for name in recorded
    }
    if not _fit(recording, len(recorded)):
        return
    norms, entries = _Worst(), _Worst()
    for row, (name, gradient) in enumerate(gradients.items()):
        norm, size = recording["grad_l2"][row], gradient.size
        index, value = recording["grad_index"][row], recording["grad_value"][row]
        norms.add(*_over(abs(np.linalg.norm(gradient) - norm), norm), name)
        if index.min() < 0 or index.max() >= size:
            entries.add(np.inf, np.inf, f"{name}: an index beyond its {size} values")
            continue
        entries.add(*_over(np.abs(gradient.ravel()[index] - value).max(), norm / np.sqrt(size)), name)
        if f"gradfull_{name}" in recording:
            _compare_whole(recording, name, gradient)
    sums = _sums(recording, gradients, entries.error)
    recording.input("grad_index")
    _judge(recording, "grad_l2", norms, *_norm_limit(norms.error), "the parameter's norm")
    to_what = "the parameter's norm times the root of its size, or less where entries are near (`_sum_scale`)"
    _judge(recording, "grad_sum", sums, SUM, "", to_what)
    _judge(recording, "grad_value", entries, ENTRY, "", "the root mean square of the parameter's gradient")


def _fit(recording: Recording, count: int) -> bool:
    """Whether there is a row for each of `count` parameters; a failing row where not."""
    wrong = [name for name in ("grad_l2", "grad_sum", "grad_index", "grad_value") if len(recording[name]) != count]
    if recording["grad_index"].shape != recording["grad_value"].shape:
        wrong.append("grad_index")
    for name in wrong:
        recording.fail(name, f"shape {recording[name].shape} does not fit the {count} parameters of grad_names")
    return not wrong


def _sums(recording: Recording, gradients: Mapping[str, np.ndarray], noise: float) -> _Worst:
    """The worst sum; noise: the largest error of a sampled entry, of its root mean square."""
    worst = _Worst()
    for row, (name, gradient) in enumerate(gradients.items()):
        scale = _sum_scale(recording["grad_l2"][row], gradient.size, noise)
        worst.add(*_over(abs(gradient.sum() - recording["grad_sum"][row]), scale), name)
    return worst


def _sum_scale(norm: float, size: int, noise: float) -> float:
    """The scale of the error of a gradient's sum: its largest possible value, or less if all entries agree."""
    return norm * min(np.sqrt(size), max(_SUM_OF_NOISE * min(noise, ENTRY), _LEAST_SUM_OF_NORM) / SUM)


def _compare_whole(recording: Recording, name: str, gradient: np.ndarray) -> None:
    """A small parameter's whole gradient: its difference has at most the norm that norms may differ by."""
    array = f"gradfull_{name}"
    whole = recording[array]
    if whole.shape != gradient.shape:
        recording.fail(array, f"shape {gradient.shape} here, {whole.shape} recorded")
        return
    difference = gradient - whole
    relative, _ = _over(np.linalg.norm(difference), np.linalg.norm(whole))
    limit, note = _norm_limit(relative)
    note = "; ".join(filter(None, ("norm of the difference over the norm", note)))
    recording.judge(array, np.abs(difference).max(), relative, limit, "rel", note)


def _norm_limit(error: float) -> tuple[float, str]:
    """The bound for an error of a norm, and a note on it."""
    return (KINKS, f"above {NORM:g}, within what ReLU kinks may do") if NORM < error <= KINKS else (NORM, "")


def _over(error: float, size: float) -> tuple[float, float]:
    """`error` relative to `size`, infinite where only that is 0; and `error`."""
    return (error / size if size else (np.inf if error else 0.0)), error


def _judge(recording: Recording, array: str, worst: _Worst, limit: float, remark: str, to_what: str) -> None:
    notes = (f"relative to {to_what}", f"worst: {worst.name}" if worst.name else "", remark)
    recording.judge(array, worst.absolute, worst.error, limit, "rel", "; ".join(filter(None, notes)))
