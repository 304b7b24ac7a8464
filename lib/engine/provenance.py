"""Record what produced a result: command, weights, configuration, code and versions."""

from __future__ import annotations

import functools
import platform
import shlex
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

from lib.config import Config, to_dict
from lib.files import sha256_of
from lib.version import __version__, commit

_PACKAGES = ("torch", "torchvision", "numpy", "opencv-python", "opencv-python-headless")


def provenance(cfg: Config, device: torch.device, weights: Path | None = None) -> dict[str, Any]:
    """`command`, `weights` (path and sha256, None without a file), `configuration`, `code` and `machine`."""
    return {
        "command": shlex.join(sys.argv),
        "weights": None if weights is None else {"path": str(weights), "sha256": file_digest(weights)},
        "configuration": to_dict(cfg),
        "code": {"version": __version__, "commit": commit()},
        "machine": machine(device),
    }


def machine(device: torch.device) -> dict[str, Any]:
    """Versions of Python and the packages, the device and the number of CPU threads."""
    versions = {}
    for name in _PACKAGES:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    versions["torch"] = torch.__version__  # it includes the CUDA version of the build
    gpu = torch.cuda.get_device_name(device) if device.type == "cuda" else None
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "packages": versions,
        "device": str(device),
        "gpu": gpu,
        "threads": torch.get_num_threads(),
    }


def file_digest(path: Path) -> str:
    """SHA-256 of a file, computed again only if its size or modification time has changed."""
    status = path.stat()
    return _digest(path, status.st_mtime_ns, status.st_size)


@functools.lru_cache(maxsize=16)
def _digest(path: Path, modified: int, size: int) -> str:
    return sha256_of(path)
