"""Check an image set for missing, broken and dropped items: every list line, image, annotation and box.

Loading stops at the first fault; this check reports all of them, each with its reason.
"""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
from tqdm import tqdm

from lib.data.annotations import Annotation, AnnotationError, AnnotationIndex, read_annotation
from lib.data.classes import Classes
from lib.data.frame_files import FrameFilesError, is_image_name
from lib.data.image_sets import DatasetError, ImageSet, frame_stem, load_image_set
from lib.data.transforms import ImageError, read_image
from lib.errors import some_of

_CHUNK = 200
_NO_ANNOTATION = Annotation(1, 1, [], [], [], [], [])

# What can be found, and whether it is wrong or only left out by training or evaluation
WRONG = {
    "list": "list that cannot be used",
    "first id": "first frame id that is not the sum of the lengths before it",
    "no annotation": "annotation file that is missing",
    "bad annotation": "annotation file that cannot be used",
    "no image": "image that is missing",
    "bad image": "image that cannot be decoded, or is cut off",
    "image size": "image of another size than its annotation says",
    "gap": "gap in the frame numbers of a video",
    "length": "video of another length than the list says",
    "impossible box": "box outside its image, or inside out: training drops it",
    "nothing usable": "list without one object to train on or to evaluate with",
}
LEFT_OUT = {
    "repeated": "list line that is there more than once",
    "similar name": "annotation name that is not in the class list, but like one that is: dropped",
    "unknown class": "object outside the class list: dropped",
    "clipped box": "box that reaches over the edge of its image: training clips it",
    "no object": "frame without an object of a known class: training drops it, evaluation counts it",
    "no track": "object without a track id: no AP by motion with it",
}


class Finding(NamedTuple):
    """kind: a key of WRONG or LEFT_OUT. place: a file, or list:line. detail: what is there."""

    kind: str
    place: str
    detail: str

    @property
    def wrong(self) -> bool:
        return self.kind in WRONG


@dataclass
class SetCheck:
    """What an image set holds. index: the annotations of its frames, empty ones where they cannot be read.

    videos: (F,) int64, the video of each frame; None where the frames are single ones to train on.
    """

    name: str
    frames: int = 0
    index: AnnotationIndex | None = None
    videos: np.ndarray | None = None
    findings: list[Finding] = field(default_factory=list)


def check_image_set(
    root: str | os.PathLike, name: str, classes: Classes, decode: bool, annotations_only: bool = False, workers: int = 1
) -> SetCheck:
    """Check one image set.

    decode: read every listed image and compare its size. annotations_only: do not require images.
    """
    check = SetCheck(name)
    try:
        image_set = load_image_set(root, name)
    except DatasetError as error:
        check.findings.append(Finding("list", name, str(error)))
        return check
    whole = image_set.columns == 4 and not image_set.numbers[:, 1].any()
    check.findings += _repeated_lines(image_set)
    if whole:
        check.findings += _first_ids(image_set)
    stems, videos, findings = _stems(image_set, whole)
    check.findings += findings
    if whole and videos:
        check.videos = np.array(videos, np.int64)
    check.frames = len(stems)
    if not stems:
        return check
    if image_set.columns == 4 and not annotations_only:
        check.findings += _folders(image_set)
    images = not annotations_only
    check.index, findings = _annotations(
        image_set, stems, images and image_set.columns == 2, decode and images, workers
    )
    check.findings += findings
    broken = {finding.place for finding in findings if finding.kind in ("no annotation", "bad annotation")}
    check.findings += _objects(check.index, classes, [image_set.annotation_path(stem) for stem in stems], broken)
    check.findings += _names(check.index, classes, image_set.path)
    if len(broken) < len(set(stems)):  # otherwise that is what is wrong
        check.findings += _nothing_usable(check.index, classes, image_set.path)
    if image_set.kind == "DET":  # stills have no tracks
        check.findings = [finding for finding in check.findings if finding.kind != "no track"]
    return check


def _stems(image_set: ImageSet, whole: bool) -> tuple[list[str], list[int], list[Finding]]:
    """The frames that a list names: all of its videos, `whole`, or one for each line; and the line of each, from 0."""
    if image_set.columns == 2:
        return image_set.paths, [], []
    columns = image_set.paths, image_set.numbers.tolist(), image_set.lines.tolist()
    stems: list[str] = []
    lines: list[int] = []
    findings: list[Finding] = []
    for row, (path, (_, number, length), line) in enumerate(zip(*columns, strict=True)):
        place = f"{image_set.path}:{line}"
        try:
            frames = image_set.frame_stems(path, length, line)
        except (DatasetError, FrameFilesError) as error:
            findings.append(Finding("length", place, str(error).removeprefix(f"{place}: ")))
            continue
        frames = frames if whole else [frames[number]]
        stems += frames
        lines += [row] * len(frames)
    return stems, lines, findings


