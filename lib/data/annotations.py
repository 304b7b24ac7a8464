"""Read XML annotation files: one as an object, those of an image set as columns (docs/rules.md, sections 3 and 6)."""

from __future__ import annotations

import math
import os
import xml.etree.ElementTree as ElementTree
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import NamedTuple

import numpy as np

from lib.data.classes import Classes
from lib.errors import InputError
from lib.files import read_bytes


class AnnotationError(InputError):
    """An annotation file that cannot be used; the message names it."""


class Annotation(NamedTuple):
    """One XML file as it is written: nothing clipped, no class left out. Lists have one entry per object.

    boxes: (x1, y1, x2, y2) in original pixels, 0-based, used as they stand in the file (no -1). names: as written,
    neither stripped nor lower-cased. track_ids: -1 where the file has none (DET stills).
    """

    height: int
    width: int
    names: list[str]
    boxes: list[tuple[float, float, float, float]]
    track_ids: list[int]
    occluded: list[bool]
    generated: list[bool]


_CORNERS = ("xmin", "ymin", "xmax", "ymax")
_MOST_BYTES = 1 << 24  # some 80,000 objects
_MOST_PIXELS = 1_000_000  # of a side; JPEG has 65,535
_MOST_DIGITS = 20
_LONGEST_NAME = 200  # characters: the names of a set are kept in an array as wide as the longest


def read_annotation(path: str | os.PathLike) -> Annotation:
    """Parse the ILSVRC XML file at `path`. Raises AnnotationError."""
    content = read_bytes(path, AnnotationError, "give an annotation in XML", most=_MOST_BYTES)
    try:
        root = ElementTree.fromstring(content)
    except (ElementTree.ParseError, ValueError, LookupError) as error:  # the last two: an encoding that is not known
        raise AnnotationError(f"{path}: not valid XML ({error})") from error
    annotation = Annotation(_pixels(root, "height", path), _pixels(root, "width", path), [], [], [], [], [])
    for number, item in enumerate(root.iterfind("object"), 1):
        try:
            _append(annotation, item)
        except (TypeError, ValueError, AttributeError) as error:
            raise AnnotationError(
                f"{path}: object {number} needs a <name> and a <bndbox> with numbers in {', '.join(_CORNERS)}, "
                f"and whole numbers in <trackid>, <occluded> and <generated> where it has them ({str(error)[:200]})"
            ) from error
    return annotation


def _pixels(root: ElementTree.Element, side: str, path: str | os.PathLike) -> int:
    text = root.findtext(f"size/{side}", "").strip()
    pixels = int(text) if text.isdecimal() and len(text) <= _MOST_DIGITS else 0
    if not 0 < pixels <= _MOST_PIXELS:
        raise AnnotationError(
            f"{path}: <size><{side}> must be a whole number of pixels from 1 to {_MOST_PIXELS}, not {text[:50]!r}"
        )
    return pixels


def _append(annotation: Annotation, item: ElementTree.Element) -> None:
    name = item.findtext("name")
    if not name:
        raise ValueError("no name")
    if len(name) > _LONGEST_NAME:
        raise ValueError(f"a name of {len(name)} characters")
    bounds = item.find("bndbox")
    box = tuple(float(bounds.findtext(corner)) for corner in _CORNERS)
    if not all(map(math.isfinite, box)):
        raise ValueError(f"box {box}")
    annotation.names.append(name)
    annotation.boxes.append(box)
    track_id = int(item.findtext("trackid", "-1"))
    if not -(2**63) <= track_id < 2**63:
        raise ValueError("a <trackid> that is too large")
    annotation.track_ids.append(track_id)
    annotation.occluded.append(int(item.findtext("occluded", "0")) != 0)
    annotation.generated.append(int(item.findtext("generated", "0")) != 0)


