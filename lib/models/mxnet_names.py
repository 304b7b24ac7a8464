"""Parameter names of the originals, derived from the module names, and the rule for fixed parameters.

A layer's attribute name is its original name (`conv1`, `feat_conv_3x3`, `rfcn_cls`, FlowNet's `deconv5`, ...), whatever
modules contain it, with two exceptions: a layer inside a residual unit is prefixed with the unit's name
(`res2a.branch2a` -> `res2a_branch2a`, `res2a.bn_branch2a` -> `bn2a_branch2a`), and the values of a normalisation layer,
whose name begins with `bn`, are called gamma, beta, moving_mean and moving_var.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from torch import nn

_UNIT = re.compile(r"res(\d[a-z]\d*)")
_NORM_VALUES = {"weight": "gamma", "bias": "beta", "running_mean": "moving_mean", "running_var": "moving_var"}


def mxnet_name(torch_name: str) -> str | None:
    """`features.resnet.bn_conv1.weight` -> `bn_conv1_gamma`; None for a name without a counterpart in the originals."""
    *path, value = torch_name.split(".")
    if not path or value == "num_batches_tracked":
        return None
    layer = path[-1]
    is_norm = layer.startswith("bn")
    unit = _UNIT.fullmatch(path[-2]) if len(path) > 1 else None
    if unit:
        layer = f"bn{unit[1]}_{layer.removeprefix('bn_')}" if is_norm else f"res{unit[1]}_{layer}"
    return f"{layer}_{_NORM_VALUES[value] if is_norm else value}"


def mxnet_names(model: nn.Module) -> dict[str, str]:
    """Original name -> torch name, for every parameter and stored statistic of `model`.

    Raises ValueError if two of them have the same original name.
    """
    names: dict[str, str] = {}
    for torch_name in model.state_dict():
        name = mxnet_name(torch_name)
        if name is None:
            continue
        if name in names:
            raise ValueError(f"'{names[name]}' and '{torch_name}' would both be '{name}' in the original's files")
        names[name] = torch_name
    return names


def fixed_parameters(model: nn.Module, prefixes: Sequence[str]) -> list[str]:
    """Torch names of the parameters whose original name begins with one of `prefixes`, the list FIXED_PARAMS.

    The rule is `startswith` (docs/rules.md, section 3): the originals' entries "gamma" and "beta" match nothing.
    """
    beginnings = tuple(prefixes)
    return [name for name, _ in model.named_parameters() if (mxnet_name(name) or "").startswith(beginnings)]
