"""A test: detect over an image set, save the results, evaluate them. It can be stopped and goes on where it was."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from torch import nn

from lib.config import Config, to_dict
from lib.data.imagenet_vid import ImageNetVID, Video
from lib.data.transforms import Preprocessing
from lib.engine.infer import InferenceTiming, detect_videos
from lib.engine.known_flow import replace_flow
from lib.engine.run import Method, Run
from lib.evaluation.evaluate import evaluate_results, write_json
from lib.evaluation.results_file import DECIMALS, RAW_DECIMALS, ResultsWriter
from lib.evaluation.seq_nms import SeqNMS, SeqNMSWriter
from lib.models.build import build_postprocess
from lib.structures import Frame, GroundTruth

_LOGGER = logging.getLogger(__name__)
RESULTS = "detections.txt"
RAW_RESULTS = "raw_detections.txt"  # of a test that leaves NMS and Seq-NMS for later
TIMING = "timing.json"  # beside the results: how fast the frames of the last test went


def run_test(run: Run, method: Method, model: nn.Module, raw: bool = False) -> dict:
    """Detect over the run's test set with `model`, save and evaluate the results, log the table.

    raw: save every box over the threshold in RAW_RESULTS, for NMS and Seq-NMS to come, and do not evaluate. Returns
    what evaluation.json holds, of raw results nothing. Raises InputError.
    """
    cfg, folder = run.cfg, run.test_folder
    truth, videos = _test_set(run)  # before the long part: broken annotations show at once
    path, decimals = (folder / RAW_RESULTS, RAW_DECIMALS) if raw else (folder / RESULTS, DECIMALS)
    with ResultsWriter(path, _fingerprint(model, cfg, len(videos)), decimals) as results:
        timing = _detect(run, method, model, videos, results, raw)
    _LOGGER.info("%s: %s", path, timing.summary())
    if raw:
        return {}
    write_json(folder / TIMING, timing.to_json())
    return evaluate_results(truth, folder, cfg)


def _test_set(run: Run) -> tuple[GroundTruth, list[Video]]:
    cfg = run.cfg
    cache = Path(cfg.dataset.root_path) / "cache"
    dataset = ImageNetVID(cfg.dataset.dataset_path, cfg.dataset.test_image_set, run.classes(), cache)
    truth, videos = dataset.ground_truth(), dataset.videos()
    if 0 < run.videos < len(videos):
        videos = videos[: run.videos]
        truth = truth.first_frames(sum(video.length for video in videos))
        cfg.dataset.motion_iou_path = ""  # it covers the whole set
        _LOGGER.info("only the first %d videos; motion from their track ids", len(videos))
    return truth, videos


def _detect(
    run: Run, method: Method, model: nn.Module, videos: list[Video], results: ResultsWriter, raw: bool
) -> InferenceTiming:
    """Write the detections of those of `videos` that `results` does not have yet."""
    cfg, done = run.cfg, results.done
    if done:
        _LOGGER.info("going on after %d of %d videos that an interrupted test has done", done, len(videos))
    begin_video = replace_flow(model, run.flow, cfg.dataset.dataset_path)
    preprocessing = Preprocessing.from_config(cfg)

    def frames_of(video: Video) -> Iterator[Frame]:
        begin_video(video.name)
        return video.frames(preprocessing)

    postprocess = build_postprocess(cfg, method.score_threshold)
    add, end_video = results.add, lambda: None
    if cfg.TEST.SEQ_NMS or raw:  # Seq-NMS wants all boxes, and does the NMS itself
        postprocess = replace(postprocess, nms_threshold=None, max_per_image=None)
    if cfg.TEST.SEQ_NMS and not raw:
        rescored = SeqNMSWriter(results, SeqNMS(nms=cfg.TEST.NMS))
        add, end_video = rescored.add, rescored.end_video
    return detect_videos(
        model,
        videos[done:],
        frames_of,
        postprocess,
        add,
        cfg.TEST.BATCH_IMAGES,
        end_video,
        lambda more: results.checkpoint(done + more),
    )


def _fingerprint(model: nn.Module, cfg: Config, videos: int) -> str:
    """Tells tests apart whose results must not be mixed: by weights, configuration and number of videos."""
    digest = hashlib.sha256(json.dumps([to_dict(cfg), videos]).encode())
    for value in model.state_dict().values():
        digest.update(value.cpu().numpy().tobytes())
    return digest.hexdigest()