def _repeated_lines(image_set: ImageSet) -> Iterator[Finding]:
    keys = list(zip(image_set.paths, image_set.numbers[:, 1].tolist(), strict=True))
    first: dict[tuple[str, int], int] = {}
    for line, key in zip(image_set.lines.tolist(), keys, strict=True):
        if key in first:
            yield Finding("repeated", f"{image_set.path}:{line}", f"{key[0]}, as in line {first[key]}")
        first.setdefault(key, line)


def _first_ids(image_set: ImageSet) -> Iterator[Finding]:
    expected = 1
    for line, (first, _, length) in zip(image_set.lines.tolist(), image_set.numbers.tolist(), strict=True):
        if first != expected:
            yield Finding("first id", f"{image_set.path}:{line}", f"{first} instead of {expected}")
        expected += length


def _folders(image_set: ImageSet) -> Iterator[Finding]:
    """The images of every video of a four-column list: all its frames must be there, as references too."""
    lengths: dict[str, tuple[int, int]] = {}
    for path, line, length in zip(
        image_set.paths, image_set.lines.tolist(), image_set.numbers[:, 2].tolist(), strict=True
    ):
        known, known_line = lengths.setdefault(path, (length, line))
        if known != length:
            yield Finding(
                "length", f"{image_set.path}:{line}", f"{path}: {length} frames, but {known} in line {known_line}"
            )
    for path, (length, line) in tqdm(lengths.items(), unit="video", desc=f"images of {image_set.name}", delay=1):
        folder = os.path.join(image_set.root, "Data", image_set.kind, path)
        try:
            names = {entry.name for entry in os.scandir(folder) if is_image_name(entry.name)}
        except OSError as error:
            yield Finding("no image", folder, f"{image_set.path}:{line} names this folder ({error.strerror})")
            continue
        if names and "000000.JPEG" not in names:  # in natural order: as many as the list says, or no list of frames
            continue
        there = [f"{number:06d}.JPEG" in names for number in range(length)]
        last = max((number for number in range(length) if there[number]), default=-1)
        for number in (number for number in range(length) if not there[number]):
            kind = "gap" if number < last else "no image"
            yield Finding(
                kind, image_set.image_path(frame_stem(path, number)), f"no such file ({image_set.path}:{line})"
            )
        if len(names) != length:
            detail = f"the list says {length} frames ({image_set.path}:{line}), the folder has {len(names)}"
            yield Finding("length", folder, detail)


def _annotations(
    image_set: ImageSet, stems: Sequence[str], images: bool, decode: bool, workers: int
) -> tuple[AnnotationIndex, list[Finding]]:
    """The annotations of all frames, and what is wrong with their files."""
    work = [(image_set.annotation_path(stem), image_set.image_path(stem), images, decode) for stem in stems]
    chunks = [work[start : start + _CHUNK] for start in range(0, len(work), _CHUNK)]
    parts: list[AnnotationIndex] = []
    findings: list[Finding] = []
    with tqdm(total=len(work), unit="frame", desc=f"annotations of {image_set.name}", delay=1) as bar:
        for part, found in _map(chunks, workers):
            parts.append(part)
            findings += found
            bar.update(part.num_frames)
    return AnnotationIndex.cat(parts), findings


Work = tuple[str, str, bool, bool]


def _map(chunks: list[list[Work]], workers: int) -> Iterator[tuple[AnnotationIndex, list[Finding]]]:
    if workers < 2 or len(chunks) < 2:
        yield from map(_examine, chunks)
        return
    with ProcessPoolExecutor(min(workers, len(chunks))) as pool:
        yield from pool.map(_examine, chunks)


def _examine(chunk: list[Work]) -> tuple[AnnotationIndex, list[Finding]]:
    """One process's share of the files."""
    cv2.setNumThreads(1)
    annotations, findings = [], []
    for annotation_path, image_path, image, decode in chunk:
        annotation = None
        try:
            annotation = read_annotation(annotation_path)
        except AnnotationError as error:
            kind = "bad annotation" if os.path.isfile(annotation_path) else "no annotation"
            findings.append(Finding(kind, annotation_path, str(error).removeprefix(f"{annotation_path}: ")))
        annotations.append(annotation or _NO_ANNOTATION)
        there = os.path.isfile(image_path) if image or decode else False
        if image and not there:
            findings.append(Finding("no image", image_path, "no such file"))
        if decode and there:
            findings += _image(image_path, annotation)
    return AnnotationIndex.of(annotations), findings


