"""Recognise the network in a file, and its size, from the names and shapes of its arrays."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from lib.checkpoints.conversion import WeightsError

DETECTORS = ("rfcn", "dff", "fgfa")
KINDS = (*DETECTORS, "resnet", "flownet")  # the originals' five files

_DEPTHS = {2: (18, 34), 3: (50, 101, 152)}  # by the convolutions in a unit
_UNIT = re.compile(r"res(\d[a-z]\d*)_branch2([abc])_weight")


DEPTH = "network.DEPTH"
_CLASSES = "number of classes with the background"
_ANCHORS = "number of anchors, network.ANCHOR_RATIOS x network.ANCHOR_SCALES"


@dataclass(frozen=True)
class NetworkSize:
    """The size of a network; sizes that a file does not show have the originals' values.

    kind: one of KINDS. values: configuration values under `network`. classes: with background. anchors: number of
    anchors per cell. scale: channels of Deep Feature Flow's scale map.
    """

    kind: str
    values: dict[str, float] = field(default_factory=dict)
    classes: int = 31
    anchors: int = 9
    scale: int = 0


def network_size(shapes: Mapping[str, tuple[int, ...]], kind: str | None = None) -> NetworkSize:
    """The size of the network whose arrays have these original names and shapes; kind: its kind, if known.

    Raises WeightsError if the names belong to none of KINDS.
    """
    kind = kind or _kind_of(shapes)
    told = _told(shapes)
    features = told.get("network.FEAT_DIM", 1024)
    values = {
        "DEPTH": told.get(DEPTH, 101),
        "WIDTH": told.get("network.WIDTH", 64),
        "FEAT_DIM": features,
        "FGFA_FEAT_DIM": told.get("network.FGFA_FEAT_DIM", features + 2048),
        "FLOW_WIDTH": told.get("network.FLOW_WIDTH", 1.0),
    }
    classes, anchors = int(told.get(_CLASSES, 31)), int(told.get(_ANCHORS, 9))
    return NetworkSize(kind, values, max(2, classes), anchors, _channels(shapes, "Convolution5_scale_weight"))


def differing_sizes(theirs: Mapping[str, tuple[int, ...]], ours: Mapping[str, tuple[int, ...]]) -> dict[str, str]:
    """Key -> `network.DEPTH is 101 in the file and 18 here`, for each size in which two networks differ.

    theirs, ours: shapes by original name. Sizes that one of them does not show are left out.
    """
    told, own = _told(theirs), _told(ours)
    return {
        key: f"{key} is {told[key]:g} in the file and {own[key]:g} here"
        for key in own
        if key in told and told[key] != own[key]
    }


def _told(shapes: Mapping[str, tuple[int, ...]]) -> dict[str, float]:
    """The sizes that these shapes show, by the configuration's keys; missing and damaged layers are skipped."""
    features, embedding = _channels(shapes, "feat_conv_3x3_weight"), _channels(shapes, "em_conv3_weight")
    found = {
        DEPTH: _depth_of(shapes),
        "network.WIDTH": _channels(shapes, "conv1_weight"),
        "network.FEAT_DIM": features,
        "network.FGFA_FEAT_DIM": features + embedding if embedding else 0,
        "network.FLOW_WIDTH": _channels(shapes, "conv6_1_weight") / 1024,
        _ANCHORS: _channels(shapes, "rpn_cls_score_weight") // 2,
        _CLASSES: _channels(shapes, "rfcn_cls_weight") // 49,
    }
    return {name: value for name, value in found.items() if value}


def _channels(shapes: Mapping[str, tuple[int, ...]], name: str) -> int:
    """The number of output channels of a layer; 0 if it is missing or damaged."""
    shape = shapes.get(name, ())
    return max(0, shape[0]) if shape else 0


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
    if not found:
        return 0
    convolutions = 3 if any(match[2] == "c" for match in found) else 2
    depth = len({match[1] for match in found}) * convolutions + 2
    return min(_DEPTHS[convolutions], key=lambda known: abs(known - depth))  # one with a few units missing, at worst
