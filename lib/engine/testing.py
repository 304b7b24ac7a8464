"""Testing, apart from the detector itself: the test set, the results on disk, and their evaluation.

Everything that the evaluation reads is opened before the first frame. The results of every finished video are kept: an
interrupted test continues after the last one, and a finished test is not repeated.
"""

from __future__ import annotations

import hashlib
import json
import logging
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from tqdm import tqdm

from lib.config import Config, to_dict
from lib.data.classes import Classes
from lib.data.imagenet_vid import ImageNetVID, Video
from lib.engine.inference import Timing
from lib.engine.provenance import file_digest, provenance
from lib.engine.run import Run
from lib.engine.shared_results import file_of_process, is_finished_share, join_shares, note_share
from lib.engine.sharing import share_videos
from lib.evaluation.evaluate import EVALUATION, Evaluation, KnownMotion, evaluate, find_motion
from lib.evaluation.results_file import (
    DECIMALS,
    DETECTIONS,
    RAW_DECIMALS,
    RAW_DETECTIONS,
    TIMING,
    ResultsWriter,
)
from lib.files import sha256_of, write_json
from lib.models.video_model import KnownFlow, ZeroFlow
from lib.structures import Detections, Frame, GroundTruth

_LOGGER = logging.getLogger(__name__)
_FINISHED = "made_with.json"  # "detections_made_with.json" beside the results


@dataclass(frozen=True)
class TestSet:
    """The videos to test, and the ground truth to evaluate the detections with.

    truth: of the whole image set. chosen: (F,) bool, the frames of `videos`. motion: of the objects in them, None if
    only all objects together are evaluated. digest: of the image set's list.
    """

    classes: Classes
    videos: list[Video]
    truth: GroundTruth
    chosen: np.ndarray
    motion: KnownMotion
    digest: str


def open_test_set(run: Run, videos: int = 0) -> TestSet:
    """The run's test set, or its first `videos` ones; 0: all. Raises InputError for anything missing or broken."""
    dataset_cfg = run.cfg.dataset
    classes = run.dataset_classes()
    cache = Path(dataset_cfg.root_path) / "cache"
    dataset = ImageNetVID(dataset_cfg.dataset_path, dataset_cfg.test_image_set, classes, cache)
    truth, all_videos = dataset.ground_truth(), dataset.videos()
    chosen = np.ones(truth.num_frames, bool)
    if 0 < videos < len(all_videos):
        _LOGGER.info("only the first %d of %d videos", videos, len(all_videos))
        all_videos = all_videos[:videos]
        chosen = np.arange(truth.num_frames) < sum(video.length for video in all_videos)
    detailed = dataset_cfg.enable_detailed_eval
    motion = find_motion(truth, dataset_cfg.motion_iou_path, chosen) if detailed else KnownMotion.not_wanted()
    return TestSet(classes, all_videos, truth, chosen, motion, dataset.image_set.digest)


def folder_suffix(flow: str = "learned", videos: int = 0) -> str:
    """Suffix of the test folder, so that a test with options does not replace the results of the plain test."""
    return ("" if flow == "learned" else f"_{flow}_flow") + (f"_first_{videos}" if videos else "")


def known_flow(kind: str, cfg: Config) -> KnownFlow | None:
    """The flow that replaces the learned one for `kind` "zero" or "true"; None for "learned". Raises InputError."""
    if kind == "true":
        from lib.synthetic.true_flow import TrueFlow  # only this needs the generator

        return TrueFlow(cfg.dataset.dataset_path)
    return ZeroFlow() if kind == "zero" else None


