"""torchvision's pre-trained ResNets by their own names, `torchvision:ResNet101_Weights.IMAGENET1K_V1`.

Their files lie in torch hub's cache (`$TORCH_HOME/hub/checkpoints`, else `~/.cache/torch/hub/checkpoints`), where
torchvision keeps them too; one that is missing is downloaded once.
"""

from __future__ import annotations

import logging
from http.client import HTTPException
from pathlib import Path
from urllib.parse import urlparse

import torch

from lib.checkpoints.conversion import WeightsError
from lib.files import sha256_of

_LOGGER = logging.getLogger(__name__)
PREFIX = "torchvision:"


def is_torchvision_name(name: str) -> bool:
    """Whether `name` is a name of torchvision's weights and not a file."""
    return name.startswith(PREFIX)


def torchvision_url(name: str) -> str:
    """The address of the weights `name`.

    Raises WeightsError for a name that it does not know, and where torchvision is not installed.
    """
    try:
        from torchvision.models import (
            ResNet18_Weights,
            ResNet34_Weights,
            ResNet50_Weights,
            ResNet101_Weights,
            ResNet152_Weights,
        )
    except ImportError as error:
        raise WeightsError(f"'{name}' needs torchvision ({error}): pip install torchvision") from error

    kinds = (ResNet18_Weights, ResNet34_Weights, ResNet50_Weights, ResNet101_Weights, ResNet152_Weights)
    urls = {f"{PREFIX}{weights}": weights.url for kind in kinds for weights in kind}
    urls |= {f"{PREFIX}{kind.__name__}.DEFAULT": kind.DEFAULT.url for kind in kinds}
    if name not in urls:
        raise WeightsError(f"'{name}' is none of torchvision's ResNet weights; known: {', '.join(urls)}")
    return urls[name]


def torchvision_file(name: str) -> Path:
    """The path of the weights `name` in torch hub's cache, whether the file exists or not. Raises WeightsError."""
    return Path(torch.hub.get_dir()) / "checkpoints" / Path(urlparse(torchvision_url(name)).path).name


def fetch_torchvision(name: str) -> Path:
    """The file of the weights `name`, downloaded if it is not in torch hub's cache.

    Its SHA-256 is compared with the digits at the end of its name. Raises WeightsError for weights that cannot be
    downloaded, with the file to get and where to put it, and for a damaged file.
    """
    path, url = torchvision_file(name), torchvision_url(name)
    digits = path.stem.rpartition("-")[2]
    if not path.is_file():
        _LOGGER.info("downloading %s to %s", url, path)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            torch.hub.download_url_to_file(url, str(path), hash_prefix=digits, progress=False)
        except (OSError, HTTPException, RuntimeError) as error:  # torch raises RuntimeError for another hash
            raise WeightsError(
                f"'{name}' is not at {path} and cannot be downloaded ({error}); download {url} on a machine with "
                "network access and copy it to that place, or set network.pretrained to a file"
            ) from error
    elif not sha256_of(path).startswith(digits):
        raise WeightsError(f"{path}: damaged: its SHA-256 does not begin with {digits}; delete it to download it again")
    return path
