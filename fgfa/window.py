"""Which frames are averaged for which frame: a window that slides over a video (docs/rules.md, section 4)."""

from __future__ import annotations

from collections import Counter, deque
from dataclasses import dataclass, field
from typing import Generic, TypeVar

T = TypeVar("T")


@dataclass
class Neighbourhood(Generic[T]):
    """The frame to detect in, and the frames that are averaged for it, each listed once with its count."""

    centre: T
    averaged: list[T]
    counts: list[int]


@dataclass
class Window(Generic[T]):
    """A sliding window over one video; it holds at most past + 1 + future frames.

    past, future: numbers of frames before and after a frame that are averaged for it. Beyond the ends of the video, its
    first or last frame is repeated. include_centre: whether the frame itself is averaged too; if so it comes first in
    `Neighbourhood.averaged`, otherwise it is averaged only as a repeated first or last frame.
    """

    past: int
    future: int
    include_centre: bool = True
    held: deque[T] = field(default_factory=deque)
    place: int = 0  # index in `held` of the next frame to detect in

    def add(self, frame: T) -> Neighbourhood[T] | None:
        """Add the next frame; returns the neighbourhood of the frame `future` positions before it, if there is one."""
        self.held.append(frame)
        return self._answer() if len(self.held) - 1 - self.place >= self.future else None

    def close(self) -> list[Neighbourhood[T]]:
        """End the video; returns the neighbourhoods of its last frames, in order. The window can then be reused."""
        rest = []
        while self.place < len(self.held):
            rest.append(self._answer())
        self.held.clear()
        self.place = 0
        return rest

    def _answer(self) -> Neighbourhood[T]:
        last = len(self.held) - 1
        offsets = [0] if self.include_centre else []
        offsets += [offset for offset in range(-self.past, self.future + 1) if offset]
        counts = Counter(min(max(self.place + offset, 0), last) for offset in offsets)  # in the order of first use
        answer = Neighbourhood(self.held[self.place], [self.held[i] for i in counts], list(counts.values()))
        self.place += 1
        if self.place > self.past:
            self.held.popleft()
            self.place -= 1
        return answer
