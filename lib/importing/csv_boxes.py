"""Boxes in CSV files: columns frame, label, x1, y1, x2, y2 and, where there are any, track and video.

The frame of a video file is its number, from 0. The frame of a folder of images is a file's name, with or without its
ending, or the number that the name ends in: 12 is `img_0012.png`.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from lib.data.frame_files import is_image_name, names_of_images, natural_key
from lib.files import read_text
from lib.importing.source import Box, ImportingError, Source, SourceVideo, finite

COLUMNS = ("frame", "label", "x1", "y1", "x2", "y2")
VIDEO_SUFFIXES = (".mp4", ".avi", ".mov", ".mkv", ".webm", ".m4v", ".mpg", ".mpeg", ".wmv", ".flv", ".ogv", ".ts")
# What has to be subtracted of (x1, y1, x2, y2): whether pixels count from 0 or 1, and x2 and y2 lie in the box or
# behind
CONVENTIONS = {"0-inclusive": (0, 0, 0, 0), "1-inclusive": (1, 1, 1, 1), "0-exclusive": (0, 0, 1, 1)}
_WHAT = "give a CSV file of boxes with the columns frame,label,x1,y1,x2,y2"


def read_csv(path: Path, frames: Path, convention: str, first_frame: int) -> Source:
    """The videos of a CSV file, or of a folder with one CSV file for each video.

    frames: the folder of the videos: of each a video file or a folder of images. A file without the column `video` is
    about the video that has its name, or else `frames` itself is that video. convention: a key of CONVENTIONS.
    first_frame: the number of the first frame of a video file. Raises ImportingError.
    """
    files = sorted(path.glob("*.csv"), key=natural_key) if path.is_dir() else [path]
    if not files:
        raise ImportingError(f"{path}: no .csv file in this folder; {_WHAT}")
    videos: dict[str, _Video] = {}
    for file in files:
        for line, row in _rows(file):
            name = row.get("video", file.stem).strip().strip("/")
            if name not in videos:
                videos[name] = _Video(
                    name, _find(name, frames, f"{file}:{line}", alone="video" not in row), first_frame
                )
            videos[name].add(row, f"{file}:{line}", CONVENTIONS[convention])
    if not videos:
        raise ImportingError(f"{path}: no box in it; {_WHAT}")
    ordered = sorted(videos, key=natural_key)
    return Source(str(path), [videos[name].video for name in ordered], None)


def _rows(path: Path) -> Iterator[tuple[int, dict[str, str]]]:
    """Line number and columns of every box of one file. Raises ImportingError."""
    text = read_text(path, ImportingError, _WHAT)
    try:
        dialect = csv.Sniffer().sniff(text.partition("\n")[0], ",;\t")
    except csv.Error:
        dialect = csv.excel
    reader = csv.reader(text.splitlines(), dialect)
    try:
        header = [name.strip().lower() for name in next(reader, [])]
        missing = [name for name in COLUMNS if name not in header]
        if missing:
            raise ImportingError(f"{path}:1: no column {', '.join(missing)} among {', '.join(header)[:200]!r}; {_WHAT}")
        for fields in reader:
            if not any(field.strip() for field in fields):
                continue
            if len(fields) != len(header):
                raise ImportingError(
                    f"{path}:{reader.line_num}: {len(fields)} columns, but the first line names {len(header)}"
                )
            yield reader.line_num, dict(zip(header, fields, strict=True))
    except csv.Error as error:
        raise ImportingError(f"{path}:{reader.line_num}: not CSV ({error}); {_WHAT}") from error


def _find(name: str, frames: Path, place: str, alone: bool) -> Sequence[Path] | Path:
    """The frames of the video `name`. alone: `frames` may be that video itself. Raises ImportingError."""
    if alone and (frames.is_file() or (frames.is_dir() and any(map(is_image_name, _files(frames))))):
        return frames if frames.is_file() else images_of(frames)
    folder = frames / name
    if folder.is_dir():
        return images_of(folder)
    candidates = [folder] if folder.suffix.lower() in VIDEO_SUFFIXES else []
    candidates += [folder.with_name(folder.name + suffix) for suffix in VIDEO_SUFFIXES]
    for candidate in candidates:
        if candidate.is_file():
            return candidate
    raise ImportingError(
        f"{place}: no video '{name}' in {frames}, neither a folder of images nor a video file "
        f"({', '.join(VIDEO_SUFFIXES)}); give the folder of the videos: --frames"
    )


def images_of(folder: Path) -> list[Path]:
    """The images of a folder in natural order. Raises ImportingError where there is none, FrameFilesError."""
    images = [folder / name for name in names_of_images(_files(folder), folder).values()]
    if not images:
        raise ImportingError(f"{folder}: no image in this folder")
    return images


def _files(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir() if path.is_file()]


class _Video:
    """A video, and which of its frames a row means."""

    def __init__(self, name: str, frames: Sequence[Path] | Path, first_frame: int) -> None:
        self.video = SourceVideo(_without_ending(name), frames)
        self._first = first_frame
        self._names: dict[str, int] = {}  # of a frame, with and without ending -> its position
        self._numbers: dict[str, list[int]] = {}  # that names end in -> positions
        for position, path in enumerate([] if isinstance(frames, Path) else frames):
            self._names |= {path.name: position, path.stem: position}
            number = re.search(r"[0-9]{1,18}$", path.stem)
            if number:
                self._numbers.setdefault(_number(number.group()), []).append(position)

    def add(self, row: dict[str, str], place: str, subtract: tuple[int, int, int, int]) -> None:
        """Add the box of one row. Raises ImportingError."""
        label = row["label"].strip()
        if not label:
            raise ImportingError(f"{place}: no label; every box needs the name of its class")
        values = finite([row[name] for name in COLUMNS[2:]], place)
        corners = tuple(value - less for value, less in zip(values, subtract, strict=True))
        box = Box(label, corners, row.get("track", "").strip(), place)
        self.video.boxes.setdefault(self._frame(row["frame"].strip(), place), []).append(box)

    def _frame(self, text: str, place: str) -> int:
        if isinstance(self.video.frames, Path):
            if not re.fullmatch(r"\d{1,9}", text) or int(text) < self._first:
                raise ImportingError(
                    f"{place}: frame {text[:50]!r}; frames of a video file are whole numbers from {self._first} on "
                    "(--first-frame)"
                )
            return int(text) - self._first
        found = [self._names[text]] if text in self._names else self._numbers.get(_number(text), [])
        if len(found) != 1:
            why = (
                "no image of its folder has this name or number" if not found else "more than one image has this number"
            )
            raise ImportingError(
                f"{place}: frame {text[:50]!r}: {why} ({self.video.frames[0].parent}); write the file's name"
            )
        return found[0]


def _number(text: str) -> str:
    """A number without zeros in front; any other text as it is."""
    return str(int(text)) if re.fullmatch(r"[0-9]{1,18}", text) else text


def _without_ending(name: str) -> str:
    stem, dot, ending = name.rpartition(".")
    return stem if dot and f".{ending.lower()}" in VIDEO_SUFFIXES else name
