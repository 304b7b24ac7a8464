"""Contact sheets, pictures side by side, and image files.

Images are (H, W, 3) uint8 in BGR order, as OpenCV reads them.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from lib.files import OutputError, writing
from lib.visualize.draw import draw_caption

_GREY = 32  # of the space around pictures


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
        """Add the clip's next frame, with a caption if not empty; a small copy of some frames is kept."""
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
        """Write the sheet as a PNG to `path`. Raises ValueError when no frame was added, OutputError."""
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
    """Check that the ending of `path` is that of an image format, and return it. Raises OutputError."""
    path = Path(path)
    if not path.suffix or not cv2.haveImageWriter(f"image{path.suffix}"):
        raise OutputError(f"{path}: OpenCV writes no images that end in '{path.suffix}'; give a name ending in .png")
    return path
