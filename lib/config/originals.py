"""Keys of the originals that are not keys here, so that their YAML files load: a value that agrees with what this code
does is ignored, any other value is an error, and `gpus` becomes TRAIN.BATCHES_PER_UPDATE.
"""

from __future__ import annotations

import re
from typing import Any, NamedTuple

from lib.config.values import shown


class Fixed(NamedTuple):
    """implemented: the values that agree with this code; None: any. reason: what this code does."""

    implemented: tuple | None
    reason: str


IGNORED: dict[str, Fixed] = {
    "MXNET_VERSION": Fixed(None, "there is no MXNet"),
    "symbol": Fixed(None, "the method's script and network.DEPTH select the network"),
    "default.kvstore": Fixed(None, "there is no MXNet key-value store"),
    "dataset.dataset": Fixed(None, "dataset.CLASSES gives the classes"),
    "dataset.proposal": Fixed(("rpn",), "proposals always come from the RPN"),
    "network.DFF_FEAT_DIM": Fixed(None, "network.FEAT_DIM gives the channels"),
    "network.NORMALIZE_RPN": Fixed((True,), "the RPN's deltas are always normalised; set ANCHOR_STDS to 1 instead"),
    "network.RPN_FEAT_STRIDE": Fixed((16,), "the networks have stride 16"),
    "network.RCNN_FEAT_STRIDE": Fixed((16,), "the networks have stride 16"),
    "CLASS_AGNOSTIC": Fixed((True,), "boxes are class-agnostic, as in all published R-FCN, DFF and FGFA models"),
    "TRAIN.CXX_PROPOSAL": Fixed((True,), "proposals follow the C++ operator of the originals"),
    "TEST.CXX_PROPOSAL": Fixed((True,), "proposals follow the C++ operator of the originals"),
    "TRAIN.END2END": Fixed((True,), "training is end to end; alternate training is not implemented"),
    "TEST.HAS_RPN": Fixed((True,), "proposals always come from the RPN"),
    "TRAIN.BBOX_NORMALIZATION_PRECOMPUTED": Fixed((True,), "BBOX_MEANS and BBOX_STDS normalise the targets"),
    "TRAIN.BBOX_REGRESSION_THRESH": Fixed(None, "only training on stored proposals uses it"),
    "TRAIN.RPN_POSITIVE_WEIGHT": Fixed((-1, -1.0), "all anchors have equal weight"),
}


def check_ignored(name: str, value: Any) -> None:
    """Raise ValueError if the value of the original key `name` is not supported."""
    fixed = IGNORED[name]
    if fixed.implemented is not None and value not in fixed.implemented:
        wanted = " or ".join(str(v).lower() if isinstance(v, bool) else str(v) for v in fixed.implemented[:1])
        raise ValueError(f"must be {wanted}, not {shown(value)}: {fixed.reason}")


def batches_of_gpus(value: Any) -> int:
    """The number of GPUs that the originals' `gpus` names, such as "0,1,2,3"; 1 for none. Raises ValueError."""
    if value is None or type(value) is int and 0 <= value < 10**6:
        return 1
    parts = [part.strip() for part in value.split(",") if part.strip()] if isinstance(value, str) else ["?"]
    if not all(re.fullmatch(r"[0-9]{1,6}", part) for part in parts):
        raise ValueError(f'must be numbers such as "0,1,2,3", not {shown(value)}')
    return max(1, len(parts))
