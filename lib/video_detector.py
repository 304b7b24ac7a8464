"""The Python API: a trained detector that is called with a video (docs/python.md)."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from typing import Any

import numpy as np

from lib.config import Config
from lib.data.classes import Classes
from lib.data.transforms import Preprocessing
from lib.data.video import Source, SourceError, SourceFrame, checked_pixels, network_frames, open_frames
from lib.engine.checkpoint import CheckpointError, read_identity
from lib.engine.device import default_device, device_of
from lib.engine.inference import Answer, LiveDetection, Timing, detect_frames, read_ahead, with_seq_nms
from lib.engine.run import METHODS, Method, Run, method_called, open_run
from lib.models.build import build_postprocess
from lib.models.postprocess import PostProcess
from lib.models.precision import set_precision
from lib.models.video_model import VideoModel


class VideoDetector:
    """A trained detector: call it with a video, and iterate over (frame, detections).

    class_names: of all labels, `class_names[0]` is "background". method: its name. cfg: its configuration. model: the
    network. device: where it computes.
    """

    def __init__(
        self,
        model: VideoModel,
        cfg: Config,
        classes: Classes,
        method: Method,
        *,
        score_threshold: float = 0.05,
        batch_images: int = 1,
    ) -> None:
        self.model, self.cfg, self.method = model, cfg, method.name
        self.class_names: Sequence[str] = ("background", *classes.names)
        self.score_threshold, self.batch_images = score_threshold, batch_images
        self.device = next(model.parameters()).device
        self._preprocess = Preprocessing.from_config(cfg, self.device)
        # Seq-NMS needs the boxes of lower scores too; the threshold follows it
        seq_nms = build_postprocess(cfg, method.score_threshold)
        self._postprocess: PostProcess = (
            seq_nms
            if cfg.TEST.SEQ_NMS
            else replace(seq_nms, score_threshold=max(score_threshold, seq_nms.score_threshold))
        )

    @staticmethod
    def of_run(run: Run, **arguments: Any) -> VideoDetector:
        """The detector of a script's run; arguments: as for the class."""
        classes = run.trained_classes()
        return VideoDetector(run.load_model(classes), run.cfg, classes, run.method, **arguments)

    def __call__(
        self,
        source: Source,
        *,
        rgb: bool = False,
        limit: int = 0,
        inside: bool = False,
        timing: Timing | None = None,
    ) -> Iterator[Answer]:
        """Yield (frame, detections) for every frame of a video, in order; memory does not grow with its length.

        source: a folder of images, a pattern, a video file, "camera:0", a list of image files, or anything that yields
        (H, W, 3) uint8 arrays, B, G, R as OpenCV gives them, or R, G, B with rgb. limit: the most frames; 0: all.
        inside: fill in `Frame.inside` (features, flow, weights). timing: is added to.

        Answers stream: FGFA answers as many frames late as its window needs. With Seq-NMS (TEST.SEQ_NMS) all answers
        come at the end of the video; only detections are held until then, and `Frame.pixels` is read again from files,
        or None if the frames can be read only once.
        Each call begins a new video. Raises SourceError and ImageError.
        """
        set_precision(self.cfg.PRECISION, self.device)  # another detector may have set TF32 for the process
        frames = open_frames(source, rgb)
        seq_nms = self.cfg.TEST.SEQ_NMS
        if seq_nms and frames.length is None and not frames.repeatable and not limit:
            raise SourceError(
                f"{frames.description}: Seq-NMS answers when the video is over, and this one has no known end; give a "
                "limit, or TEST.SEQ_NMS=false"
            )
        fed = read_ahead(self._frames(frames, limit, keep_pixels=not seq_nms), depth=self.batch_images + 4)
        with closing(fed):
            answers = detect_frames(self.model, fed, self._postprocess, self.batch_images, inside=inside, timing=timing)
            if not seq_nms:
                yield from answers
                return
            again = iter(frames) if frames.repeatable else itertools.repeat(SourceFrame("", None))
            for (frame, found), read in zip(with_seq_nms(answers, self.cfg), again, strict=False):
                yield replace(frame, pixels=read.pixels), found[found.scores >= self.score_threshold]

    def _frames(self, source, limit: int, keep_pixels: bool) -> Iterator:
        return network_frames(itertools.islice(iter(source), limit or None), self._preprocess, keep_pixels)

    def live(self, *, rgb: bool = False, inside: bool = False) -> LiveVideo:
        """A new video, to which frames are added one at a time. Raises SourceError with Seq-NMS, which needs all
        frames.
        """
        if self.cfg.TEST.SEQ_NMS:
            raise SourceError("Seq-NMS answers when a video is over, so not live; set TEST.SEQ_NMS=false")
        set_precision(self.cfg.PRECISION, self.device)
        loop = LiveDetection(self.model, self._postprocess, inside=inside)
        return LiveVideo(loop, self._preprocess, rgb)