def _image(path: str, annotation: Annotation | None) -> Iterator[Finding]:
    try:
        height, width = read_image(path).shape[:2]
    except ImageError as error:
        yield Finding("bad image", path, str(error).removeprefix(f"{path}: "))
        return
    if annotation and (height, width) != (annotation.height, annotation.width):
        detail = f"{width}x{height} pixels, but {annotation.width}x{annotation.height} in the annotation"
        yield Finding("image size", path, detail)


def _objects(index: AnnotationIndex, classes: Classes, paths: Sequence[str], broken: set[str]) -> Iterator[Finding]:
    """What is dropped or changed of the annotated objects, and the frames that have none.

    paths: (F,) annotation files; broken: those of them that could not be read.
    """
    labels, frames = index.labels(classes), index.frame_of_object()
    _, usable = index.training_boxes()
    sides = np.stack((index.widths[frames], index.heights[frames]), axis=1)
    over = ((index.boxes[:, :2] < 0) | (index.boxes[:, 2:] > sides - 1)).any(axis=1)
    kinds = {
        "unknown class": labels == 0,
        "impossible box": ~usable,
        "clipped box": usable & over,
        "no track": (index.track_ids < 0) & (labels > 0),
    }
    for kind, which in kinds.items():
        for row in np.flatnonzero(which).tolist():
            frame = int(frames[row])
            box = ", ".join(f"{x:g}" for x in index.boxes[row])
            detail = f"object {row - index.offsets[frame] + 1}, {index.names[index.name_ids[row]]}, ({box})"
            yield Finding(kind, paths[frame], f"{detail} in {index.widths[frame]}x{index.heights[frame]}")
    known, every = np.bincount(frames[labels > 0], minlength=index.num_frames), np.diff(index.offsets)
    for frame in np.flatnonzero(known == 0).tolist():
        if paths[frame] not in broken:
            yield Finding(
                "no object", paths[frame], f"{every[frame]} of other classes" if every[frame] else "no object at all"
            )


def _names(index: AnnotationIndex, classes: Classes, path: str) -> Iterator[Finding]:
    """The names of objects that differ from a class, or from its display name, in nothing but how they are spelt."""
    meant = {
        _spelt_alike(spelling): name
        for spellings in (classes.names, classes.annotation_names)
        for spelling, name in zip(spellings, classes.annotation_names, strict=True)
    }
    objects = np.bincount(index.name_ids, minlength=len(index.names)).tolist()
    for name, count in zip(index.names.tolist(), objects, strict=True):
        like = meant.get(_spelt_alike(name))
        if like is not None and name not in classes.labels:
            detail = (
                f"{count} x '{name}': did you mean '{like}'? Class list and annotations must agree letter by letter"
            )
            yield Finding("similar name", path, detail)


def _spelt_alike(name: str) -> str:
    """`name` without what a person may write differently: capitals, blanks, underscores, hyphens."""
    return re.sub(r"[\s_-]", "", name).casefold()


def _nothing_usable(index: AnnotationIndex, classes: Classes, path: str) -> Iterator[Finding]:
    """A list none of whose objects is of a known class and at least partly in its image, and why."""
    _, inside = index.training_boxes()
    known = index.labels(classes) > 0
    if (known & inside).any():
        return
    if known.any():
        why = "none of its boxes lies in its image"
    elif len(known):
        names = (some_of([f"'{name}'" for name in names]) for names in (index.names.tolist(), classes.annotation_names))
        why = "its objects are named {}, and the class list has {}: correct classes.txt or --classes".format(*names)
    else:
        why = "no annotation file of it has an object"
    yield Finding("nothing usable", path, why)


def find_image_sets(root: str | os.PathLike) -> list[str]:
    """The names of all lists of a data set. Raises DatasetError where it has none."""
    folder = Path(root, "ImageSets")
    names = sorted(path.stem for path in folder.glob("*.txt") if not path.name.startswith("."))
    if not names:
        raise DatasetError(f"{folder}: no list (*.txt) in it; is '{root}' the folder of a data set?")
    return names


def count_findings(findings: Sequence[Finding]) -> dict[str, int]:
    """The number of findings of each kind, in the order of WRONG and LEFT_OUT."""
    counts = Counter(finding.kind for finding in findings)
    return {kind: counts[kind] for kind in (*WRONG, *LEFT_OUT) if counts[kind]}
