"""Which frames are averaged for which frame: a window that slides over a video (docs/rules.md, section 4)."""

from __future__ import annotations

from collections import Counter, deque
from dataclasses import dataclass, field
from typing import Generic, TypeVar

T = TypeVar("T")


@dataclass
class Neighbourhood(Generic[T]):
    """The frame to be answered, and the frames that are averaged for it, each once, with how often it counts."""

    centre: T
    averaged: list[T]
    counts: list[int]


@dataclass
class Window(Generic[T]):
    """The frames of one video that are still needed: at most past + 1 + future.

    past, future: how many frames before and after a frame are averaged for it. Where the video has no such frame, its
    first or last one stands in, again and again. include_centre: whether the frame itself is averaged too; if so it
    comes first in `Neighbourhood.averaged`, otherwise it still may stand in for others.
    """

    past: int
    future: int
    include_centre: bool = True
    held: deque[T] = field(default_factory=deque)
    place: int = 0  # in `held`, of the next frame to be answered

    def add(self, frame: T) -> Neighbourhood[T] | None:
        """Take the next frame; returns what the frame `future` places before it needs, if there is one."""
        self.held.append(frame)
        return self._answer() if len(self.held) - 1 - self.place >= self.future else None

    def close(self) -> list[Neighbourhood[T]]:
        """The video is over: what its last frames need, in order. The window is then ready for another video."""
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
