"""An image set of ImageNet VID, or of any data in its layout (data/README.md): its frames, videos and ground truth."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from lib.data.annotations import AnnotationIndex
from lib.data.classes import Classes
from lib.data.frame_files import natural_key
from lib.data.image_sets import DatasetError, ImageSet, load_image_set
from lib.data.index_cache import load_index
from lib.data.transforms import Preprocessing, read_image
from lib.structures import Frame, GroundTruth

_MOST_FRAMES = 50_000_000  # of a set; ImageNet VID has 176,126 to test on


@dataclass(frozen=True)
class Video:
    """Consecutive frames of one folder, or one still image.

    name: the folder as the list has it. first_frame_id: id of its first frame in the results, 1-based, cumulative over
    the set. stems: its frames in order, as paths below Data/<kind> without suffix. image_set: where it comes from.
    """

    name: str
    first_frame_id: int
    stems: list[str]
    image_set: ImageSet

    @property
    def length(self) -> int:
        """Number of frames."""
        return len(self.stems)

    def frame_path(self, i: int) -> str:
        """The image file of frame `i`, from 0."""
        return self.image_set.image_path(self.stems[i])

    def frames(self, preprocessing: Preprocessing) -> Iterator[Frame]:
        """The frames as a network reads them, in order."""
        for i in range(self.length):
            image = read_image(self.frame_path(i))
            frame_id, name = self.first_frame_id + i, os.path.basename(self.stems[i])
            yield preprocessing(image, frame_id=frame_id, first=i == 0, index=i, name=name, video=self.name)


class ImageNetVID:
    """One image set on disk.

    dataset_path: the folder with Data, Annotations and ImageSets. image_set: name of a list.
    cache_path: folder for the annotation cache. training: a line of a four-column list means the single frame that
    its third column numbers; otherwise it means the whole video. Raises DatasetError for a list that cannot be used.
    """

    def __init__(
        self,
        dataset_path: str | os.PathLike,
        image_set: str,
        classes: Classes,
        cache_path: str | os.PathLike,
        training: bool = False,
    ) -> None:
        if "+" in image_set:
            raise DatasetError(f"image set '{image_set}': sets are joined with + for training only")
        self.image_set = load_image_set(dataset_path, image_set)
        self.classes = classes
        self.training = training
        self._cache_path = cache_path
        self._videos = [] if training else _videos_of(self.image_set)
        self._stems, self._lines = _listed_frames(self.image_set) if training else self._frames_of_videos()

    def _frames_of_videos(self) -> tuple[list[str], np.ndarray]:
        stems = [stem for video in self._videos for stem in video.stems]
        if self.image_set.columns == 2:
            return stems, self.image_set.lines
        return stems, np.repeat(self.image_set.lines, [video.length for video in self._videos])

    def __len__(self) -> int:
        """Number of frames F."""
        return len(self._stems)

    def frame_paths(self) -> list[str]:
        """The image files of all F frames, in the order of their ids."""
        return [self.image_set.image_path(stem) for stem in self._stems]

    def videos(self) -> list[Video]:
        """The videos in the order of the list; stills, and frames listed for training, are videos of one frame."""
        if self.training:
            stems = enumerate(self._stems, 1)
            return [Video(stem, frame_id, [stem], self.image_set) for frame_id, stem in stems]
        return self._videos

    @cached_property
    def index(self) -> AnnotationIndex:
        """The annotations of all F frames, read when first asked for. Raises DatasetError."""
        what = "frames" if self.training else "videos"
        return load_index(self.image_set, self._stems, self._lines, self._cache_path, what)

    def ground_truth(self) -> GroundTruth:
        """All objects of known classes, with their boxes as the XML files give them: evaluation does not clip."""
        index = self.index
        labels = index.labels(self.classes)
        known = labels > 0
        per_frame = np.bincount(index.frame_of_object()[known], minlength=index.num_frames)
        lengths = [video.length for video in self.videos()]
        return GroundTruth(
            class_names=list(self.classes.names),
            videos=np.repeat(np.arange(len(lengths)), lengths),
            offsets=np.concatenate(([0], np.cumsum(per_frame))),
            boxes=index.boxes[known],
            labels=labels[known],
            track_ids=index.track_ids[known],
        )


def _listed_frames(image_set: ImageSet) -> tuple[list[str], np.ndarray]:
    """The frame that each line names: stems (n,) and line numbers (n,)."""
    if image_set.columns == 2:
        return image_set.paths, image_set.lines
    columns = image_set.paths, image_set.numbers.tolist(), image_set.lines.tolist()
    stems = [
        image_set.frame_stems(path, length, line)[number]
        for path, (_, number, length), line in zip(*columns, strict=True)
    ]
    return stems, image_set.lines


def _videos_of(image_set: ImageSet) -> list[Video]:
    """The videos of a list for testing. Frame ids are positions in the set, whatever a subset's own columns say."""
    stems_of = _whole(image_set) if image_set.columns == 4 else _grouped(image_set)
    videos: list[Video] = []
    frame_id = 1
    for name, stems in stems_of:
        videos.append(Video(name, frame_id, stems, image_set))
        frame_id += len(stems)
    _warn_of_other_ids(image_set, [video.first_frame_id for video in videos])
    return videos


