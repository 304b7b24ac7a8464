"""Frames of a user's video: from a folder, a list, a video file, a camera or arrays, in natural order.

The originals take the order that the file system happens to give; here `frame2` always comes before `frame10`, however
the names are listed.
"""

from __future__ import annotations

import glob
import logging
import math
import os
import re
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np

from lib.data.frame_files import IMAGE_SUFFIXES, is_image_name, natural_key
from lib.data.transforms import Preprocessing, read_image
from lib.errors import InputError
from lib.structures import Frame

_log = logging.getLogger(__name__)

DEFAULT_FPS = 25.0  # frames a second of images, which do not say
STREAM_TIMEOUT = 10  # seconds to open a stream, and to wait for its next frame
_STREAMS = ("rtsp", "rtsps", "rtmp", "http", "https", "udp", "tcp", "srt")


class SourceError(InputError):
    """Frames that cannot be read; the message names the file and what to do."""


class SourceFrame(NamedTuple):
    """name: the file's name, or "000000", "000001", ... pixels: (H, W, 3) uint8 BGR. seconds: since the beginning of
    the video, None where unknown (images)."""

    name: str
    pixels: np.ndarray
    seconds: float | None = None


@dataclass(frozen=True)
class FrameSource:
    """The frames of one video, read one at a time.

    description: where they come from. fps: frames a second, None where unknown (images).
    length: number of frames, None where unknown (a camera); for a video file it is what its header claims.
    repeatable: whether iterating again gives the same frames again, as of files; a camera does not.
    Iterating yields `SourceFrame`s.
    """

    description: str
    fps: float | None
    length: int | None
    read: Callable[[], Iterator[SourceFrame]]
    repeatable: bool = True

    def length_within(self, limit: int) -> int | None:
        """Number of its first `limit` frames, of all for 0; None where unknown."""
        if self.length is None:
            return limit or None
        return min(self.length, limit) if limit else self.length

    def __iter__(self) -> Iterator[SourceFrame]:
        return self.read()


Source = str | os.PathLike | Iterable[str | os.PathLike] | Iterable[np.ndarray] | FrameSource


def open_frames(source: Source, rgb: bool = False) -> FrameSource:
    """The frames of `source`, lazily.

    source: a folder of images; a pattern such as "clip/*.jpg"; a video file (what OpenCV decodes: mp4, webm, avi, ...);
    "camera:0"; a stream's address, rtsp:// or http:// for example; a list of image files; or anything that yields (H,
    W, 3) uint8 arrays. Image files come in natural order, whatever the order of the list; arrays in theirs. rgb: arrays
    are in R, G, B order instead of OpenCV's B, G, R.

    Raises SourceError for a source that does not exist or holds no frame; while it is read, SourceError for something
    else than such an array, and `lib.data.transforms.ImageError` naming an image that cannot be decoded.
    """
    if isinstance(source, FrameSource):
        return source
    if not isinstance(source, (str, os.PathLike)):
        return _iterable_source(source, rgb)
    text = os.fspath(source)
    if not text:
        raise SourceError(
            "the source is an empty name; give a folder of images, a pattern, a video file, a stream or camera:0"
        )
    if text.startswith("camera:"):
        return _camera_source(text)
    if "://" in text:
        return _stream_source(text)
    try:
        return _path_source(text)
    except (OSError, ValueError) as error:  # no permission, a name that is too long or has a NUL in it
        if isinstance(error, InputError):
            raise
        raise SourceError(f"{text!r}: cannot be opened ({getattr(error, 'strerror', None) or error})") from error


