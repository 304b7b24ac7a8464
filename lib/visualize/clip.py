"""Frames put together: a video that browsers play, a contact sheet, pictures side by side.

Images are (H, W, 3) uint8 in BGR order, as OpenCV reads them.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType

import cv2
import numpy as np

from lib.errors import InputError
from lib.files import OutputError, replacing, writing
from lib.visualize.draw import draw_caption

# VP9 is the one codec of OpenCV's wheel that browsers play: it has no H.264 encoder, and MPEG-4 part 2 they refuse.
_FOURCC = {".webm": "VP90", ".mp4": "vp09"}
_GREY = 32  # of the space around pictures


class VideoError(InputError):
    """A video that cannot be written; the message names the file and what to do."""


class VideoWriter:
    """Writes a VP9 video, in a `with` block, under its final name only when it is complete.

    path: ends in `.webm` or `.mp4`. fps: frames a second, above 0.
    The first frame sets the size, less one row or column where it is odd (VP9 has colour at half resolution); frames of
    another size are shrunk or enlarged to fit inside it, on grey. An error inside the block leaves no file behind.

    Raises VideoError for another ending, a bad frame rate, a video that cannot be opened, no frame at all, or a written
    file from which not every frame can be read back; OutputError for a path that cannot be written.
    """

    def __init__(self, path: str | os.PathLike, fps: float) -> None:
        self.path = Path(path)
        self.count = 0
        if self.path.suffix.lower() not in _FOURCC:
            raise VideoError(f"{self.path}: a video's name must end in .webm or .mp4")
        if not 0 < fps <= 1000:
            raise VideoError(f"{self.path}: a video cannot have {fps} frames a second; give a number above 0")
        self.fps = float(fps)
        self._stack = ExitStack()
        self._temporary = self.path
        self._writer: cv2.VideoWriter | None = None
        self._size_hw = (0, 0)

    def __enter__(self) -> VideoWriter:
        with ExitStack() as stack:
            self._temporary = stack.enter_context(replacing(self.path))
            stack.push(self._finish)
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.__exit__(kind, error, trace)

    def _finish(self, kind: type[BaseException] | None, *_: object) -> None:
        if self._writer is not None:
            self._writer.release()
            self._writer = None
        if kind is None:
            self._check()

    def write(self, image: np.ndarray) -> None:
        """Append one (H, W, 3) uint8 BGR image."""
        if self._writer is None:
            self._open(image)
        self._writer.write(np.ascontiguousarray(fit(image, self._size_hw)))
        self.count += 1

    def _open(self, image: np.ndarray) -> None:
        rows, columns = (max(2, side - side % 2) for side in image.shape[:2])
        self._size_hw = (rows, columns)
        code = cv2.VideoWriter_fourcc(*_FOURCC[self.path.suffix.lower()])
        writer = cv2.VideoWriter(str(self._temporary), cv2.CAP_FFMPEG, code, self.fps, (columns, rows))
        if not writer.isOpened():
            raise VideoError(
                f"{self.path}: OpenCV {cv2.__version__} cannot write VP9 here; install the wheel that requirements.txt "
                "pins (pip install opencv-python), and run tools/doctor.py to see what it can write"
            )
        self._writer = writer

    def _check(self) -> None:
        if self.count == 0:
            raise VideoError(f"{self.path}: no frame was written, so there is no video")
        # Counted from the container, which is cheap; decoding each frame would take as long again as a long clip.
        reader = cv2.VideoCapture(str(self._temporary), cv2.CAP_FFMPEG)
        found = int(round(reader.get(cv2.CAP_PROP_FRAME_COUNT))) if reader.isOpened() else 0
        readable = reader.isOpened() and reader.read()[0]
        reader.release()
        if not readable or abs(found - self.count) > 1:
            raise VideoError(f"{self.path}: {self.count} frames were written, {found} can be read; is the disk full?")


class ContactSheet:
    """Collects small copies of a clip's frames and writes some, evenly spaced, as one PNG.

    count: the most pictures on the sheet. width: of a picture, in pixels. Memory is bounded whatever the clip's length:
    at most `8 * count` small copies are kept, and every second one is dropped when there would be more, so that
    the spacing is even to within a sixteenth.
    """

    def __init__(self, count: int = 12, width: int = 480) -> None:
        if count < 1 or width < 16:
            raise ValueError(f"a contact sheet wants at least 1 picture of at least 16 pixels, not {count} of {width}")
        self.count, self.width = count, width
        self._kept: list[tuple[np.ndarray, str]] = []
        self._stride, self._seen = 1, 0

    def add(self, image: np.ndarray, caption: str) -> None:
        """The clip's next frame, with what to write on it, if anything; the sheet keeps a small copy, or nothing."""
        if self._seen % self._stride == 0:
            if len(self._kept) == 8 * self.count:
                self._kept = self._kept[::2]
                self._stride *= 2
            if self._seen % self._stride == 0:
                rows = max(1, round(image.shape[0] * self.width / image.shape[1]))
                shrinks = self.width < image.shape[1]
                method = cv2.INTER_AREA if shrinks else cv2.INTER_CUBIC
                self._kept.append((cv2.resize(image, (self.width, rows), interpolation=method), caption))
        self._seen += 1

    def write(self, path: str | os.PathLike) -> None:
        """The sheet as a PNG at `path`. Raises ValueError when no frame was added."""
        if not self._kept:
            raise ValueError(f"{path}: no frame was added, so there is no contact sheet")
        rows = np.rint(np.linspace(0, len(self._kept) - 1, min(self.count, len(self._kept)))).astype(int)
        kept = [self._kept[row] for row in rows]
        write_image(path, grid([draw_caption(image, caption) if caption else image for image, caption in kept]))


