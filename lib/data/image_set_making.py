"""The four lists of the originals, made from the files of a data set (data/README.md).

The rules were derived from the published lists. DET_train_30classes: class by class, the still images that show it,
ILSVRC2014's before ILSVRC2013's and otherwise by name, the first 2,000 of each class, but all of snake; an image with
two classes is therefore listed twice. VID_train_15frames: each training video is divided into fifteen parts, and the
middle frame of each is taken; a video with at most fifteen frames is taken whole. VID_val_videos and VID_val_frames:
all frames of all videos.

Made from the same files, the lists equal the published ones line by line.
"""

from __future__ import annotations

import itertools
import math
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

from tqdm import tqdm

from lib.data.annotations import AnnotationError, read_annotation
from lib.data.classes import Classes
from lib.data.frame_files import names_of_images, natural_key
from lib.data.image_sets import DatasetError, NumberedStems

FRAMES_PER_VIDEO = 15
STILLS_PER_CLASS = 2000
UNLIMITED = ("n01726692",)  # snake: the published list has all of its 8,591
_CHUNK = 500
_YEAR = re.compile(r"ILSVRC(\d{4})")
_TREES = ("Data", "Annotations")


def middle_frames(length: int, count: int = FRAMES_PER_VIDEO) -> list[int]:
    """The 0-based middle frames of `count` equal parts of a video; all frames of one with fewer."""
    rate = min(count, length) / length
    # Where a middle falls exactly between two frames, float64 rounding chooses. This order of operations reproduces all
    # 57,834 lines of the published list; exact arithmetic would take the frame after in 495 of them.
    return [math.floor(part / rate - 0.5 / rate) for part in range(1, min(count, length) + 1)]


def find_videos(root: str | os.PathLike, split: str) -> dict[str, Sequence[str]]:
    """Folder and stems of the frames, in order, of every video below `VID/<split>`, by name.

    The images count, or else the XML files. Raises DatasetError for a video that has a frame 000000 and then a gap, for
    one whose path a list cannot hold, and where there is none; FrameFilesError.
    """
    tree = next((tree for tree in _TREES if Path(root, tree, "VID", split).is_dir()), None)
    if tree is None:
        raise DatasetError(f"{root}: has neither Data/VID/{split} nor Annotations/VID/{split}")
    top = Path(root, tree, "VID")
    videos: dict[str, Sequence[str]] = {}
    for folder, _, files in tqdm(os.walk(top / split), unit="folder", desc=f"videos of {split}", delay=1):
        name = Path(folder).relative_to(top).as_posix()
        stems = _stems(files, folder, name, "JPEG" if tree == "Data" else "xml")
        if stems and len(name.split()) > 1:
            raise DatasetError(f"{folder}: a list cannot hold a path with blanks; rename the folder")
        if stems:
            videos[name] = stems
    if not videos:
        raise DatasetError(f"{top / split}: no {'image' if tree == 'Data' else '.xml file'} in it")
    return dict(sorted(videos.items()))


def _stems(files: Sequence[str], folder: str, name: str, ending: str) -> Sequence[str]:
    """The stems of the frames of the video `name`, which has `files` in `folder`."""
    first = f"000000.{ending}"
    if first not in files:
        images = names_of_images(files, folder) if ending == "JPEG" else _without_ending(files)
        return [f"{name}/{image}" for image in images]
    frames = sorted(file for file in files if file.endswith(f".{ending}"))
    for number, file in enumerate(frames):
        if file != f"{number:06d}.{ending}":
            raise DatasetError(
                f"{folder}: has {file} where {number:06d}.{ending} should be; a video that begins with {first} goes on "
                "without gaps"
            )
    return NumberedStems(name, len(frames))


def _without_ending(files: Sequence[str]) -> list[str]:
    return sorted((file.removesuffix(".xml") for file in files if file.endswith(".xml")), key=natural_key)


def training_lines(videos: Mapping[str, int], count: int = FRAMES_PER_VIDEO) -> Iterator[str]:
    """`folder 1 frame length`, as in VID_train_15frames."""
    for name, length in videos.items():
        for frame in middle_frames(length, count):
            yield f"{name} 1 {frame} {length}"


def video_lines(videos: Mapping[str, int]) -> Iterator[str]:
    """`folder first_frame_id 0 length`, as in VID_val_videos."""
    first = 1
    for name, length in videos.items():
        yield f"{name} {first} 0 {length}"
        first += length


def frame_lines(videos: Mapping[str, Sequence[str]]) -> Iterator[str]:
    """`folder/frame frame_id`, as in VID_val_frames; videos: as `find_videos` gives them. Raises DatasetError."""
    for frame_id, stem in enumerate(itertools.chain.from_iterable(videos.values()), 1):
        if len(stem.split()) > 1:
            raise DatasetError(f"{stem}: a list of frames cannot hold a path with blanks; rename the image")
        yield f"{stem} {frame_id}"


def still_lines(
    root: str | os.PathLike,
    classes: Classes,
    limit: int = STILLS_PER_CLASS,
    unlimited: Sequence[str] = UNLIMITED,
    workers: int = 1,
) -> Iterator[str]:
    """`image 1`, as in DET_train_30classes, from the annotations below `DET/train`.

    limit: images of a class, but for the annotation names `unlimited`; 0: any number. Raises DatasetError for an
    annotation that cannot be read and where there is none.
    """
    top = Path(root, "Annotations", "DET")
    paths = sorted((path for path in _xml_files(top / "train")), key=lambda path: _age(path.relative_to(top)))
    if not paths:
        raise DatasetError(f"{top / 'train'}: no .xml file in it")
    stems = [path.relative_to(top).with_suffix("").as_posix() for path in paths]
    shown = _names_in(paths, workers)
    for name in classes.annotation_names:
        images = [stem for stem, names in zip(stems, shown, strict=True) if name in names]
        whole = not limit or name in unlimited
        yield from (f"{stem} 1" for stem in (images if whole else images[:limit]))


def _xml_files(top: Path) -> Iterator[Path]:
    for folder, _, files in os.walk(top):
        yield from (Path(folder, name) for name in files if name.endswith(".xml"))


def _age(path: Path) -> tuple[int, str]:
    """Sorts the newest challenge first, and then by name."""
    year = _YEAR.search(path.as_posix())
    return -int(year.group(1)) if year else 0, path.with_suffix("").as_posix()


def _names_in(paths: Sequence[Path], workers: int) -> list[frozenset[str]]:
    """The annotation names in each annotation file."""
    chunks = [paths[start : start + _CHUNK] for start in range(0, len(paths), _CHUNK)]
    found: list[frozenset[str]] = []
    with (
        ProcessPoolExecutor(max(1, min(workers, len(chunks)))) as pool,
        tqdm(total=len(paths), unit="file", desc="annotations of stills", delay=1) as bar,
    ):
        try:
            for part in pool.map(_read_names, chunks):
                found += part
                bar.update(len(part))
        except AnnotationError as error:
            pool.shutdown(cancel_futures=True)
            raise DatasetError(str(error)) from error
    return found


def _read_names(paths: Sequence[Path]) -> list[frozenset[str]]:
    return [frozenset(read_annotation(path).names) for path in paths]
