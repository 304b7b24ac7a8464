"""Peak memory of this process, for summaries and benchmarks."""

from __future__ import annotations

import sys

import torch


def peak_host_gib() -> float | None:
    """The most memory that this process has had, in GiB; None where the system does not say (Windows)."""
    try:
        import resource
    except ImportError:
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**30 if sys.platform == "darwin" else 2**20)


def peak_device_gib(device: torch.device) -> float | None:
    """The most memory that tensors on a GPU have had, in GiB; None for the CPU."""
    return torch.cuda.max_memory_allocated(device) / 2**30 if device.type == "cuda" else None


def reset_peak(device: torch.device) -> None:
    """Begin anew to watch the peak of a GPU."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
