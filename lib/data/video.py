"""Frames of somebody's own video: from a folder, a list, a video file or a camera, in natural order.

The originals took the order that the file system happened to give (docs/rules.md, section 4); here `frame2` always
comes before `frame10`, however the names are listed.
"""

from __future__ import annotations

import glob
import math
import os
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from lib.data.transforms import Preprocessing, read_image
from lib.errors import InputError
from lib.structures import Frame

IMAGE_SUFFIXES = frozenset((".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff", ".ppm"))


class SourceError(InputError):
    """Frames that cannot be read; the message names the file and what to do."""


@dataclass(frozen=True)
class FrameSource:
    """The frames of one video, read one at a time, anew with each iteration.

    description: where they come from. fps: frames a second, None where unknown (images).
    length: number of frames, None where unknown (a camera); for a video file it is what its header claims.
    Iterating yields (name, image): the file's name, or "000000", "000001", ...; (H, W, 3) uint8 BGR.
    """

    description: str
    fps: float | None
    length: int | None
    read: Callable[[], Iterator[tuple[str, np.ndarray]]]

    def __iter__(self) -> Iterator[tuple[str, np.ndarray]]:
        return self.read()


def natural_key(path: str | os.PathLike) -> tuple:
    """Sorting key under which `a2` < `a10`, folder by folder; equal numbers (`a2`, `a02`) fall back on the text."""
    parts = [re.split(r"(\d+)", part) for part in Path(path).parts]
    return (
        # Odd places of re.split are the digits, so a number is never compared with a text.
        [[int(piece) if i % 2 else piece.casefold() for i, piece in enumerate(part)] for part in parts],
        str(path),
    )


def open_frames(source: str | os.PathLike | Sequence[str | os.PathLike]) -> FrameSource:
    """The frames of `source`, lazily.

    source: a folder of images; a pattern such as "clip/*.jpg"; a list of image files; a video file (what OpenCV
    decodes: mp4, webm, avi, ...); or "camera:0". Images come in natural order, whatever the order of the list.

    Raises SourceError for a source that does not exist or holds no frame. An image that cannot be decoded raises
    `lib.data.transforms.ImageError` during iteration, and the message names the file.
    """
    if not isinstance(source, (str, os.PathLike)):
        return _image_source(list(source), f"list of {len(source)} images")
    text = os.fspath(source)
    if text.startswith("camera:"):
        return _camera_source(text)
    path = Path(text)
    if path.is_dir():
        return _folder_source(path)
    if path.is_file():
        return _image_source([path], text) if path.suffix.lower() in IMAGE_SUFFIXES else _video_source(path)
    if glob.has_magic(text):
        found = [name for name in glob.glob(text, recursive=True) if _is_image(Path(name))]
        if not found:
            raise SourceError(f"{text}: the pattern matches no image ({_suffixes()})")
        return _image_source(found, text)
    raise SourceError(f"{text}: no such file or folder; give a folder of images, a pattern, a video file or camera:0")


def network_frames(images: Iterable[tuple[str, np.ndarray]], preprocess: Preprocessing) -> Iterator[Frame]:
    """`images` of one video, (name, BGR image) pairs such as a `FrameSource` gives, as the network reads them.

    One at a time; frame ids count from 1, and the first frame is marked as such.
    """
    for index, (_, image) in enumerate(images):
        yield preprocess(image, frame_id=index + 1, first=index == 0)


def _suffixes() -> str:
    return ", ".join(sorted(IMAGE_SUFFIXES))


def _is_image(path: Path) -> bool:
    # Names that begin with a dot are what other systems leave behind (._000001.jpg), not frames.
    return path.suffix.lower() in IMAGE_SUFFIXES and not path.name.startswith(".") and path.is_file()


def _folder_source(folder: Path) -> FrameSource:
    entries = list(folder.iterdir())
    images = [path for path in entries if _is_image(path)]
    if not images:
        folders = sorted((path.name for path in entries if path.is_dir()), key=natural_key)
        hint = f"; did you mean {folder / folders[0]}?" if folders else ""
        raise SourceError(f"{folder}: the folder holds no image ({_suffixes()}){hint}")
    return _image_source(images, str(folder))


def _image_source(paths: Sequence[str | os.PathLike], description: str) -> FrameSource:
    if not paths:
        raise SourceError("the list of images is empty; give at least one file")
    ordered = sorted((Path(path) for path in paths), key=natural_key)
    missing = next((path for path in ordered if not path.is_file()), None)
    if missing is not None:
        raise SourceError(f"{missing}: no such image")

    def read() -> Iterator[tuple[str, np.ndarray]]:
        for path in ordered:
            yield path.name, read_image(path)

    return FrameSource(description, None, len(ordered), read)


def _video_source(path: Path) -> FrameSource:
    capture = cv2.VideoCapture(str(path), cv2.CAP_FFMPEG)
    opened = capture.isOpened()
    fps, length = capture.get(cv2.CAP_PROP_FPS), capture.get(cv2.CAP_PROP_FRAME_COUNT)
    capture.release()
    if not opened:
        raise SourceError(
            f"{path}: OpenCV cannot decode this file; convert it to a folder of images, "
            f"for example: ffmpeg -i {path.name} frames/%06d.jpg"
        )
    known_fps = float(fps) if math.isfinite(fps) and 0 < fps <= 1000 else None
    known_length = round(length) if math.isfinite(length) and length > 0 else None

    def read() -> Iterator[tuple[str, np.ndarray]]:
        yield from _captured(cv2.VideoCapture(str(path), cv2.CAP_FFMPEG), str(path))

    return FrameSource(str(path), known_fps, known_length, read)


def _camera_source(text: str) -> FrameSource:
    number = text.partition(":")[2]
    if not number.isdigit():
        raise SourceError(f"{text}: a camera is camera:NUMBER, for example camera:0")

    def read() -> Iterator[tuple[str, np.ndarray]]:
        yield from _captured(cv2.VideoCapture(int(number)), text)

    capture = cv2.VideoCapture(int(number))
    opened, fps = capture.isOpened(), capture.get(cv2.CAP_PROP_FPS)
    capture.release()
    if not opened:
        raise SourceError(f"{text}: no camera with this number can be opened; is it connected, and free?")
    return FrameSource(text, float(fps) if math.isfinite(fps) and fps > 0 else None, None, read)


def _captured(capture: cv2.VideoCapture, name: str) -> Iterator[tuple[str, np.ndarray]]:
    """The frames of an open capture until it gives no more; SourceError when it gives none at all."""
    try:
        count = 0
        while True:
            read, image = capture.read()
            if not read:
                break
            yield f"{count:06d}", image
            count += 1
        if count == 0:
            raise SourceError(f"{name}: not one frame can be decoded; is the file damaged?")
    finally:
        capture.release()