def _warn_of_other_ids(image_set: ImageSet, first_ids: Sequence[int]) -> None:
    """Warn where the list's own ids are not those of its videos; one number throughout a two-column list is no id."""
    own = image_set.numbers[:, 0]
    four = image_set.columns == 4
    if np.array_equal(own, first_ids if four else np.arange(1, len(own) + 1)) or not (four or np.ptp(own)):
        return
    logging.getLogger(__name__).warning(
        "%s: its %sframe ids are not cumulative from 1; frames are numbered by their position",
        image_set.path,
        "first " if four else "",
    )


def _grouped(image_set: ImageSet) -> Iterator[tuple[str, list[str]]]:
    """Name and stems of each video of a two-column list: consecutive frames of one folder; each still by itself.

    Raises DatasetError where the frames of a video are not together or not in order.
    """
    if image_set.kind == "DET":
        yield from ((stem, [stem]) for stem in image_set.paths)
        return
    ended: dict[str, int] = {}  # video -> its last line
    previous, previous_key, stems = None, (), []
    for stem, line in zip(image_set.paths, image_set.lines.tolist(), strict=True):
        name, _, frame = stem.rpartition("/")
        key = natural_key(frame)
        if name != previous:
            if stems:
                yield previous, stems
            previous, stems = name, []
        if name in ended and (not stems or key <= previous_key):
            raise DatasetError(
                f"{image_set.path}:{line}: {stem} is out of order, another frame of its video is in line "
                f"{ended[name]}; list the frames of each video to test on one after the other, in order, each once"
            )
        stems.append(stem)
        previous_key, ended[name] = key, line
    yield previous, stems


def _whole(image_set: ImageSet) -> Iterator[tuple[str, list[str]]]:
    """Name and stems of each video of a four-column list."""
    total = int(image_set.numbers[:, 2].sum())
    if total > _MOST_FRAMES:
        raise DatasetError(f"{image_set.path}: its videos have {total} frames together, more than {_MOST_FRAMES}")
    seen: dict[str, int] = {}
    for name, line, (_, number, length) in zip(image_set.paths, image_set.lines, image_set.numbers, strict=True):
        if number or name in seen:
            raise DatasetError(
                f"{image_set.path}:{line}: names frame {number} of {name}"
                + (f", which line {seen[name]} names too" if name in seen else "")
                + "; a list for testing has one line per video: 'path first_frame_id 0 length'"
            )
        seen[name] = line
        yield name, list(image_set.frame_stems(name, int(length), int(line)))
