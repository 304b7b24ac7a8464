"""The image files of videos and stills: images of any type, frames of a video named in any way.

A video's frames are `000000.JPEG`, `000001.JPEG`, ..., as in ImageNet VID; where its folder has no `000000.JPEG`, they
are its images in natural order. An image's annotation has its name with the ending `.xml`.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from pathlib import Path

from lib.errors import InputError

IMAGE_SUFFIXES = frozenset((".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff", ".ppm"))
_FIRST = "000000"


class FrameFilesError(InputError):
    """A folder whose files are not the frames of a video; the message names it."""


def natural_key(path: str | os.PathLike) -> tuple:
    """Sorting key under which `a2` < `a10`, folder by folder; equal numbers (`a2`, `a02`) fall back on the text."""
    parts = [re.split(r"(\d+)", part) for part in Path(path).parts]
    return (
        # Odd places of re.split are the digits, so a number is never compared with a text.
        [[int(piece) if i % 2 else piece.casefold() for i, piece in enumerate(part)] for part in parts],
        str(path),
    )


def is_image_name(name: str) -> bool:
    """Whether a file of this name is an image; names that begin with a dot are what other systems leave behind."""
    return os.path.splitext(name)[1].lower() in IMAGE_SUFFIXES and not name.startswith(".")


def names_of_images(files: Iterable[str], folder: str | os.PathLike) -> dict[str, str]:
    """Name without ending -> file name of the images among `files`, in natural order.

    Raises FrameFilesError, which names `folder`, for two images that differ in nothing but their ending.
    """
    found: dict[str, str] = {}
    for name in sorted(filter(is_image_name, files), key=natural_key):
        stem = os.path.splitext(name)[0]
        if stem in found:
            raise FrameFilesError(f"{folder}: {found[stem]} and {name} have one name; remove or rename one of them")
        found[stem] = name
    return found


class FrameFiles:
    """Finds image files; a folder is listed once, and only where its files are not named as ImageNet VID's.

    All paths are whole ones, without ending.
    """

    def __init__(self) -> None:
        self._listed: dict[str, dict[str, str]] = {}
        self._videos: dict[str, list[str] | None] = {}

    def image(self, stem: str) -> str:
        """The image file of `stem`, of any type; `stem` with .JPEG where there is none. Raises FrameFilesError."""
        usual = f"{stem}.JPEG"
        if os.path.isfile(usual):
            return usual
        folder, name = os.path.split(stem)
        found = self._images(folder).get(name)
        return usual if found is None else os.path.join(folder, found)

    def frame_names(self, folder: str, annotations: str = "") -> list[str] | None:
        """The names of the frames of the video in `folder`, in order; None where they are 000000, 000001, ...

        annotations: the folder of its annotations, which give the names where the video has no images.
        Raises FrameFilesError.
        """
        if folder not in self._videos:
            self._videos[folder] = self._find(folder, annotations)
        return self._videos[folder]

    def _find(self, folder: str, annotations: str) -> list[str] | None:
        if os.path.isfile(os.path.join(folder, f"{_FIRST}.JPEG")):
            return None
        names = list(self._images(folder))
        if not names and annotations and not os.path.isfile(os.path.join(annotations, f"{_FIRST}.xml")):
            names = [os.path.splitext(name)[0] for name in _files(annotations) if name.endswith(".xml")]
            names.sort(key=natural_key)
        return names or None

    def _images(self, folder: str) -> dict[str, str]:
        if folder not in self._listed:
            self._listed[folder] = names_of_images(_files(folder), folder)
        return self._listed[folder]


def _files(folder: str) -> list[str]:
    try:
        with os.scandir(folder) as entries:
            return [entry.name for entry in entries if entry.is_file()]
    except OSError:  # the file that is looked for is missing then, and is named as such
        return []
