"""Which of the project's networks a file holds, and of what size, told from the names and shapes of its arrays."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from lib.checkpoints.conversion import WeightsError

DETECTORS = ("rfcn", "dff", "fgfa")
KINDS = (*DETECTORS, "resnet", "flownet")  # the originals' five files

_DEPTHS = {2: (18, 34), 3: (50, 101, 152)}  # by the convolutions in a unit
_UNIT = re.compile(r"res(\d[a-z]\d*)_branch2([abc])_weight")


@dataclass(frozen=True)
class NetworkSize:
    """What a file does not say has the originals' size.

    kind: one of KINDS. values: configuration values under `network`. classes: with background. anchors: number of them
    at each place. scale: channels of Deep Feature Flow's scale map.
    """

    kind: str
    values: dict[str, float] = field(default_factory=dict)
    classes: int = 31
    anchors: int = 9
    scale: int = 0


def network_size(shapes: Mapping[str, tuple[int, ...]], kind: str | None = None) -> NetworkSize:
    """The size of the network whose arrays have these original names and shapes; `kind` where it is known.

    Raises WeightsError where the names are those of none of KINDS.
    """

    def first(name: str, usual: int) -> int:
        shape = shapes.get(name, ())
        return shape[0] if shape and shape[0] > 0 else usual

    kind = kind or _kind_of(shapes)
    features = first("feat_conv_3x3_weight", 1024)
    values = {
        "DEPTH": _depth_of(shapes),
        "WIDTH": first("conv1_weight", 64),
        "FEAT_DIM": features,
        "FGFA_FEAT_DIM": features + first("em_conv3_weight", 2048),
        "FLOW_WIDTH": first("conv6_1_weight", 1024) / 1024,
    }
    classes = max(2, first("rfcn_cls_weight", 49 * 31) // 49)
    anchors = max(1, first("rpn_cls_score_weight", 18) // 2)
    return NetworkSize(kind, values, classes, anchors, first("Convolution5_scale_weight", 0))


def _kind_of(names: Mapping[str, tuple[int, ...]]) -> str:
    has_flow, has_head = "conv6_1_weight" in names, "rfcn_cls_weight" in names
    if has_head:
        return "fgfa" if "em_conv1_weight" in names else "dff" if has_flow else "rfcn"
    if has_flow:
        return "flownet"
    if any(_UNIT.fullmatch(name) for name in names):
        return "resnet"
    raise WeightsError(
        f"none of the networks {', '.join(KINDS)} has names like {', '.join(list(names)[:5]) or '(none)'}; "
        "say with --kind what it is"
    )


def _depth_of(names: Mapping[str, tuple[int, ...]]) -> int:
    found = [match for name in names if (match := _UNIT.fullmatch(name))]
    units = {match[1] for match in found}
    convolutions = 3 if not found or any(match[2] == "c" for match in found) else 2
    depth = len(units) * convolutions + 2 if units else 101
    return min(_DEPTHS[convolutions], key=lambda known: abs(known - depth))  # one with a few units missing, at worst
