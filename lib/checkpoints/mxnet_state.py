"""Convert between the originals' parameter files and this project's weights, bit for bit (docs/rules.md, section 5).

Names: `lib.models.mxnet_names`; arguments have the prefix "arg:", stored statistics "aux:"; both may be missing.

Box weights: this project's detector multiplies its deltas by the standard deviations of TRAIN.BBOX_STDS itself, so its
weights are the normalised ones. The originals test with weights that include that factor: after each epoch they add
entries with `_test` in their names, normalised weight * std and bias * std + mean, which replace the others in a test.
A file without `_test` entries is tested without changes, so its box weights must be un-normalised.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lib.checkpoints.conversion import Conversion, WeightsError
from lib.checkpoints.mxnet_params import LAYOUTS, ParamsFile

CLASSIFIER = ("fc1_weight", "fc1_bias", "fc1000_weight", "fc1000_bias")  # what a pretrained ResNet-101 ends with

_TEST = "_test"
_BOX_WEIGHT, _BOX_BIAS = "rfcn_bbox_weight", "rfcn_bbox_bias"
_STATISTICS = ("_moving_mean", "_moving_var")
_ULPS = 4  # by which `_test` entries may differ from the product, in units of the last place


@dataclass(frozen=True)
class BoxRule:
    """Normalisation of the box weights: TRAIN.BBOX_MEANS, TRAIN.BBOX_STDS.

    normalised: whether the box weights of a file without `_test` entries are normalised, although a test of the
    originals would use them as un-normalised.
    """

    means: tuple[float, ...] = (0.0, 0.0, 0.0, 0.0)
    stds: tuple[float, ...] = (0.1, 0.1, 0.2, 0.2)
    normalised: bool = False

    def test_entry(self, name: str, plain: np.ndarray) -> np.ndarray:
        """The un-normalised weight (392, C, 1, 1) or bias (392,), as the originals compute it: in `plain`'s type."""
        return (plain * self._of_channels(self.stds, plain) + self._mean(name, plain)).astype(plain.dtype)

    def plain_entry(self, name: str, test: np.ndarray) -> np.ndarray:
        """The reverse of `test_entry`."""
        return ((test - self._mean(name, test)) / self._of_channels(self.stds, test)).astype(test.dtype)

    def agree(self, name: str, plain: np.ndarray, test: np.ndarray) -> bool:
        """Whether `test` is the un-normalised form of `plain`, except for rounding."""
        if plain.shape != test.shape or plain.dtype != test.dtype or plain.dtype.kind != "f":
            return False
        expected = plain.astype(np.float64) * self._of_channels(self.stds, plain).astype(np.float64)
        mean = np.asarray(self._mean(name, plain), np.float64)
        tolerance = _ULPS * np.finfo(plain.dtype).eps * (np.abs(expected) + np.abs(mean)) + np.finfo(plain.dtype).tiny
        return bool(np.all(np.abs(test - (expected + mean)) <= tolerance))

    def _mean(self, name: str, values: np.ndarray) -> np.ndarray | float:
        return self._of_channels(self.means, values) if name == _BOX_BIAS else 0.0

    @staticmethod
    def _of_channels(four: tuple[float, ...], values: np.ndarray) -> np.ndarray:
        """The 4 numbers for each of the (2 classes * 4 * 49) channels of `values`, in a shape to multiply it with."""
        channels = len(values) if values.ndim else 0
        if channels == 0 or channels % 8:
            raise WeightsError(f"box weights of shape {values.shape}: there must be 8 channels for each bin")
        repeated = np.repeat(np.tile(np.asarray(four, values.dtype), 2), channels // 8)
        return repeated.reshape(-1, *[1] * (values.ndim - 1))


def state_from_params(
    params: ParamsFile, names: Mapping[str, str], rule: BoxRule, may_drop: Collection[str] = ()
) -> Conversion:
    """The weights in `params` by this project's names; everything left out is recorded.

    names: original name -> name here (`mxnet_names` of the model). may_drop: original names that may be left out.
    Arrays that `names` does not have keep their names; `misfits` checks whether the result is complete and fits.
    Raises WeightsError for a file without names or with two arrays for one parameter.
    """
    arrays, full_names = _without_prefixes(params)
    result = Conversion()
    kept: set[str] = set()  # original names of arrays that `state` does not hold as they are
    taken, source = dict(arrays), dict(full_names)
    for test_name in [name for name in arrays if _TEST in name]:
        plain_name = test_name.replace(_TEST, "")
        if plain_name in names:
            if _takes_test_entry(result, taken, plain_name, test_name, rule):
                source[plain_name] = full_names[test_name]
            kept |= {plain_name, test_name}
    for name in (_BOX_WEIGHT, _BOX_BIAS):
        if name in names and name in taken and name not in kept:
            _take_lone_entry(result, taken, name, rule)
            kept.add(name)
    for name, array in taken.items():
        tensor = torch.from_numpy(np.ascontiguousarray(array).reshape(array.shape))
        if name in names:
            result.state[names[name]] = tensor
            result.mapped.append((source[name], names[name]))
        elif name in may_drop:
            result.dropped.append((full_names[name], "the classifier of the pre-training; a detector has none"))
            kept.add(name)
        else:
            result.state[full_names[name]] = tensor
    result.origin = {
        "names": list(params.names),
        "layout": params.layout,
        "means": list(rule.means),
        "stds": list(rule.stds),
        "normalised": rule.normalised,
        "kept": {full_names[name]: torch.from_numpy(arrays[name].copy()) for name in sorted(kept & set(arrays))},
    }
    return result


def original_name(full_name: str) -> str:
    """`arg:conv1_weight` -> `conv1_weight`, and `arg:rfcn_bbox_weight_test` -> `rfcn_bbox_weight`."""
    return _bare(full_name).replace(_TEST, "")


def _without_prefixes(params: ParamsFile) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """Arrays by original name, and original name -> name in the file."""
    if not params.names:
        raise WeightsError(f"a list of {len(params.arrays)} arrays without names, so nobody can say which is which")
    arrays: dict[str, np.ndarray] = {}
    full_names: dict[str, str] = {}
    for full_name, array in params.named().items():
        name = full_name.removeprefix("arg:").removeprefix("aux:")
        if name in arrays:
            raise WeightsError(f"'{full_names[name]}' and '{full_name}' are two arrays for one parameter")
        arrays[name], full_names[name] = array, full_name
    return arrays, full_names


def _takes_test_entry(
    result: Conversion, taken: dict[str, np.ndarray], plain_name: str, test_name: str, rule: BoxRule
) -> bool:
    """Whether to use the `_test` form of a parameter instead of the plain one; stores it in `taken` as `plain_name`."""
    test, plain = taken.pop(test_name), taken.get(plain_name)
    is_box = plain_name in (_BOX_WEIGHT, _BOX_BIAS)
    if is_box and plain is not None and rule.agree(plain_name, plain, test):
        result.dropped.append((test_name, f"it is {plain_name} un-normalised, which the detector does itself"))
        return False
    taken[plain_name] = rule.plain_entry(plain_name, test) if is_box else test
    divided = f", divided by the standard deviations {rule.stds}," if is_box else ""
    why = f"{plain_name} is not in the file" if plain is None else f"{plain_name} says something else"
    result.notes.append(f"{test_name}{divided} is used, as the originals test with it; {why}")
    if plain is not None:
        result.dropped.append((plain_name, f"the originals test with {test_name}, which says something else"))
    return True


def _take_lone_entry(result: Conversion, taken: dict[str, np.ndarray], name: str, rule: BoxRule) -> None:
    if rule.normalised:
        result.notes.append(f"{name} has no {_TEST} entry; taken for normalised, as asked")
        return
    taken[name] = rule.plain_entry(name, taken[name])
    result.notes.append(
        f"{name} has no {_TEST} entry, so the originals would test with it as it is: "
        f"taken for un-normalised and divided by the standard deviations {rule.stds}"
    )


def params_from_state(
    state: Mapping[str, Tensor],
    names: Mapping[str, str],
    rule: BoxRule,
    *,
    test_entries: bool = True,
    origin: Mapping[str, Any] | None = None,
) -> tuple[ParamsFile, Conversion]:
    """`state` as the originals would have saved it, and the record of the conversion, whose `mapped` has names here
    first.

    test_entries: add the originals' `_test` entries; without them the box weights are written un-normalised, as a test
    of the originals and `state_from_params` expect. origin: of the `Conversion` that `state` came from; if nothing has
    changed since, the arrays are restored bit for bit.
    """
    if origin is not None:
        restored, why_not = _restored(state, names, origin)
        if restored is not None:
            account = Conversion(mapped=[(names[_bare(n)], n) for n in restored.names if _bare(n) in names])
            account.added = [(n, "as in the file that this one was made from") for n in origin["kept"]]
            return restored, account
        notes = [f"written anew, not as in the file that this one was made from: {why_not}"]
    else:
        notes = []
    account = Conversion(notes=notes)
    known = set(names.values())
    account.dropped = [(name, "the originals have no such entry") for name in state if name not in known]
    arrays: dict[str, np.ndarray] = {}
    for name, own_name in names.items():
        if own_name not in state:
            continue
        array = state[own_name].detach().cpu().numpy()
        full_name = ("aux:" if name.endswith(_STATISTICS) else "arg:") + name
        account.mapped.append((own_name, full_name))
        if name in (_BOX_WEIGHT, _BOX_BIAS):
            test = rule.test_entry(name, array)
            if test_entries:
                arrays[full_name + _TEST] = test
                account.added.append((full_name + _TEST, f"{name} * {rule.stds}, with which the originals test"))
            else:
                array = test
                account.notes.append(f"{name} is written un-normalised, for testing only")
        arrays[full_name] = array
    return ParamsFile(list(arrays), list(arrays.values())), account


def _bare(full_name: str) -> str:
    return full_name.removeprefix("arg:").removeprefix("aux:")


def _restored(
    state: Mapping[str, Tensor], names: Mapping[str, str], origin: Mapping[str, Any]
) -> tuple[ParamsFile | None, str]:
    """The file that `state` was converted from, or None and the reason; converting it again must give `state`."""
    try:
        kept, layout = origin["kept"], origin["layout"]
        rule = BoxRule(tuple(origin["means"]), tuple(origin["stds"]), bool(origin["normalised"]))
        arrays = [
            (kept[name] if name in kept else state[names[_bare(name)]]).detach().cpu().numpy()
            for name in origin["names"]
        ]
        file = ParamsFile(list(origin["names"]), arrays, layout if layout in LAYOUTS else "v2")
        droppable = [_bare(name) for name in kept if _bare(name) not in names]
        again = state_from_params(file, names, rule, droppable).state
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        return None, f"its record of that file is not usable ({error})"
    changed = [name for name in {**state, **again} if not _same(state.get(name), again.get(name))]
    return (None, f"{changed[0]} has changed since") if changed else (file, "")


def _same(a: Tensor | None, b: Tensor | None) -> bool:
    """Whether two tensors are equal bit for bit."""
    if a is None or b is None or a.dtype != b.dtype or a.shape != b.shape:
        return False
    return a.detach().cpu().numpy().tobytes() == b.detach().cpu().numpy().tobytes()