class LiveVideo:
    """A video to which frames are added one at a time; see `VideoDetector.live`."""

    def __init__(self, loop: LiveDetection, preprocess: Preprocessing, rgb: bool) -> None:
        self._loop, self._preprocess, self._rgb, self._count = loop, preprocess, rgb, 0

    def add(self, image: np.ndarray, seconds: float | None = None) -> list[Answer]:
        """Take the next frame, (H, W, 3) uint8; returns the (frame, detections) that are ready, perhaps none.

        R-FCN and Deep Feature Flow answer at once, FGFA as many frames late as its window needs (TEST.CAUSAL: at once).
        seconds: its time in the video. Raises SourceError for another kind of array.
        """
        name = f"{self._count:06d}"
        pixels = checked_pixels(image, f"frame {self._count}", self._rgb)
        (frame,) = network_frames([SourceFrame(name, pixels, seconds)], self._preprocess)
        frame = replace(frame, frame_id=self._count + 1, first=self._count == 0, index=self._count)
        self._count += 1
        return self._loop.add(frame)

    def close(self) -> list[Answer]:
        """End the video; returns the remaining answers. A frame added afterwards begins another video."""
        self._count = 0
        return self._loop.close()


def load_detector(
    weights: str | os.PathLike,
    *,
    device: str = "",
    cfg: str | os.PathLike | None = None,
    overrides: Sequence[str] = (),
    method: Method | str | None = None,
    score_threshold: float = 0.05,
    nms: float | None = None,
    precision: str = "",
    batch_images: int = 1,
) -> VideoDetector:
    """The detector in a checkpoint; its method, configuration and classes come from the file.

    device: "cpu", "cuda" or "cuda:N"; default: a GPU if there is one. overrides: configuration values, such as
    "TEST.KEY_FRAME_INTERVAL=5". score_threshold: minimum score of detections. nms: IoU above which a box of lower score
    is dropped; default: TEST.NMS of the configuration. precision: "float32", "tf32", "bfloat16", "float16" or "int8";
    default: PRECISION of the configuration. batch_images: frames that go through the network together.
    cfg, method: YAML file and "rfcn", "dff" or "fgfa", for files without this information (older checkpoints, MXNet's
    .params); for a method of your own, its `Method`. Raises CheckpointError and ConfigError.
    """
    identity = read_identity(weights)
    if method is None:
        if identity is None:
            raise CheckpointError(
                f"{weights}: does not say which method it is for; give method='rfcn', 'dff' or 'fgfa', and cfg"
            )
        method = identity.method
    if isinstance(method, str):
        if method not in METHODS:  # a file must not have any module imported
            raise CheckpointError(f"{weights}: is for method '{method}', which is not one of ours; give its Method")
        method = method_called(method)
    arguments = {"TEST.NMS": nms, "PRECISION": precision or None}
    changed = [*overrides, *(f"{key}={value}" for key, value in arguments.items() if value is not None)]
    chosen = device_of(device or default_device())
    run = open_run(method, chosen, None if cfg is None else os.fspath(cfg), [], changed, os.fspath(weights))
    return VideoDetector.of_run(run, score_threshold=score_threshold, batch_images=batch_images)
