"""Running means of losses and metrics, and where the time of training goes."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager


class RunningMeans:
    """Means since the beginning of the epoch, as the originals print them. A NaN (nothing to measure) is left out."""

    def __init__(self, state: Mapping[str, list[float]] | None = None) -> None:
        self._sums: dict[str, list[float]] = {name: list(pair) for name, pair in (state or {}).items()}

    def add(self, values: Mapping[str, float]) -> None:
        for name, value in values.items():
            pair = self._sums.setdefault(name, [0.0, 0.0])
            if not math.isnan(value):
                pair[0] += value
                pair[1] += 1.0

    def means(self) -> dict[str, float]:
        return {name: total / count if count else math.nan for name, (total, count) in self._sums.items()}

    def state(self) -> dict[str, list[float]]:
        """Sum and count by name, to be given to the constructor when training is resumed."""
        return {name: list(pair) for name, pair in self._sums.items()}


class Stopwatch:
    """Samples per second, and the share of the time spent waiting for data, since the last `restart`."""

    def __init__(self) -> None:
        self.restart()

    def restart(self) -> None:
        self._start = time.perf_counter()
        self._waited = 0.0
        self._samples = 0

    def count(self, samples: int) -> None:
        self._samples += samples

    @contextmanager
    def waiting(self) -> Iterator[None]:
        start = time.perf_counter()
        yield
        self._waited += time.perf_counter() - start

    def samples_per_second(self) -> float:
        return self._samples / max(1e-9, time.perf_counter() - self._start)

    def waiting_share(self) -> float:
        """Between 0 and 1."""
        return self._waited / max(1e-9, time.perf_counter() - self._start)