@dataclass(frozen=True)
class AnnotationIndex:
    """The annotations of F frames with G objects; the objects of frame f are rows `offsets[f]:offsets[f + 1]`.

    heights, widths: (F,) int32, from the XML. offsets: (F + 1,) int64.
    boxes: (G, 4) float64, original pixels, as written. names: the distinct annotation names, str.
    name_ids: (G,) int32, into `names`. track_ids: (G,) int64, -1 where there is none. occluded, generated: (G,) bool.
    """

    heights: np.ndarray
    widths: np.ndarray
    offsets: np.ndarray
    boxes: np.ndarray
    names: np.ndarray
    name_ids: np.ndarray
    track_ids: np.ndarray
    occluded: np.ndarray
    generated: np.ndarray

    @property
    def num_frames(self) -> int:
        return len(self.heights)

    def frame_of_object(self) -> np.ndarray:
        """(G,) int64: the frame of every object."""
        return np.repeat(np.arange(self.num_frames), np.diff(self.offsets))

    def labels(self, classes: Classes) -> np.ndarray:
        """(G,) int64: the label of every object, 0 where its name is not in the class list.

        Names are compared letter by letter: the originals look an object up before they lower-case its name, so
        `N02691156` or a name with a blank around it is an unknown class.
        """
        label_of_name = np.array([classes.labels.get(name, 0) for name in self.names.tolist()], np.int64)
        return label_of_name[self.name_ids] if len(label_of_name) else np.zeros(0, np.int64)

    def training_boxes(self) -> tuple[np.ndarray, np.ndarray]:
        """The boxes that training uses: (G, 4) int32 and a (G,) mask of the usable ones.

        x1 and y1 are raised to 0, x2 and y2 lowered to the last pixel, fractions cut off. A box with x2 < x1 or y2 < y1
        (in the file, or because it lies outside the image) is not usable; the originals stop with an error.
        """
        frames = self.frame_of_object()
        last = np.stack((self.widths[frames] - 1, self.heights[frames] - 1), axis=1)
        corners = np.hstack((np.maximum(self.boxes[:, :2], 0), np.minimum(self.boxes[:, 2:], last)))
        usable = (corners[:, 2:] >= np.maximum(corners[:, :2], 0)).all(axis=1)
        # Unusable rows may hold anything, also numbers too large for an int32
        boxes = np.where(usable[:, None], corners, 0).astype(np.int32)
        return boxes, usable

    @staticmethod
    def of(annotations: Sequence[Annotation]) -> AnnotationIndex:
        """The columns of `annotations`, in order."""
        all_names = [name for annotation in annotations for name in annotation.names]
        names, name_ids = np.unique(np.array(all_names, dtype=str), return_inverse=True)

        def column(attribute: str, dtype: type) -> np.ndarray:
            return np.array([value for annotation in annotations for value in getattr(annotation, attribute)], dtype)

        return AnnotationIndex(
            heights=np.array([annotation.height for annotation in annotations], np.int32),
            widths=np.array([annotation.width for annotation in annotations], np.int32),
            offsets=np.cumsum([0] + [len(annotation.names) for annotation in annotations], dtype=np.int64),
            boxes=column("boxes", np.float64).reshape(-1, 4),
            names=names,
            name_ids=name_ids.astype(np.int32),
            track_ids=column("track_ids", np.int64),
            occluded=column("occluded", np.bool_),
            generated=column("generated", np.bool_),
        )

    @staticmethod
    def cat(parts: Sequence[AnnotationIndex]) -> AnnotationIndex:
        """The frames of all `parts`, in order."""
        names = np.unique(np.concatenate([part.names for part in parts]))
        columns = {f.name: np.concatenate([getattr(part, f.name) for part in parts]) for f in fields(AnnotationIndex)}
        columns["names"] = names
        columns["name_ids"] = np.concatenate(
            [np.searchsorted(names, part.names).astype(np.int32)[part.name_ids] for part in parts]
        )
        counts = np.concatenate([np.diff(part.offsets) for part in parts])
        columns["offsets"] = np.concatenate(([0], np.cumsum(counts)))
        return AnnotationIndex(**columns)
