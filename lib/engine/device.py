"""The device that a script is asked to compute on."""

from __future__ import annotations

import torch

from lib.errors import InputError


class DeviceError(InputError):
    """A device that does not exist; the message names it and says what to give instead."""


def default_device() -> str:
    """The name of the device to take where none is given: "cuda" where there is a GPU, or else "cpu"."""
    return "cuda" if torch.cuda.is_available() else "cpu"


def device_of(name: str, local_rank: int = 0) -> torch.device:
    """The device called `name`: cpu, cuda or cuda:N. Raises DeviceError for other names and GPUs that do not exist.

    local_rank: of this process among those of the machine; "cuda" then means the GPU with that number.
    """
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise DeviceError(f"--device {name}: there is no such device; give cpu, cuda or cuda:N") from error
    if device.type not in ("cpu", "cuda"):
        raise DeviceError(f"--device {name}: not a device for this program; give cpu, cuda or cuda:N")
    if device.type == "cuda" and device.index is None and local_rank:
        device = torch.device("cuda", local_rank)
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise DeviceError(
            f"--device {name}: PyTorch sees {torch.cuda.device_count()} GPUs here; give another one, or cpu "
            "(tools/doctor.py says what this machine has)"
        )
    return device


def wait_for(device: torch.device) -> None:
    """Return when a GPU has finished all work that was launched on it; at once for the CPU."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