def side_by_side(frames: Sequence[np.ndarray], titles: Sequence[str]) -> np.ndarray:
    """`frames` in one row, each with its title below left; all get the height of the first, (H, sum of W, 3)."""
    if len(frames) != len(titles) or not frames:
        raise ValueError(f"side by side wants one title for each frame, not {len(titles)} for {len(frames)}")
    height = frames[0].shape[0]
    row = []
    for frame, title in zip(frames, titles, strict=True):
        width = max(1, round(frame.shape[1] * height / frame.shape[0]))
        row.append(draw_caption(fit(frame, (height, width)), title))
    return np.concatenate(row, axis=1)


def grid(images: Sequence[np.ndarray], gap: int = 6) -> np.ndarray:
    """`images` row by row on grey, `gap` pixels apart, in about as many columns as make a sheet of 4:3.

    Every cell has the size of the first image; others are fitted into it.
    """
    height, width = images[0].shape[:2]
    columns = min(len(images), max(1, round(float(np.sqrt(len(images) * (4 / 3) * height / width)))))
    lines = -(-len(images) // columns)
    sheet = np.full((lines * (height + gap) + gap, columns * (width + gap) + gap, 3), _GREY, np.uint8)
    for index, image in enumerate(images):
        top = gap + index // columns * (height + gap)
        left = gap + index % columns * (width + gap)
        sheet[top : top + height, left : left + width] = fit(image, (height, width))
    return sheet


def fit(image: np.ndarray, size_hw: tuple[int, int]) -> np.ndarray:
    """`image` inside (height, width): cut by at most a pixel, or resized in proportion and centred on grey."""
    rows, columns = size_hw
    if 0 <= image.shape[0] - rows <= 1 and 0 <= image.shape[1] - columns <= 1:
        return image[:rows, :columns]
    factor = min(rows / image.shape[0], columns / image.shape[1])
    size = (min(columns, max(1, round(image.shape[1] * factor))), min(rows, max(1, round(image.shape[0] * factor))))
    small = cv2.resize(image, size, interpolation=cv2.INTER_AREA if factor < 1 else cv2.INTER_CUBIC)
    canvas = np.full((rows, columns, 3), _GREY, np.uint8)
    top, left = (rows - size[1]) // 2, (columns - size[0]) // 2
    canvas[top : top + size[1], left : left + size[0]] = small
    return canvas


def write_image(path: str | os.PathLike, image: np.ndarray) -> None:
    """Write `image` to `path`, whole or not at all; the ending (.png, .jpg) says the format. Raises OutputError."""
    path = check_image_name(path)
    done, data = cv2.imencode(path.suffix, image)
    if not done:
        raise ValueError(f"{path}: OpenCV cannot encode an image of shape {image.shape}")
    with writing(path) as file:
        file.write(data.tobytes())


def check_image_name(path: str | os.PathLike) -> Path:
    """`path`, after a check that its ending is that of a format that can be written. Raises OutputError."""
    path = Path(path)
    if not path.suffix or not cv2.haveImageWriter(f"image{path.suffix}"):
        raise OutputError(f"{path}: OpenCV writes no images that end in '{path.suffix}'; give a name ending in .png")
    return path
