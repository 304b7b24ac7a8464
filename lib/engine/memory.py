"""Peak memory of this process, for summaries and benchmarks."""

from __future__ import annotations

import sys

import torch


def peak_host_gib() -> float | None:
    """Peak memory of this process in GiB; None where the system does not report it (Windows)."""
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
