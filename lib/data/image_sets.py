"""The lists under ImageSets: which images or videos a set is made of (docs/rules.md, section 4; data/README.md).

A line has two columns, `path number`, and names one image; or four, `path first_frame_id frame_number length`, and
names one frame of a video for training, or the whole video for testing. Paths have no suffix and begin below
`Data/DET/` where the set's name begins with `DET_`, and below `Data/VID/` otherwise.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from lib.data.frame_files import FrameFiles
from lib.errors import InputError, some_of
from lib.files import decode_text, read_bytes

LONGEST_VIDEO = 1_000_000  # frames
_LONGEST_PATH = 4096
_WHOLE_NUMBER = re.compile(r"-?[0-9]{1,18}")


class DatasetError(InputError):
    """A data set that cannot be used; the message names the file, where it helps the line, and what to do."""


@dataclass(frozen=True)
class ImageSet:
    """One list file, column by column.

    root: the data set's folder. name: the set's name. path: the list file.
    columns: 2 or 4. paths: (n,) as the list has them, without suffix. lines: (n,) int64, their 1-based lines.
    numbers: (n, 3) int64: first frame id (1-based, cumulative), 0-based frame number, length of the video in frames;
        (column 2, 0, 1) in two-column lists.
    digest: of the file's bytes. files: finds the images.
    """

    root: str
    name: str
    path: str
    columns: int
    paths: list[str]
    lines: np.ndarray
    numbers: np.ndarray
    digest: str
    files: FrameFiles = field(default_factory=FrameFiles, compare=False, repr=False)

    @property
    def kind(self) -> str:
        """`DET` or `VID`, the folder below Data and Annotations."""
        return "DET" if self.name.partition("_")[0] == "DET" else "VID"

    def __len__(self) -> int:
        return len(self.paths)

    def image_path(self, stem: str) -> str:
        """The image file of `stem`, a path below `Data/<kind>` without its suffix; `stem`.JPEG where there is none.

        Raises FrameFilesError.
        """
        return self.files.image(os.path.join(self.root, "Data", self.kind, stem))

    def frame_stems(self, folder: str, length: int, line: int) -> Sequence[str]:
        """The stems of the `length` frames of the video in `folder`, in order.

        line: of the list, for messages. Raises DatasetError where the video has another number of frames and they are
        not named as ImageNet VID's, and FrameFilesError.
        """
        places = (os.path.join(self.root, tree, self.kind, folder) for tree in ("Data", "Annotations"))
        names = self.files.frame_names(*places)
        if names is None:
            return NumberedStems(folder, length)
        if len(names) != length:
            raise DatasetError(
                f"{self.path}:{line}: says that {folder} has {length} frames, but it has {len(names)}; correct the "
                "list (tools/make_image_sets.py --overwrite)"
            )
        return [f"{folder}/{name}" for name in names]

    def annotation_path(self, stem: str) -> str:
        """The annotation file of `stem`."""
        return os.path.join(self.root, "Annotations", self.kind, f"{stem}.xml")


class NumberedStems(Sequence):
    """The stems of a video in `folder` of `length` frames that are named as ImageNet VID's."""

    def __init__(self, folder: str, length: int) -> None:
        self._folder, self._length = folder, length

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, number: int) -> str:
        if not 0 <= number < self._length:
            raise IndexError(number)
        return frame_stem(self._folder, number)


def frame_stem(folder: str, number: int) -> str:
    """The path of frame `number` (0-based), without suffix, of a video in `folder` that is named as ImageNet VID's."""
    return f"{folder}/{number:06d}"


