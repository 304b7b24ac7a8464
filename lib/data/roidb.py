"""The training entries ("roidb"): all frames with objects of all sets, each set followed by its mirrored copies.

See docs/rules.md, section 3. The log says how many frames and objects were left out, and why.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from dataclasses import dataclass, field, fields, replace

import numpy as np

from lib.data.annotations import AnnotationIndex
from lib.data.classes import Classes
from lib.data.frame_files import FrameFiles
from lib.data.image_sets import DatasetError, frame_stem
from lib.data.imagenet_vid import ImageNetVID
from lib.data.transforms import flip_boxes
from lib.errors import some_of

_log = logging.getLogger(__name__)
_STILL = -1


@dataclass(frozen=True)
class Roidb:
    """N training entries with G objects, column by column; the objects of entry i are rows `offsets[i]:offsets[i + 1]`.

    There is no Python object per entry, so that reader processes share the columns instead of copying them.

    paths: (N,) bytes, the folder of the video, or of a still its file without suffix. numbers: (N,) int32, 0-based
    number of the frame, -1 for a still. lengths: (N,) int32, frames of the video, 1 for a still. flipped: (N,) bool.
    widths, heights: (N,) int32. offsets: (N + 1,) int64. boxes: (G, 4) int32, original pixels, mirrored in mirrored
    entries. labels: (G,) int64, from 1. digests: name of each list -> SHA-256 of its bytes. files: finds the images.
    """

    paths: np.ndarray
    numbers: np.ndarray
    lengths: np.ndarray
    flipped: np.ndarray
    widths: np.ndarray
    heights: np.ndarray
    offsets: np.ndarray
    boxes: np.ndarray
    labels: np.ndarray
    digests: dict[str, str] = field(default_factory=dict)
    files: FrameFiles = field(default_factory=FrameFiles)

    def __len__(self) -> int:
        return len(self.paths)

    def position(self, entry: int) -> tuple[int, int]:
        """The 0-based frame number of an entry and the length of its video; (0, 1) for a still."""
        return max(0, int(self.numbers[entry])), int(self.lengths[entry])

    def image_path(self, entry: int, frame: int) -> str:
        """The image file of frame `frame` of the entry's video; a still is its own and only frame.

        Raises FrameFilesError.
        """
        path = os.fsdecode(self.paths[entry])
        if self.numbers[entry] == _STILL:
            return self.files.image(path)
        names = self.files.frame_names(path)
        return self.files.image(frame_stem(path, frame) if names is None else os.path.join(path, names[frame]))

    def objects(self, entry: int) -> tuple[np.ndarray, np.ndarray]:
        """Boxes (n, 4) and labels (n,) of an entry."""
        rows = slice(self.offsets[entry], self.offsets[entry + 1])
        return self.boxes[rows], self.labels[rows]

    def mirrored(self) -> Roidb:
        """The same entries, mirrored left to right."""
        widths = np.repeat(self.widths, np.diff(self.offsets))
        return replace(self, flipped=~self.flipped, boxes=flip_boxes(self.boxes, widths))

    @staticmethod
    def cat(parts: Sequence[Roidb]) -> Roidb:
        """The entries of all `parts`, in order."""
        names = [column.name for column in fields(Roidb) if column.name not in ("offsets", "digests", "files")]
        columns = {name: np.concatenate([getattr(part, name) for part in parts]) for name in names}
        counts = np.concatenate([np.diff(part.offsets) for part in parts])
        digests = {name: digest for part in parts for name, digest in part.digests.items()}
        return Roidb(**columns, offsets=np.concatenate(([0], np.cumsum(counts))), digests=digests)


def load_roidb(
    dataset_path: str | os.PathLike,
    image_sets: str,
    classes: Classes,
    cache_path: str | os.PathLike,
    flip: bool = True,
) -> Roidb:
    """The training entries of `image_sets`, names joined with `+`.

    Frames without an object to learn from are left out; the log says how many and why. Raises DatasetError, also
    when nothing is left.
    """
    parts: list[Roidb] = []
    accounts: list[str] = []
    for name in image_sets.split("+"):
        dataset = ImageNetVID(dataset_path, name.strip(), classes, cache_path, training=True)
        entries, account = _entries(dataset)
        accounts.append(account)
        _log.info("%s", account)
        parts += [entries, entries.mirrored()] if flip else [entries]
    roidb = Roidb.cat(parts)
    if not len(roidb):
        raise DatasetError(
            "nothing is left to train on. "
            + " ".join(accounts)
            + f" The class list expects the annotation names {some_of(list(classes.annotation_names))};"
            " if the annotations use others, give a class list that has them (data/README.md)"
        )
    _log.info("%d training entries%s", len(roidb), ", half of them mirrored copies" if flip else "")
    return roidb


def _entries(dataset: ImageNetVID) -> tuple[Roidb, str]:
    """The usable frames of one set, not mirrored, and a sentence about the others."""
    image_set, index = dataset.image_set, dataset.index
    labels = index.labels(dataset.classes)
    boxes, inside = index.training_boxes()
    usable = (labels > 0) & inside
    counts = np.bincount(index.frame_of_object()[usable], minlength=index.num_frames)
    kept = counts > 0
    paths = [os.path.join(image_set.root, "Data", image_set.kind, path) for path in image_set.paths]
    videos = image_set.columns == 4
    roidb = Roidb(
        paths=np.array([os.fsencode(path) for path in paths])[kept],
        numbers=np.where(videos, image_set.numbers[:, 1], _STILL).astype(np.int32)[kept],
        lengths=image_set.numbers[:, 2].astype(np.int32)[kept],
        flipped=np.zeros(kept.sum(), np.bool_),
        widths=index.widths[kept],
        heights=index.heights[kept],
        offsets=np.concatenate(([0], np.cumsum(counts[kept]))),
        boxes=boxes[usable],
        labels=labels[usable],
        digests={image_set.name: image_set.digest},
    )
    return roidb, _account(image_set.name, index, labels, usable, kept)


def _account(name: str, index: AnnotationIndex, labels: np.ndarray, usable: np.ndarray, kept: np.ndarray) -> str:
    """One sentence that counts the used and unused frames and objects of a set, by reason."""
    frames = index.frame_of_object()
    objects = np.diff(index.offsets)
    unknown = np.bincount(frames[labels == 0], minlength=index.num_frames)
    empty = objects == 0
    foreign = ~empty & (unknown == objects)
    degenerate = ~kept & ~empty & ~foreign
    text = f"{name}: {kept.sum()} of {len(kept)} frames are used"
    reasons = {
        "have no object": empty.sum(),
        "have only objects outside the class list": foreign.sum(),
        "have only impossible boxes (outside the image, or inside out) of known classes": degenerate.sum(),
    }
    text += "".join(f"; {count} {reason}" for reason, count in reasons.items() if count)
    text += f". {usable.sum()} of {len(usable)} objects are used"
    if (labels == 0).any():
        ids, counts = np.unique(index.name_ids[labels == 0], return_counts=True)
        order = np.argsort(-counts, kind="stable")
        named = [f"{index.names[ids[i]]!s} ({counts[i]})" for i in order]
        text += f"; outside the class list: {some_of(named)}"
    if ((labels > 0) & ~usable).any():
        text += f"; with an impossible box: {((labels > 0) & ~usable).sum()}"
    return text + "."
