"""Ground truth for an evaluation, from a data set's folder or COCO-VID JSON, and reading of results for it."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from lib.evaluation.coco_files import read_coco_results, read_coco_truth
from lib.evaluation.results_file import DetectionTable, ResultsError, Unfinished, read_blocks, read_results
from lib.evaluation.subset import choose_videos
from lib.structures import GroundTruth


@dataclass(frozen=True)
class EvaluationData:
    """Ground truth and the ids that JSON results use for it.

    videos: names of the V videos. image_ids: (F,) of the frames. category_ids: (K,) of the classes.
    """

    truth: GroundTruth
    videos: list[str]
    image_ids: Sequence[int]
    category_ids: Sequence[int]

    @staticmethod
    def of_truth(truth: GroundTruth, videos: Sequence[str]) -> EvaluationData:
        """A data set's ground truth; JSON results count its frames and classes from 1."""
        return EvaluationData(truth, list(videos), range(1, truth.num_frames + 1), range(1, len(truth.class_names) + 1))

    @staticmethod
    def of_coco(path: str | os.PathLike) -> EvaluationData:
        """The ground truth in a COCO-VID JSON file. Raises ResultsError."""
        coco = read_coco_truth(path)
        return EvaluationData(coco.truth, coco.videos, coco.image_ids, coco.category_ids)

    def blocks(self, file: Path | Unfinished) -> Iterator[DetectionTable]:
        """The detections of one file, piece by piece; JSON ones by frame. Raises ResultsError."""
        if _is_json(file):
            yield read_coco_results(file, self.image_ids, self.category_ids).sorted_by_frame()
        else:
            yield from read_blocks(file, self.truth.num_frames, len(self.truth.class_names))

    def read(self, files: Sequence[Path | Unfinished], num_frames: int, num_classes: int) -> DetectionTable:
        """The detections of all files, which are the parts of one run; see `read_results`."""
        if any(map(_is_json, files)):
            return DetectionTable.cat([block for file in files for block in self.blocks(file)])
        return read_results(files, num_frames, num_classes)

    def chosen_frames(self, results: Sequence[Path | Unfinished], videos: str = "") -> np.ndarray:
        """(F,) bool: the frames of the requested videos that every one of `results` has finished.

        videos: as for `choose_videos`; "": all. Raises SubsetError, and ResultsError where no frame is left.
        """
        wanted = choose_videos(videos, self.videos) if videos else np.ones(len(self.videos), bool)
        for file in results:
            if isinstance(file, Unfinished):
                wanted &= np.arange(len(self.videos)) < file.done
        unfinished = [file for file in results if isinstance(file, Unfinished)]
        if unfinished and not wanted.any():
            raise ResultsError(f"{unfinished[0].path}: no video of those asked for is done yet; try again later")
        return wanted[self.truth.videos]


def _is_json(file: Path | Unfinished) -> bool:
    return Path(file).suffix == ".json"
