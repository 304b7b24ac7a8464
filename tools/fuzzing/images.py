"""Images and videos: broken headers, cut files, claims of a size that is not there."""

from __future__ import annotations

import functools
import logging
import os
import tempfile
from pathlib import Path
from random import Random

import cv2
import numpy as np

from lib.config import load_config
from lib.data.transforms import Preprocessing, read_image
from lib.data.video import open_frames
from tools.fuzzing.attempts import Input, Kind, WrongError
from tools.fuzzing.mutations import damaged_bytes

_FRAMES = 40


@functools.cache
def pictures() -> dict[str, bytes]:
    """Good files of every format that is read, by name."""
    rng = np.random.RandomState(0)
    pixels = cv2.resize(rng.randint(0, 256, (5, 7, 3)).astype(np.uint8), (83, 61), interpolation=cv2.INTER_CUBIC)
    ways = {
        "a.jpg": (),
        "progressive.jpg": (cv2.IMWRITE_JPEG_PROGRESSIVE, 1),
        "restarts.JPEG": (cv2.IMWRITE_JPEG_RST_INTERVAL, 2),
        **dict.fromkeys(("a.png", "a.bmp", "a.webp", "a.tiff", "a.ppm"), ()),
    }
    return {name: cv2.imencode(Path(name).suffix, pixels, list(way))[1].tobytes() for name, way in ways.items()}


@functools.cache
def videos() -> dict[str, bytes]:
    """Good video files, by name."""
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        for name, code in (("a.avi", "MJPG"), ("a.mp4", "mp4v"), ("a.webm", "VP80")):
            path = os.path.join(folder, name)
            writer = cv2.VideoWriter(path, cv2.VideoWriter_fourcc(*code), 10, (64, 48))
            for seed in range(_FRAMES):
                writer.write(np.random.RandomState(seed).randint(0, 256, (48, 64, 3)).astype(np.uint8))
            writer.release()
            if os.path.isfile(path) and os.path.getsize(path):
                found[name] = Path(path).read_bytes()
    return found


def _check_pixels(pixels: np.ndarray) -> None:
    if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] != 3 or 0 in pixels.shape:
        raise WrongError(f"pixels {pixels.shape} of {pixels.dtype}")


def _read(name: str, folder: Path) -> str:
    pixels = read_image(folder / name)
    _check_pixels(pixels)
    frame = Preprocessing.from_config(load_config())(pixels)
    if not bool(frame.image.isfinite().all()) or max(frame.image.shape) > 1000 or min(frame.image.shape) < 1:
        raise WrongError(f"network input {tuple(frame.image.shape)}")
    return f"{pixels.shape[1]} x {pixels.shape[0]} pixels"


def _picture(what: str, name: str, content: bytes) -> Input:
    return Input(what, functools.partial(_read, name), {name: content}, names=name)


def _fixed_pictures() -> list[Input]:
    cases = [_picture(f"whole {name}", name, content) for name, content in pictures().items()]
    for name, content in pictures().items():
        for share in (0, 0.02, 0.2, 0.5, 0.8, 0.95, 0.999):
            cut = content[: int(len(content) * share)]
            cases.append(_picture(f"{name} cut off at {share:g}", name, cut))
        for other in pictures():
            if Path(other).suffix != Path(name).suffix:
                cases.append(_picture(f"{name} named {other}", other, content))
    for size in ((1, 1), (1, 500), (500, 1), (1, 9000), (3, 3)):
        content = cv2.imencode(".png", np.zeros((*size, 3), np.uint8))[1].tobytes()
        cases.append(_picture(f"{size[1]} x {size[0]} pixels", "a.png", content))
    odd = {
        "empty": b"",
        "text": b"text",
        "zeros": bytes(999),
        "html": b"<!DOCTYPE html>",
        "lfs": b"version https://git",
    }
    return cases + [_picture(what, "a.jpg", content) for what, content in odd.items()]


def _damaged_picture(rng: Random) -> Input:
    name, content = rng.choice(list(pictures().items()))
    return _picture(f"damaged {name}", name, damaged_bytes(rng, content))


class _Warnings(logging.Handler):
    def __init__(self) -> None:
        super().__init__()
        self.texts: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.texts.append(record.getMessage())


def _play(name: str, folder: Path) -> str:
    log, warnings = logging.getLogger("lib.data.video"), _Warnings()
    log.addHandler(warnings)
    level = log.level
    log.setLevel(logging.WARNING)
    try:
        source, count = open_frames(folder / name), 0
        for frame in source:
            _check_pixels(frame.pixels)
            count += 1
            if count == 3 * _FRAMES:
                return "more frames than were written"
    finally:
        log.setLevel(level)
        log.removeHandler(warnings)
    if source.length is not None and count < source.length - 1 and not any(name in text for text in warnings.texts):
        raise WrongError(f"{count} of {source.length} frames, and no warning")
    return f"{count} frames"


def _video(what: str, name: str, content: bytes) -> Input:
    return Input(what, functools.partial(_play, name), {name: content}, names=name)


def _fixed_videos() -> list[Input]:
    cases = [_video(f"whole {name}", name, content) for name, content in videos().items()]
    for name, content in videos().items():
        cases += [
            _video(f"{name} cut off at {share:g}", name, content[: int(len(content) * share)])
            for share in (0, 0.01, 0.1, 0.4, 0.7, 0.9, 0.99)
        ]
        cases += [_video(f"{name} named {other}", other, content) for other in ("a.mkv", "a", "a.mov", "-a.mp4")]
    odd = {
        "text": b"text",
        "zeros": bytes(9999),
        "playlist": b"#EXTM3U\nfile:///etc/passwd\n",
        "png": pictures()["a.png"],
    }
    cases += [_video(what, "a.mp4", content) for what, content in odd.items()]
    concat = b"ffconcat version 1.0\nfile /etc/hostname\n"
    return [*cases, _video("list of other files", "a.ffconcat", concat), _video("such a list", "a.mp4", concat)]


def _damaged_video(rng: Random) -> Input:
    name, content = rng.choice(list(videos().items()))
    return _video(f"damaged {name}", name, damaged_bytes(rng, content))


KINDS = (Kind("image", _fixed_pictures, _damaged_picture), Kind("video", _fixed_videos, _damaged_video))
