"""Distribute the videos of a test among processes."""

from __future__ import annotations

from collections.abc import Sequence


def share_videos(lengths: Sequence[int], processes: int) -> list[list[int]]:
    """Numbers of the videos of each process: the longest video first, each to the process with the fewest frames.

    lengths: frames of each video. Within a process the videos keep their order. Ties go to the lower number, so that
    every process computes the same distribution by itself.
    """
    shares: list[list[int]] = [[] for _ in range(processes)]
    frames = [0] * processes
    for number in sorted(range(len(lengths)), key=lambda number: (-lengths[number], number)):
        least = min(range(processes), key=lambda rank: (frames[rank], rank))
        shares[least].append(number)
        frames[least] += lengths[number]
    return [sorted(share) for share in shares]
