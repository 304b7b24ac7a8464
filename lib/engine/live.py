"""Show the answers of a detector in a window while a video runs, and drop frames where the detector cannot keep up."""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol

import cv2
import numpy as np

from lib.data.video import DEFAULT_FPS, FrameSource, SourceFrame
from lib.errors import InputError
from lib.video_detector import VideoDetector
from lib.visualize.annotate import Annotator

_ESCAPE = 27
_LARGEST_WINDOW = (1280, 720)  # width, height; the user can enlarge it


class DisplayError(InputError):
    """A window that cannot be opened; the message says why and what to do."""


class Display(Protocol):
    """Where pictures are shown."""

    def show(self, picture: np.ndarray, title: str) -> bool:
        """Show (H, W, 3) uint8 BGR; returns whether the user wants to go on."""


class Window:
    """A window on the screen; Q, Escape or closing it ends the video. Raises DisplayError where there is no screen.

    It opens with the size of the first picture, shrunk to 1280 x 720 where that is larger.
    """

    _NAME = "video object detection"

    def __init__(self) -> None:
        hint = "write a clip instead: leave out --live"
        if not _has_windows(cv2.getBuildInformation()):
            raise DisplayError(
                f"--live: this OpenCV has no windows; pip install opencv-python, not -headless, or {hint}"
            )
        if sys.platform.startswith("linux") and not (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")):
            raise DisplayError(f"--live: there is no screen here (DISPLAY is not set); {hint}")
        try:
            # WINDOW_GUI_NORMAL: without the toolbar of Qt, which prints a warning for every font it does not find.
            cv2.namedWindow(self._NAME, cv2.WINDOW_NORMAL | cv2.WINDOW_KEEPRATIO | cv2.WINDOW_GUI_NORMAL)
        except cv2.error as error:
            raise DisplayError(f"--live: OpenCV cannot open a window ({error.err}); {hint}") from error
        self._sized = False

    def show(self, picture: np.ndarray, title: str) -> bool:
        if not self._sized:
            cv2.resizeWindow(self._NAME, *window_size(picture.shape[1], picture.shape[0]))
            self._sized = True
        cv2.imshow(self._NAME, picture)
        cv2.setWindowTitle(self._NAME, title)
        key = cv2.waitKey(1) & 0xFF
        return key not in (_ESCAPE, ord("q")) and cv2.getWindowProperty(self._NAME, cv2.WND_PROP_VISIBLE) >= 1


def window_size(width: int, height: int) -> tuple[int, int]:
    """Width and height, in pixels, of a window for a picture: the picture's, or less at the same ratio."""
    scale = min(1.0, _LARGEST_WINDOW[0] / width, _LARGEST_WINDOW[1] / height)
    return max(1, round(width * scale)), max(1, round(height * scale))


def _has_windows(build: str) -> bool:
    gui = next((line.partition(":")[2].strip() for line in build.splitlines() if line.strip().startswith("GUI:")), "")
    return gui not in ("", "NONE")


@dataclass
class LiveSummary:
    """What a live video came to: frames shown and dropped, its seconds, and whether the user ended it (`stopped`)."""

    shown: int = 0
    dropped: int = 0
    seconds: float = 0.0
    stopped: bool = False

    def line(self) -> str:
        """The summary as it is printed."""
        rate = self.shown / self.seconds if self.seconds > 0 else 0.0
        share = 100 * self.dropped / max(1, self.shown + self.dropped)
        return f"{self.shown} frames shown, {rate:.1f} a second; {self.dropped} dropped to keep up ({share:.0f} %)"


class PacedFrames:
    """The frames of a file at the speed of its video: each when it is due, none after the next one is due.

    dropped: frames left out so far. clock, sleep: in seconds.
    """

    def __init__(
        self,
        source: FrameSource,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.dropped = 0
        self._source, self._clock, self._sleep = source, clock, sleep

    def __iter__(self) -> Iterator[SourceFrame]:
        period, start = 1 / (self._source.fps or DEFAULT_FPS), self._clock()
        for number, frame in enumerate(self._source):
            early = start + number * period - self._clock()
            if early <= -period:
                self.dropped += 1
                continue
            if early > 0:
                self._sleep(early)
            yield frame


class NewestFrames:
    """The frames of a camera or a stream, read by a thread: always the newest one; older ones are dropped.

    dropped: frames left out so far.
    """

    def __init__(self, source: FrameSource) -> None:
        self.dropped = 0
        self._source = source
        self._changed = threading.Condition()
        self._newest: SourceFrame | None = None
        self._error: BaseException | None = None
        self._ended = self._stopped = False

    def __iter__(self) -> Iterator[SourceFrame]:
        thread = threading.Thread(target=self._read, daemon=True)
        thread.start()
        try:
            while True:
                with self._changed:
                    self._changed.wait_for(lambda: self._newest is not None or self._ended)
                    frame, self._newest = self._newest, None
                if frame is None:
                    if self._error is not None:
                        raise self._error
                    return
                yield frame
        finally:
            self._stopped = True
            thread.join(timeout=2.0)  # it may be waiting for a camera that gives nothing

    def _read(self) -> None:
        try:
            for frame in self._source:
                with self._changed:
                    if self._stopped:
                        return
                    self.dropped += self._newest is not None
                    self._newest = frame
                    self._changed.notify()
        except BaseException as error:  # raised where the frames are taken
            self._error = error
        finally:
            with self._changed:
                self._ended = True
                self._changed.notify()


def show_live(
    detector: VideoDetector,
    source: FrameSource,
    display: Display,
    *,
    min_score: float = 0.7,
    show: tuple[str, ...] = (),
    limit: int = 0,
    clock: Callable[[], float] = time.monotonic,
    frames: PacedFrames | NewestFrames | None = None,
) -> LiveSummary:
    """Detect in a video as it runs and show every answer, until it ends, the user stops it, or `limit` frames (0: all).

    frames: which frames are taken; default: those of a file at its speed, of a camera or a stream the newest.
    Raises SourceError and ImageError; with Seq-NMS SourceError.
    """
    annotate = Annotator(detector.class_names[1:], min_score, show)
    live = detector.live(inside=bool(show))
    frames = frames or (PacedFrames(source, clock) if source.repeatable else NewestFrames(source))
    summary, start = LiveSummary(), clock()

    def goes_on(answers: list) -> bool:
        for frame, found in answers:
            summary.shown += 1
            summary.dropped, summary.seconds = frames.dropped, clock() - start
            if not display.show(annotate(frame, found), summary.line()):
                summary.stopped = True
                return False
            if summary.shown == limit:
                return False
        return True

    taken = iter(frames)
    try:
        for _, pixels, seconds in taken:
            if not goes_on(live.add(pixels, seconds)):
                return summary
        goes_on(live.close())
    except KeyboardInterrupt:
        summary.stopped = True
    finally:
        taken.close()
        summary.dropped, summary.seconds = frames.dropped, clock() - start
    return summary