def load_image_set(root: str | os.PathLike, name: str) -> ImageSet:
    """Read `<root>/ImageSets/<name>.txt`. Raises DatasetError naming the file and the line."""
    root = os.fspath(root)
    if not name or os.path.basename(name) != name or "\\" in name:
        raise DatasetError(f"image set {name[:200]!r}: give the name of a list in ImageSets, without folder and ending")
    path = Path(root, "ImageSets", f"{name}.txt")
    what_to_do = f"is '{root}' the folder with Data, Annotations and ImageSets, and '{name}' a list there?"
    if not os.path.lexists(path):
        raise DatasetError(f"{path}: {_why_missing(Path(root), name)}")
    raw = read_bytes(path, DatasetError, what_to_do)
    text = decode_text(raw, path, DatasetError, what_to_do)
    rows = [(number, line.split()) for number, line in enumerate(text.split("\n"), 1) if line.strip()]
    if not rows:
        raise DatasetError(f"{path}: the list is empty")
    columns = len(rows[0][1])
    numbers = np.empty((len(rows), 3), np.int64)
    for row, (line, fields) in zip(numbers, rows, strict=True):
        row[:] = _parse(path, line, fields, columns)
    lines = np.array([line for line, _ in rows])
    paths = [fields[0] for _, fields in rows]
    return ImageSet(root, name, str(path), columns, paths, lines, numbers, hashlib.sha256(raw).hexdigest())


def require_dataset(root: str | os.PathLike) -> None:
    """Raise DatasetError where `root` is no folder, or has none of Data, Annotations and ImageSets.

    Call it before what a data set may leave to a default, as its class list, is compared with anything.
    """
    why = _why_no_dataset(Path(root))
    if why:
        raise DatasetError(why)


def _why_no_dataset(root: Path) -> str:
    """Why `root` is no data set; "" where it looks like one."""
    if not root.is_dir():
        return f"there is no folder '{root}'; correct dataset.dataset_path or --dataset-path (data/README.md)"
    if not any((root / part).is_dir() for part in ("Data", "Annotations", "ImageSets")):
        return (
            f"is '{root}' the folder with Data, Annotations and ImageSets? It has none of them; correct "
            "dataset.dataset_path or --dataset-path (data/README.md)"
        )
    return ""


def _why_missing(root: Path, name: str) -> str:
    """Why there is no such list, and the step that was left out."""
    why = _why_no_dataset(root)
    if why:
        return why
    lists = sorted(path.stem for path in (root / "ImageSets").glob("*.txt") if not path.name.startswith("."))
    if not lists:
        return f"no list is there yet; make them: python tools/make_image_sets.py --dataset-path {root}"
    there = some_of(lists)
    if name.partition("_")[0] == "DET":
        return (
            f"no such list ({there}); for a data set without still images: --preset configs/presets/vid_only.yaml, or "
            "dataset.image_set with the lists that are there"
        )
    return (
        f"no such list ({there}); give one of these (dataset.image_set, dataset.test_image_set), or make it: "
        f"python tools/make_image_sets.py --dataset-path {root}"
    )


def _parse(path: Path, line: int, fields: list[str], columns: int) -> tuple[int, int, int]:
    if len(fields) not in (2, 4):
        raise DatasetError(
            f"{path}:{line}: {len(fields)} columns; a line is 'path number' or "
            "'path first_frame_id frame_number length'"
        )
    if len(fields) != columns:
        raise DatasetError(f"{path}:{line}: {len(fields)} columns, but the lines before it have {columns}")
    if not fields[0].isprintable() or len(fields[0]) > _LONGEST_PATH:
        raise DatasetError(f"{path}:{line}: {fields[0][:100]!r} is no path of an image or a video")
    if not all(map(_WHOLE_NUMBER.fullmatch, fields[1:])):
        raise DatasetError(
            f"{path}:{line}: the columns after the path must be whole numbers of at most 18 digits, "
            f"not {' '.join(fields[1:])[:100]}"
        )
    values = [int(field) for field in fields[1:]]
    if columns == 2:
        return values[0], 0, 1
    first_id, number, length = values
    if not 0 <= number < length:
        raise DatasetError(f"{path}:{line}: frame {number} of a video of {length} frames; frames count from 0")
    if length > LONGEST_VIDEO:
        raise DatasetError(
            f"{path}:{line}: a video of {length} frames; at most {LONGEST_VIDEO} can be, as their files have six digits"
        )
    return first_id, number, length
