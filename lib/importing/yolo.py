"""YOLO's layout: a data.yaml with `names`, `train` and `val`, and beside each folder `images` a folder `labels`.

A line of a label file is `class x y width height`, or with a track id behind it: the centre and the size of the box as
shares of the image's sides. An image without a label file shows no object.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from lib.config.yaml_text import parse_yaml
from lib.data.frame_files import names_of_images, natural_key
from lib.files import read_text
from lib.importing.source import Box, ImportingError, Source, SourceVideo, finite

_WHAT = "give a data.yaml with names, train and val"


def read_yolo(path: Path, split: str, videos_by_name: bool) -> Source:
    """The images of one split ("train" or "val") of a data.yaml.

    The images of a folder below the one that the split names are a video; those in that folder itself are stills, or
    with `videos_by_name` videos of all images whose names differ in nothing but the number at their end.
    Raises ImportingError and FrameFilesError.
    """
    content = parse_yaml(read_text(path, ImportingError, _WHAT), str(path), ImportingError)
    if not isinstance(content, dict):
        raise ImportingError(f"{path}: not a mapping; {_WHAT}")
    labels = _labels(path, content.get("names"))
    entries = content.get(split)
    entries = entries if isinstance(entries, list) else [entries]
    if not all(isinstance(entry, str) and entry for entry in entries):
        raise ImportingError(f"{path}: '{split}' must be a folder of images, a list of them, or a .txt file of images")
    root = path.parent / str(content.get("path") or "")
    videos: list[SourceVideo] = []
    for entry in entries:
        place = _place(path, root, entry)
        images = list(_listed(place) if place.is_file() else _below(place))
        top = Path(os.path.commonpath([image.parent for image in images])) if place.is_file() else place
        videos += _grouped(images, top, videos_by_name)
    for video in videos:
        _read_labels(video, labels)
    names = [labels[number] for number in sorted(labels)]
    return Source(f"{path} ({split})", sorted(videos, key=lambda video: natural_key(video.name)), names)


def _labels(path: Path, names: Any) -> dict[int, str]:
    """Number -> name of the class."""
    if isinstance(names, list):
        names = dict(enumerate(names))
    if not isinstance(names, dict) or not names:
        raise ImportingError(f"{path}: 'names' must list the classes; {_WHAT}")
    if not all(isinstance(number, int) for number in names):
        raise ImportingError(f"{path}: 'names': the numbers of the classes must be whole numbers")
    return {number: str(name) for number, name in names.items()}


def _place(path: Path, root: Path, entry: str) -> Path:
    """The folder or list that an entry of data.yaml means; exported sets write `../train/images` for `train/images`."""
    tried = [root / entry, path.parent / entry, path.parent / re.sub(r"^(\.\./)+", "", entry)]
    for place in tried:
        if place.exists():
            return place
    raise ImportingError(f"{path}: there is no {tried[0]}; correct 'path' or the folders")


def _listed(path: Path) -> Iterator[Path]:
    for number, line in enumerate(read_text(path, ImportingError, "give a list of images").split("\n"), 1):
        if line.strip():
            image = path.parent / line.strip()
            if not image.is_file():
                raise ImportingError(f"{path}:{number}: there is no image {image}")
            yield image


def _below(folder: Path) -> Iterator[Path]:
    found = False
    for place, _, files in os.walk(folder):
        for name in names_of_images(files, place).values():
            found = True
            yield Path(place, name)
    if not found:
        raise ImportingError(f"{folder}: no image in this folder")


def _grouped(images: list[Path], top: Path, by_name: bool) -> Iterator[SourceVideo]:
    """The images of one folder as videos and stills."""
    groups: dict[str, list[Path]] = {}
    for image in images:
        folder = image.parent.relative_to(top).as_posix()
        name = image.stem
        if by_name:
            name = name.rstrip("0123456789").rstrip("_-. ") or "video"
        alone = folder == "." and not by_name
        key = "/".join(part for part in ("" if folder == "." else folder, name if alone or by_name else "") if part)
        groups.setdefault(key, []).append(image)
    for name, members in groups.items():
        still = not by_name and len(members) == 1 and members[0].parent == top
        yield SourceVideo(name, sorted(members, key=natural_key), still=still)


def _read_labels(video: SourceVideo, labels: dict[int, str]) -> None:
    for number, image in enumerate(video.frames):
        path = _label_file(image)
        if not path.is_file():
            continue
        for line, text in enumerate(read_text(path, ImportingError, "give a label file").split("\n"), 1):
            if text.strip():
                video.boxes.setdefault(number, []).append(_box(text.split(), f"{path}:{line}", labels))


def _label_file(image: Path) -> Path:
    parts = list(image.with_suffix(".txt").parts)
    for i in range(len(parts) - 2, -1, -1):
        if parts[i] == "images":
            parts[i] = "labels"
            break
    return Path(*parts)


def _box(fields: list[str], place: str, labels: dict[int, str]) -> Box:
    if len(fields) not in (5, 6):
        raise ImportingError(
            f"{place}: {len(fields)} columns; a line is 'class x y width height' or 'class x y width height track'"
        )
    if not re.fullmatch(r"[0-9]{1,9}", fields[0]) or int(fields[0]) not in labels:
        raise ImportingError(f"{place}: class {fields[0][:50]!r} is not among the numbers of 'names' in data.yaml")
    x, y, width, height = finite(fields[1:5], place)
    if not (0 < width <= 1.01 and 0 < height <= 1.01 and -0.5 <= x <= 1.5 and -0.5 <= y <= 1.5):
        raise ImportingError(f"{place}: ({', '.join(fields[1:5])}) are no shares of the image's sides, from 0 to 1")
    corners = (x - width / 2, y - height / 2, x + width / 2, y + height / 2)
    track = fields[5] if len(fields) == 6 else ""
    return Box(labels[int(fields[0])], corners, track, place, relative=True)
