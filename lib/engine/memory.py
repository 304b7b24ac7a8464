"""Peak memory of this process, for summaries and benchmarks."""

from __future__ import annotations

import contextlib
import sys
from pathlib import Path

import torch


def peak_host_gib() -> float | None:
    """The most memory that this process has had, in GiB; None where the system does not say (Windows)."""
    with contextlib.suppress(OSError):  # Linux. Its ru_maxrss begins with that of the process that started this one
        for line in Path("/proc/self/status").read_text(encoding="utf-8").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) / 2**20
    try:
        import resource
    except ImportError:
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**30 if sys.platform == "darwin" else 2**20)


def peak_device_gib(device: torch.device) -> float | None:
    """Peak memory of tensors on a GPU in GiB; None for the CPU."""
    return torch.cuda.max_memory_allocated(device) / 2**30 if device.type == "cuda" else None


def reset_peak(device: torch.device) -> None:
    """Reset the peak of a GPU; no effect for the CPU."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)


def held_gib(device: torch.device) -> float:
    """The memory that tensors on a GPU have now, in GiB; 0 for the CPU."""
    return torch.cuda.memory_allocated(device) / 2**30 if device.type == "cuda" else 0.0
