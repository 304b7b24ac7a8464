"""Running means of losses and metrics, and a stopwatch for data and compute time."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager


class RunningMeans:
    """Means since the beginning of the epoch, as the originals print them; NaN (nothing to measure) is skipped."""

    def __init__(self, state: Mapping[str, list[float]] | None = None) -> None:
        self._sums: dict[str, list[float]] = {name: list(pair) for name, pair in (state or {}).items()}

    def add(self, values: Mapping[str, float]) -> None:
        """Add the values of one update, by name."""
        for name, value in values.items():
            pair = self._sums.setdefault(name, [0.0, 0.0])
            if not math.isnan(value):
                pair[0] += value
                pair[1] += 1.0

    def means(self) -> dict[str, float]:
        """The mean of each name; NaN where it has no value."""
        return {name: total / count if count else math.nan for name, (total, count) in self._sums.items()}

    def state(self) -> dict[str, list[float]]:
        """Sum and count by name, for the constructor when training is resumed."""
        return {name: list(pair) for name, pair in self._sums.items()}


class Stopwatch:
    """Time since the last `restart`: seconds of waiting for data, the remaining seconds, and the number of samples."""

    def __init__(self) -> None:
        self.restart()

    def restart(self) -> None:
        self._start = time.perf_counter()
        self.samples, self.updates, self.data_seconds = 0, 0, 0.0

    def count(self, samples: int) -> None:
        """An update over `samples` samples was made."""
        self.samples += samples
        self.updates += 1

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Count the time of the block as waiting for data."""
        start = time.perf_counter()
        yield
        self.data_seconds += time.perf_counter() - start

    @property
    def seconds(self) -> float:
        """All seconds since the last `restart`."""
        return max(1e-9, time.perf_counter() - self._start)

    def per_update(self) -> dict[str, float]:
        """Seconds per update: `data` is the time of waiting for data, `compute` the rest."""
        updates = max(1, self.updates)
        return {"data": self.data_seconds / updates, "compute": (self.seconds - self.data_seconds) / updates}


def clock_text(seconds: float) -> str:
    """Seconds as `2 d 03:04:05`, or `3:04:05`."""
    minutes, second = divmod(round(seconds), 60)
    hours, minute = divmod(minutes, 60)
    days, hour = divmod(hours, 24)
    return f"{days} d {hour:02}:{minute:02}:{second:02}" if days else f"{hour}:{minute:02}:{second:02}"