class TestResults:
    """The results file of a test; use it in a `with` statement.

    `left`: the videos that this process still has to process. Finished videos of an interrupted test with the same
    weights, configuration and videos are kept; if that test is finished, none are left. Several processes share the
    videos (`lib.engine.sharing`); the main process joins their results into the file that one process would write.
    `timing`: pass it to the inference loop. raw: keep more decimals, for Seq-NMS later. redo: detect again in any case.
    flow: "learned", "zero" or "true". Raises OutputError.
    """

    def __init__(
        self, run: Run, folder: Path, test_set: TestSet, *, raw: bool = False, redo: bool = False, flow: str = "learned"
    ) -> None:
        self.run, self.folder = run, folder
        self.path = folder / (RAW_DETECTIONS if raw else DETECTIONS)
        self.fingerprint = _fingerprint(run, test_set, raw, flow)
        self.timing = Timing()
        self.key_frames = 0  # of Deep Feature Flow
        self.left: list[Video] = []
        self._videos, self._redo = test_set.videos, redo
        self._decimals = RAW_DECIMALS if raw else DECIMALS
        self._writer: ResultsWriter | None = None

    def __enter__(self) -> TestResults:
        processes = self.run.processes
        # All processes follow the main process's decision
        self._finished = processes.gather_objects(not self._redo and _is_finished(self.path, self.fingerprint))[0]
        if self._finished:
            _LOGGER.info(
                "%s: already detected with these weights and this configuration (--redo repeats it)", self.path
            )
            return self
        shares = share_videos([video.length for video in self._videos], processes.size)
        self._own = shares[processes.rank]
        self._files = [file_of_process(self.path, rank, processes.size) for rank in range(processes.size)]
        self._mark = f"redo of {self.fingerprint}" if self._redo else self.fingerprint
        file = self._files[processes.rank]
        if processes.size > 1 and is_finished_share(file, self._mark):
            return self
        self._writer = ResultsWriter(file, self._mark, self._decimals).__enter__()
        done = self._writer.done
        self.left = [self._videos[number] for number in self._own[done:]]
        if done:
            _LOGGER.info("going on after %d of %d videos that an interrupted test has done", done, len(self._own))
        self._bar = tqdm(
            total=sum(video.length for video in self.left),
            unit="frame",
            desc="testing",
            smoothing=0.05,
            dynamic_ncols=True,
            disable=not processes.is_main,
        )
        return self

    def add(self, frame: Frame, detections: Detections) -> None:
        """Append the detections of the next frame of the videos in `left`."""
        self._writer.add(frame.frame_id, detections)
        self.key_frames += bool(frame.key_frame)
        self._bar.update()

    def end_video(self) -> None:
        """Mark the current video as finished, so that an interrupted test continues after it."""
        self._writer.checkpoint(self._writer.done + 1)

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None):
        processes = self.run.processes
        if self._writer is not None:
            self._bar.close()
            self._writer.__exit__(kind, error, trace)
        if kind is not None or self._finished:
            return
        if processes.size > 1:
            if self._writer is not None:
                note_share(self._writer.path, self._mark, self._own, self._writer.ends)
            processes.wait_for_all()
            if processes.is_main:
                join_shares(self.path, self._files, len(self._videos))
            processes.wait_for_all()
        if processes.is_main:
            self._conclude()

    def _conclude(self) -> None:
        """Log the times, and write what produced the results beside them."""
        _LOGGER.info("%s: %s", self.path, self.timing.summary())
        if self.key_frames:
            interval = self.timing.frames / self.key_frames
            _LOGGER.info("%d key frames, one in %.2f frames", self.key_frames, interval)
        made_with = provenance(self.run.cfg, self.run.device, self.run.weights)
        content = {"results": sha256_of(self.path), "fingerprint": self.fingerprint, **made_with}
        write_json(_finished_file(self.path), content)
        if len(self.left) == len(self._own):  # otherwise the time covers only some of the videos
            write_json(self.folder / TIMING, self.timing.to_json())


def evaluate_test(run: Run, folder: Path, test_set: TestSet) -> Evaluation:
    """Evaluate the detections in `folder`, log the table, and write evaluation.json, with what produced them."""
    evaluation = evaluate(test_set.truth, [folder / DETECTIONS], test_set.motion, chosen=test_set.chosen)
    _LOGGER.info("%s", evaluation.table())
    made_with = _read(_finished_file(folder / DETECTIONS))
    made_with.pop("fingerprint", None)
    write_json(folder / EVALUATION, evaluation.to_json() | {"made_with": made_with})
    return evaluation


def _finished_file(results: Path) -> Path:
    return results.with_name(f"{results.stem}_{_FINISHED}")


def _is_finished(results: Path, fingerprint: str) -> bool:
    """Whether `results` belongs to a finished test with this fingerprint and has not been changed since."""
    noted = _read(_finished_file(results))
    return noted.get("fingerprint") == fingerprint and results.is_file() and noted.get("results") == sha256_of(results)


def _read(path: Path) -> dict[str, Any]:
    """The JSON object in a file; an empty one if there is none."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def _fingerprint(run: Run, test_set: TestSet, raw: bool, flow: str) -> str:
    """A hash of everything that the detections depend on; results of tests with different ones must not be mixed."""
    cfg = to_dict(run.cfg)
    network = {key: value for key, value in cfg["network"].items() if not key.startswith("pretrained")}
    test = {key: value for key, value in cfg["TEST"].items() if key != "test_epoch"}
    weights = file_digest(run.weights) if run.weights else f"random, seed {cfg['TRAIN']['SEED']}"
    data = [cfg["dataset"]["dataset_path"], cfg["dataset"]["test_image_set"], test_set.digest, len(test_set.videos)]
    content = [run.method.name, weights, cfg["SCALES"], network, test, data, list(test_set.classes.names), raw, flow]
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()
