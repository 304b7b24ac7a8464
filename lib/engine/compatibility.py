"""Whether weights that were trained with one configuration mean the same with another.

Shapes do not tell: a ResNet whose stride has another place, or images on another scale, take the same weights and
compute something else.
"""

from __future__ import annotations

import logging
import os

from lib.config import Config, default_config
from lib.engine.checkpoint import CheckpointError, Identity

_LOGGER = logging.getLogger(__name__)
_SAME = ("network.STYLE", "network.PIXEL_STDS")
_LIKEWISE = (
    "network.PIXEL_MEANS",
    "network.ANCHOR_RATIOS",
    "network.ANCHOR_SCALES",
    "network.ANCHOR_MEANS",
    "network.ANCHOR_STDS",
    "TRAIN.BBOX_MEANS",
    "TRAIN.BBOX_STDS",
)


def require_same_function(identity: Identity, cfg: Config, path: str | os.PathLike) -> None:
    """Raise CheckpointError where the features of the weights in `path` would not be those that were trained."""
    different = _differences(_SAME, identity, cfg, path)
    if different:
        keys = " and ".join(key for key, _, _ in different)
        told = "; ".join(f"{key} is {theirs} in the file and {ours} here" for key, theirs, ours in different)
        raise CheckpointError(f"{path}: {told}: the features would be others; set {keys} to the file's")


def warn_of_differences(identity: Identity, cfg: Config, path: str | os.PathLike) -> None:
    """Name in one warning the keys whose other values training has to make up for."""
    different = _differences(_LIKEWISE, identity, cfg, path)
    if different:
        told = "; ".join(f"{key} is {theirs} in the file and {ours} here" for key, theirs, ours in different)
        _LOGGER.warning("%s: trained with other values, to which training must adapt the weights: %s", path, told)


def _differences(
    keys: tuple[str, ...], identity: Identity, cfg: Config, path: str | os.PathLike
) -> list[tuple[str, object, object]]:
    """(key, value in the file, value here) of the keys whose values differ; what an older file lacks is the default."""
    default = default_config()
    found = []
    for key in keys:
        section, name = key.split(".")
        trained = identity.config.get(section, {})
        if not isinstance(trained, dict):
            raise CheckpointError(f"{path}: its description of itself is damaged ('{section}'); take another file")
        theirs, ours = trained.get(name, default[section][name]), cfg[section][name]
        if theirs != ours:
            found.append((key, theirs, ours))
    return found
