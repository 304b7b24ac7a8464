"""Time the detectors of finished tests again, side by side, on a video of their test set.

The tests ran one after the other, so their own times compare only on a machine that did nothing else.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median
from typing import Any

from lib.config import ConfigError, load_config
from lib.data.classes import load_classes
from lib.data.imagenet_vid import ImageNetVID
from lib.data.video import FrameSource, open_frames
from lib.engine.checkpoint import CheckpointError, read_identity
from lib.engine.device import device_of
from lib.engine.inference import Timing
from lib.engine.run import METHODS, Run, method_called
from lib.files import sha256_of
from lib.video_detector import VideoDetector


def detector_of_test(made_with: dict[str, Any], device: str) -> tuple[VideoDetector, FrameSource]:
    """The detector of a test, as it was tested, and the first video of its test set.

    made_with: the entry of the test's evaluation.json. Raises CheckpointError where the weights are not there any more,
    are others now or do not say what they are, ConfigError, and InputError for a data set that cannot be read.
    """
    weights, configuration = made_with.get("weights") or {}, made_with.get("configuration")
    path = Path(str(weights.get("path")))
    if not path.is_file() or sha256_of(path) != weights.get("sha256"):
        raise CheckpointError(f"{path}: not the weights of the test any more; test again")
    identity = read_identity(path)
    if identity is None or identity.method not in METHODS:
        raise CheckpointError(f"{path}: does not say which method it is for, so it cannot be timed again")
    if not isinstance(configuration, dict):
        raise ConfigError(f"{path}: its test did not keep the configuration; test again")
    cfg = load_config(None, [], [], configuration, "configuration of the test")
    method = method_called(identity.method)
    run = Run(method, cfg, identity.name, device_of(device), path, identity)
    detector = VideoDetector.of_run(run, batch_images=cfg.TEST.BATCH_IMAGES)
    classes = load_classes(cfg.dataset.CLASSES, cfg.dataset.dataset_path)
    cache = Path(cfg.dataset.root_path) / "cache"
    video = ImageNetVID(cfg.dataset.dataset_path, cfg.dataset.test_image_set, classes, cache).videos()[0]
    return detector, open_frames([video.frame_path(i) for i in range(video.length)])


def time_in_turns(
    detectors: Sequence[tuple[VideoDetector, FrameSource]], rounds: int, show: Callable[[], object] = lambda: None
) -> list[float]:
    """Milliseconds a frame of each detector: the median over `rounds`, in each of which every one runs over its video.

    A round before them is not counted. Network and suppression; reading and Seq-NMS are not in it, as in a test.
    """
    times: list[list[float]] = [[] for _ in detectors]
    for _ in range(rounds + 1):
        for (detector, source), own in zip(detectors, times, strict=True):
            timing = Timing()
            for _ in detector(source, timing=timing):
                pass
            own.append(timing.ms_per_frame)
        show()
    return [median(own[1:]) for own in times]