def _path_source(text: str) -> FrameSource:
    """A folder, a file or a pattern. Raises SourceError, OSError and ValueError."""
    path = Path(text)
    if path.is_dir():
        return _folder_source(path)
    if path.is_file():
        return _image_source([path], text) if path.suffix.lower() in IMAGE_SUFFIXES else _video_source(path)
    if path.exists():
        raise SourceError(
            f"{text}: is a device or a pipe; give a folder of images, a pattern, a video file or camera:0"
        )
    if glob.has_magic(text):
        found = [name for name in glob.glob(text, recursive=True) if _is_image(Path(name))]
        if not found:
            raise SourceError(f"{text}: the pattern matches no image ({_suffixes()})")
        return _image_source(found, text)
    raise SourceError(f"{text}: no such file or folder; give a folder of images, a pattern, a video file or camera:0")


def _iterable_source(source: Iterable, rgb: bool) -> FrameSource:
    """A list of image files, or anything that yields arrays."""
    try:
        items = list(source) if isinstance(source, (list, tuple)) else source
        if isinstance(items, list) and items and all(isinstance(item, (str, os.PathLike)) for item in items):
            return _image_source(items, f"list of {len(items)} images")
        length = len(items) if hasattr(items, "__len__") else None
        iter(items)
    except TypeError:
        raise SourceError(
            f"{type(source).__name__}: not frames; give a path, or an iterable of (H, W, 3) uint8 arrays"
        ) from None
    if length == 0:
        raise SourceError("the list of frames is empty; give at least one")

    def read() -> Iterator[SourceFrame]:
        for number, item in enumerate(items):
            yield SourceFrame(f"{number:06d}", checked_pixels(item, f"frame {number}", rgb))

    return FrameSource("frames in memory", None, length, read, repeatable=isinstance(items, (list, np.ndarray)))


def checked_pixels(image: object, name: str, rgb: bool = False) -> np.ndarray:
    """`image` as (H, W, 3) uint8 B, G, R, or SourceError, which names it; rgb: it is in R, G, B order."""
    if not isinstance(image, np.ndarray) or image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
        kind = f"{image.shape} of {image.dtype}" if isinstance(image, np.ndarray) else type(image).__name__
        raise SourceError(f"{name}: must be a (H, W, 3) uint8 array, not {kind}")
    if 0 in image.shape:
        raise SourceError(f"{name}: is empty, {image.shape}")
    return np.ascontiguousarray(image[:, :, ::-1]) if rgb else image


def network_frames(
    images: Iterable[SourceFrame], preprocess: Preprocessing, keep_pixels: bool = True
) -> Iterator[Frame]:
    """`images` of one video as the network reads them, one at a time; the first one is marked as such.

    keep_pixels: keep the original frame in `Frame.pixels`.
    """
    for index, (name, pixels, seconds) in enumerate(images):
        kept = pixels if keep_pixels else None
        yield preprocess(
            pixels, frame_id=index + 1, first=index == 0, index=index, name=name, seconds=seconds, pixels=kept
        )


def _suffixes() -> str:
    return ", ".join(sorted(IMAGE_SUFFIXES))


def _is_image(path: Path) -> bool:
    return is_image_name(path.name) and path.is_file()


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

    def read() -> Iterator[SourceFrame]:
        for path in ordered:
            yield SourceFrame(path.name, read_image(path))

    return FrameSource(description, None, len(ordered), read)


def _video_source(path: Path) -> FrameSource:
    try:
        str(path).encode()
    except UnicodeEncodeError:  # OpenCV crashes
        raise SourceError(f"{path}: OpenCV opens only files whose names are UTF-8; rename it") from None
    capture = cv2.VideoCapture(str(path), cv2.CAP_FFMPEG)
    opened = capture.isOpened()
    fps, length = capture.get(cv2.CAP_PROP_FPS), capture.get(cv2.CAP_PROP_FRAME_COUNT)
    capture.release()
    if not opened:
        raise SourceError(
            f"{path}: OpenCV cannot decode this file; if it is whole, convert it to a folder of images, "
            f"for example: ffmpeg -i {path.name} frames/%06d.jpg"
        )
    known_fps = float(fps) if math.isfinite(fps) and 0 < fps <= 1000 else None
    known_length = round(length) if math.isfinite(length) and length > 0 else None

    def read() -> Iterator[SourceFrame]:
        count = 0
        for frame in _captured(cv2.VideoCapture(str(path), cv2.CAP_FFMPEG), str(path)):
            yield frame._replace(seconds=count / known_fps if known_fps else None)
            count += 1
        # Some formats have no number of frames: it is then their duration times the rate, which may round up
        if known_length is not None and count < known_length - 1:
            _log.warning(
                "%s: only %d of the %d frames that its header claims can be decoded; is it cut off?",
                path,
                count,
                known_length,
            )

    return FrameSource(str(path), known_fps, known_length, read)


