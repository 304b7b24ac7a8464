"""What every importer gives: videos with their frames and boxes, in pixels as this project counts them.

Boxes are (x1, y1, x2, y2) in original pixels, 0-based, with the last row and column within: a box over the whole of an
image of 640x480 is (0, 0, 639, 479).
"""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from lib.data.frame_files import natural_key
from lib.errors import InputError, some_of

DECIMALS = 6  # of pixels, that are kept


class ImportingError(InputError):
    """Boxes or frames that cannot be imported; the message names the file and the line or key."""


class Box(NamedTuple):
    """label: name of the class. corners: (x1, y1, x2, y2), see above; of a `relative` box instead shares of the image's
    sides, from the left and upper edge of the image to the edges of the box. track: "" where there is none. place: the
    file and the line or key."""

    label: str
    corners: tuple[float, float, float, float]
    track: str
    place: str
    relative: bool = False

    def pixels(self, width: int, height: int) -> tuple[float, ...]:
        """The corners in pixels of its image. Raises ImportingError for a box that lies outside or is inside out."""
        x1, y1, x2, y2 = self.corners
        if self.relative:
            # The six digits that such files have are good for a hundredth of a pixel
            corners = (round(v, 2) for v in (x1 * width, y1 * height, x2 * width - 1, y2 * height - 1))
        else:
            corners = (round(v, DECIMALS) for v in self.corners)
        x1, y1, x2, y2 = (int(v) if v == int(v) else v for v in corners)
        if x2 < x1 or y2 < y1:
            raise ImportingError(f"{self.place}: the box ({x1}, {y1}, {x2}, {y2}) is inside out; correct it")
        if x1 > width - 1 or y1 > height - 1 or x2 < 0 or y2 < 0:
            raise ImportingError(
                f"{self.place}: the box ({x1}, {y1}, {x2}, {y2}) lies outside its image of {width}x{height} pixels; "
                "correct it"
            )
        return x1, y1, x2, y2


@dataclass
class SourceVideo:
    """One video, or one still image.

    name: its path, with /. frames: its image files in order, or a video file. boxes: 0-based number of the frame ->
    its boxes. sizes: number of the frame -> (width, height, place), where the boxes' file says how large it is. still:
    an image that stands alone.
    """

    name: str
    frames: Sequence[Path] | Path
    boxes: dict[int, list[Box]] = field(default_factory=dict)
    sizes: dict[int, tuple[int, int, str]] = field(default_factory=dict)
    still: bool = False


@dataclass
class Source:
    """The videos of one source. labels: its classes in order, where it lists them. left_out: sentences for the user."""

    name: str
    videos: list[SourceVideo]
    labels: list[str] | None
    left_out: list[str] = field(default_factory=list)

    def shown(self) -> dict[str, str]:
        """Class -> the first place that shows it, over all boxes."""
        places: dict[str, str] = {}
        for video in self.videos:
            for frame in sorted(video.boxes):
                for box in video.boxes[frame]:
                    places.setdefault(box.label, box.place)
        return places


def class_order(sources: Sequence[Source]) -> list[str]:
    """The classes of all training sources: as they list them, or else those of their boxes in natural order.

    Raises ImportingError where two sources list different classes.
    """
    listed = [source for source in sources if source.labels is not None]
    for source in listed[1:]:
        if source.labels != listed[0].labels:
            raise ImportingError(
                f"{source.name}: lists other classes ({some_of(source.labels)}) than {listed[0].name} "
                f"({some_of(listed[0].labels)}); give one list for all: --classes"
            )
    if listed:
        return list(listed[0].labels)
    return sorted({label for source in sources for label in source.shown()}, key=natural_key)


def require_known(sources: Sequence[Source], labels: Sequence[str]) -> None:
    """Raise ImportingError for a box of a class that is not among `labels`."""
    for source in sources:
        for label, place in source.shown().items():
            if label not in labels:
                raise ImportingError(
                    f"{place}: class '{label}' is not among the classes ({some_of(labels)}); correct it, or give the "
                    "classes: --classes"
                )


def require_apart(train: Sequence[Source], val: Sequence[Source]) -> None:
    """Raise ImportingError for a video or an image that is in a training source and in one to test on."""
    trained = {file: source for source in train for video in source.videos for file in _files(video)}
    for source in val:
        for video in source.videos:
            for file in _files(video):
                if file in trained:
                    raise ImportingError(
                        f"{file}: is to be trained on ({trained[file].name}) and tested on ({source.name}); give each "
                        "video to --train or to --val, or --val-share in place of --val"
                    )


def _files(video: SourceVideo) -> list[str]:
    frames = [video.frames] if isinstance(video.frames, Path) else video.frames
    return [os.path.abspath(frame) for frame in frames]


def finite(values: Sequence[str | float], place: str) -> tuple[float, ...]:
    """`values` as numbers. Raises ImportingError."""
    try:
        numbers = tuple(float(value) for value in values)
    except (TypeError, ValueError, OverflowError):
        numbers = (math.nan,)
    if not all(math.isfinite(number) and abs(number) < 1e9 for number in numbers):
        shown = ", ".join(str(value)[:20] for value in values)
        raise ImportingError(f"{place}: a box needs {len(values)} numbers, not ({shown})")
    return numbers
