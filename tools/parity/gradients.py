"""The recorded gradients of a training step, parameter by parameter."""

from __future__ import annotations

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


@dataclass
class _Worst:
    """The largest error of an array over all parameters, and whose it is."""

    error: float = 0.0  # in the units of the tolerance
    absolute: float = 0.0
    name: str = ""

    def add(self, error: float, absolute: float, name: str) -> None:
        self.absolute = max(self.absolute, absolute)
        if not error <= self.error:
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
    norms, sums, entries = _Worst(), _Worst(), _Worst()
    for row, name in enumerate(recorded):
        parameter = parameters[names[name]]
        gradient = np.zeros(parameter.shape) if parameter.grad is None else parameter.grad.double().numpy()
        norm, size = recording["grad_l2"][row], gradient.size
        index, value = recording["grad_index"][row], recording["grad_value"][row]
        norms.add(*_over(abs(np.linalg.norm(gradient) - norm), norm), name)
        sums.add(*_over(abs(gradient.sum() - recording["grad_sum"][row]), norm * np.sqrt(size)), name)
        if index.min() < 0 or index.max() >= size:
            entries.add(np.inf, np.inf, f"{name}: an index beyond its {size} values")
            continue
        entries.add(*_over(np.abs(gradient.ravel()[index] - value).max(), norm / np.sqrt(size)), name)
        if f"gradfull_{name}" in recording:
            _compare_whole(recording, name, gradient)
    recording.input("grad_index")
    _judge(recording, "grad_l2", norms, *_norm_limit(norms.error), "the parameter's norm")
    _judge(recording, "grad_sum", sums, *_norm_limit(sums.error), "the parameter's norm times the root of its size")
    _judge(recording, "grad_value", entries, ENTRY, "", "the root mean square of the parameter's gradient")


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
    """The bound for an error of a norm, and what to say of it."""
    return (KINKS, f"above {NORM:g}, within what ReLU kinks may do") if NORM < error <= KINKS else (NORM, "")


def _over(error: float, size: float) -> tuple[float, float]:
    """`error` relative to `size`, infinite where only that is 0; and `error`."""
    return (error / size if size else (np.inf if error else 0.0)), error


def _judge(recording: Recording, array: str, worst: _Worst, limit: float, remark: str, to_what: str) -> None:
    notes = (f"relative to {to_what}", f"worst: {worst.name}" if worst.name else "", remark)
    recording.judge(array, worst.absolute, worst.error, limit, "rel", "; ".join(filter(None, notes)))