def _camera_source(text: str) -> FrameSource:
    number = text.partition(":")[2]
    if not re.fullmatch(r"\d{1,4}", number):
        raise SourceError(f"{text}: a camera is camera:NUMBER, for example camera:0")

    def read() -> Iterator[SourceFrame]:
        start = None
        for frame in _captured(cv2.VideoCapture(int(number)), text):
            start = time.monotonic() if start is None else start
            yield frame._replace(seconds=time.monotonic() - start)

    capture = cv2.VideoCapture(int(number))
    opened, fps = capture.isOpened(), capture.get(cv2.CAP_PROP_FPS)
    capture.release()
    if not opened:
        raise SourceError(f"{text}: no camera with this number can be opened; is it connected, and free?")
    return FrameSource(text, float(fps) if math.isfinite(fps) and fps > 0 else None, None, read, repeatable=False)


def _stream_source(address: str) -> FrameSource:
    """A stream, or a video file on a server: OpenCV's FFmpeg opens both."""
    shown = re.sub(r"//[^/@]*@", "//***@", address)  # no password in messages and results
    scheme = address.partition("://")[0].lower()
    if scheme not in _STREAMS:
        raise SourceError(f"{shown}: '{scheme}://' is no stream; give {', '.join(_STREAMS)} or a path")
    parameters = [cv2.CAP_PROP_OPEN_TIMEOUT_MSEC, 1000 * STREAM_TIMEOUT, cv2.CAP_PROP_READ_TIMEOUT_MSEC]

    def capture() -> cv2.VideoCapture:
        opened = cv2.VideoCapture(address, cv2.CAP_FFMPEG, [*parameters, 1000 * STREAM_TIMEOUT])
        if not opened.isOpened():
            raise SourceError(
                f"{shown}: OpenCV cannot open this stream, or nothing came in {STREAM_TIMEOUT} s; is the address right "
                "and does another player show it from this machine?"
            )
        return opened

    first = capture()
    fps, length = first.get(cv2.CAP_PROP_FPS), first.get(cv2.CAP_PROP_FRAME_COUNT)
    known_fps = float(fps) if math.isfinite(fps) and 0 < fps <= 1000 else None
    known_length = round(length) if math.isfinite(length) and length > 0 else None
    waiting = [first]  # a stream may take seconds to open: its first reader gets the one that is open

    def read() -> Iterator[SourceFrame]:
        start = None
        for number, frame in enumerate(_captured(waiting.pop() if waiting else capture(), shown)):
            start = time.monotonic() if start is None else start
            is_file = known_length is not None and known_fps is not None
            yield frame._replace(seconds=number / known_fps if is_file else time.monotonic() - start)

    return FrameSource(shown, known_fps, known_length, read, repeatable=known_length is not None)


def _captured(capture: cv2.VideoCapture, name: str) -> Iterator[SourceFrame]:
    """The frames of an open capture until it gives no more; SourceError when it gives none at all."""
    try:
        count = 0
        while True:
            read, image = capture.read()
            if not read:
                break
            yield SourceFrame(f"{count:06d}", image)
            count += 1
        if count == 0:
            raise SourceError(f"{name}: not one frame can be decoded; is the file damaged?")
    finally:
        capture.release()
