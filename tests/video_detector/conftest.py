"""Detectors of every method, and what the inference loop alone finds."""

from __future__ import annotations

import pytest

from lib import load_detector
from lib.data.transforms import Preprocessing
from lib.data.video import SourceFrame, network_frames
from lib.engine.inference import detect_frames
from lib.models.postprocess import PostProcess
from tests.models.small_checkpoints import METHODS, clip, small_method_config, write_checkpoint
from tests.video_detector.comparison import LENGTH, ready_model


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    """A function: method -> its checkpoint."""
    folder = tmp_path_factory.mktemp("checkpoints")
    return lambda method: (
        next(iter(folder.glob(f"{method}.pth")), None) or write_checkpoint(folder / f"{method}.pth", method)
    )


@pytest.fixture(scope="module")
def detectors(checkpoint):
    return {method: load_detector(checkpoint(method), device="cpu") for method in METHODS}


@pytest.fixture(scope="module")
def expected(detectors):
    """A function: (method, frames, overrides) -> (frame, detections) of the inference loop alone."""

    def run(method, frames=None, *overrides, threshold=0.05):
        cfg = small_method_config(method, *overrides)
        sources = (SourceFrame(f"{i:06d}", image) for i, image in enumerate(clip(LENGTH) if frames is None else frames))
        rule = PostProcess(threshold, cfg.TEST.NMS, cfg.TEST.max_per_image)
        return list(detect_frames(ready_model(method), network_frames(sources, Preprocessing.from_config(cfg)), rule))

    return run
