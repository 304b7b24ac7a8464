"""Check whether weights that were trained with one configuration compute the same with another.

Shapes do not show it: a ResNet with its stride in another place, or one for images of another scale, has weights of the
same shapes and computes something else.
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
    """Raise CheckpointError if the weights in `path` would give other features with `cfg` than those trained."""
    different = _differences(_SAME, identity, cfg, path)
    if different:
        keys = " and ".join(key for key, _, _ in different)
        told = "; ".join(f"{key} is {theirs} in the file and {ours} here" for key, theirs, ours in different)
        raise CheckpointError(f"{path}: {told}: the features would be others; set {keys} to the file's")


def warn_of_differences(identity: Identity, cfg: Config, path: str | os.PathLike) -> None:
    """Warn once of all keys whose values differ in a way that training has to adapt to."""
    different = _differences(_LIKEWISE, identity, cfg, path)
    if different:
        told = "; ".join(f"{key} is {theirs} in the file and {ours} here" for key, theirs, ours in different)
        _LOGGER.warning("%s: trained with other values, to which training must adapt the weights: %s", path, told)


def _differences(
    keys: tuple[str, ...], identity: Identity, cfg: Config, path: str | os.PathLike
) -> list[tuple[str, object, object]]:
    """(key, value in the file, value in `cfg`) of the keys whose values differ; a key that an older file lacks has its
    default."""
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
