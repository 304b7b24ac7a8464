"""An image set of ImageNet VID, or of any data in its layout (data/README.md): its frames, videos and ground truth."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from lib.data.annotations import AnnotationIndex
from lib.data.classes import Classes
from lib.data.image_sets import DatasetError, ImageSet, frame_stem, load_image_set
from lib.data.index_cache import load_index
from lib.data.transforms import Preprocessing, read_image
from lib.structures import Frame, GroundTruth


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

    dataset_path: the folder with Data, Annotations and ImageSets. image_set: name of a list, `DET_...` or `VID_...`.
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
    numbers = image_set.numbers[:, 1].tolist()
    return [frame_stem(*pair) for pair in zip(image_set.paths, numbers, strict=True)], image_set.lines


def _videos_of(image_set: ImageSet) -> list[Video]:
    """The videos of a list for testing. Frame ids are positions in the set, whatever a subset's own columns say."""
    stems_of = _grouped(image_set) if image_set.columns == 2 else _whole(image_set)
    videos: list[Video] = []
    frame_id = 1
    for name, stems in stems_of:
        videos.append(Video(name, frame_id, stems, image_set))
        frame_id += len(stems)
    return videos


def _grouped(image_set: ImageSet) -> Iterator[tuple[str, list[str]]]:
    """Name and stems of each video of a two-column list: consecutive frames of one folder; each still by itself."""
    previous = None
    stems: list[str] = []
    for stem in image_set.paths:
        name = stem if image_set.kind == "DET" else stem.rpartition("/")[0]
        if stems and name != previous:
            yield previous, stems
            stems = []
        previous = name
        stems.append(stem)
    yield previous, stems


def _whole(image_set: ImageSet) -> Iterator[tuple[str, list[str]]]:
    """Name and stems of each video of a four-column list."""
    first_ids, numbers, lengths = image_set.numbers.T
    seen: dict[str, int] = {}
    for name, line, number, length in zip(image_set.paths, image_set.lines, numbers, lengths, strict=True):
        if number or name in seen:
            raise DatasetError(
                f"{image_set.path}:{line}: names frame {number} of {name}"
                + (f", which line {seen[name]} names too" if name in seen else "")
                + "; a list for testing has one line per video: 'path first_frame_id 0 length'"
            )
        seen[name] = line
        yield name, [frame_stem(name, i) for i in range(length)]
    expected = np.concatenate(([1], 1 + np.cumsum(lengths)[:-1]))
    if not np.array_equal(first_ids, expected):
        logging.getLogger(__name__).warning(
            "%s: its first frame ids are not cumulative from 1; frames are numbered by their position", image_set.path
        )
