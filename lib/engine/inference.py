"""The one inference loop, for tests, demos, benchmarks and the Python API: frames in, (frame, detections) out."""

from __future__ import annotations

import queue
import threading
import time
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TypeVar

import torch

from lib.config import Config
from lib.models.postprocess import PostProcess, RawDetections
from lib.models.video_model import ClipDetector, VideoModel
from lib.structures import Detections, Frame

Item = TypeVar("Item")
Answer = tuple[Frame, Detections]


@dataclass
class Timing:
    """Where the time of an inference went, in seconds, over `frames` answered frames.

    data: waiting for frames to be read and resized. net: networks. post: suppression and the copy to the CPU.
    """

    frames: int = 0
    data: float = 0.0
    net: float = 0.0
    post: float = 0.0

    @property
    def ms_per_frame(self) -> float:
        """Milliseconds of computation per frame, reading excluded."""
        return 1000 * (self.net + self.post) / max(1, self.frames)

    def milliseconds(self) -> dict[str, float]:
        """Milliseconds per frame of each part."""
        return {name: 1000 * getattr(self, name) / max(1, self.frames) for name in ("data", "net", "post")}

    def to_json(self) -> dict[str, float | dict[str, float]]:
        """The content of timing.json: frames, and milliseconds per frame."""
        return {"frames": self.frames, "ms_per_frame": self.ms_per_frame, "ms": self.milliseconds()}

    def summary(self) -> str:
        """One line for the log."""
        ms, total = self.milliseconds(), self.data + self.net + self.post
        parts = f"network {ms['net']:.1f}, post-processing {ms['post']:.1f}, waiting for data {ms['data']:.1f}"
        return f"{self.frames} frames in {total:.1f} s; ms a frame: {parts}"


def detect_frames(
    model: VideoModel,
    frames: Iterable[Frame],
    postprocess: PostProcess,
    batch_images: int = 1,
    *,
    inside: bool = False,
    timing: Timing | None = None,
) -> Iterator[Answer]:
    """Detect in `frames` and yield (frame, detections) for every one of them, once and in order.

    Answers come as soon as the model has them: at once, or as many frames late as its batch and its window need. A
    frame that begins a video (`Frame.first`) or has another size begins a new clip; what the model remembers ends with
    a clip. The answered frames have an empty `image`; detections are in original pixels, on the CPU. batch_images:
    frames that the model may take at once; the detections are the same. inside: fill in `Frame.inside`. timing: is
    added to. Raises RuntimeError for a model that does not answer every frame exactly once, in order.
    """
    loop = _Loop(model, postprocess, batch_images, inside, Timing() if timing is None else timing)
    for frame in _timed(frames, loop.timing):
        yield from loop.add(frame)
    yield from loop.close()


class LiveDetection:
    """`detect_frames` for a source that hands over one frame at a time: `add` returns what is ready."""

    def __init__(
        self, model: VideoModel, postprocess: PostProcess, batch_images: int = 1, *, inside: bool = False
    ) -> None:
        self.timing = Timing()
        self._loop = _Loop(model, postprocess, batch_images, inside, self.timing)

    def add(self, frame: Frame) -> list[Answer]:
        """Take the next frame; returns the answers that are ready, which may be none, one or several."""
        return self._loop.add(frame)

    def close(self) -> list[Answer]:
        """The video is over: returns the answers that are left. The next frame then begins another video."""
        return self._loop.close()


@dataclass
class _Loop:
    """The clip that is going on, and the frames of it that are not answered yet."""

    model: VideoModel
    postprocess: PostProcess
    batch_images: int
    inside: bool
    timing: Timing
    clip: ClipDetector | None = None
    previous: Frame | None = None

    def __post_init__(self) -> None:
        self.waiting: deque[tuple[int, int]] = deque()  # (index, frame id)

    def add(self, frame: Frame) -> list[Answer]:
        done = self.close() if begins_clip(frame, self.previous) else []
        if self.clip is None:
            self.clip = self.model.begin_clip(self.batch_images, self.inside)
        self.previous = frame
        self.waiting.append((frame.index, frame.frame_id))
        start = time.perf_counter()
        with torch.no_grad():
            raw = self.clip.add(frame)
        self.timing.net += time.perf_counter() - start
        return done + self._answers(raw)

    def close(self) -> list[Answer]:
        if self.clip is None:
            return []
        clip, self.clip, self.previous = self.clip, None, None
        start = time.perf_counter()
        with torch.no_grad():
            raw = clip.close()
        self.timing.net += time.perf_counter() - start
        answers = self._answers(raw)
        if self.waiting:
            raise RuntimeError(f"the model left {len(self.waiting)} frames of a clip without an answer")
        return answers

    def _answers(self, raw: list[RawDetections]) -> list[Answer]:
        start = time.perf_counter()
        with torch.no_grad():
            found = [(one.frames, self.postprocess(one)) for one in raw]
        self.timing.post += time.perf_counter() - start
        answers = [(f.without_image(), d) for frames, each in found for f, d in zip(frames, each, strict=True)]
        for frame, _ in answers:
            if not self.waiting or self.waiting.popleft() != (frame.index, frame.frame_id):
                raise RuntimeError(f"the model answered frame {frame.index}, which was not the next one to be answered")
        self.timing.frames += len(answers)
        return answers


def with_seq_nms(answers: Iterable[Answer], cfg: Config) -> Iterator[Answer]:
    """`answers`, re-scored by Seq-NMS where TEST.SEQ_NMS says so, and suppressed by NMS after it.

    Each video's answers then come when the video is over. `build_postprocess` leaves them unsuppressed for it.
    """
    if cfg.TEST.SEQ_NMS:
        from lib.evaluation.seq_nms import SeqNMS, seq_nms_answers

        answers = seq_nms_answers(answers, SeqNMS(nms=cfg.TEST.NMS))
    yield from answers


def begins_clip(frame: Frame, previous: Frame | None) -> bool:
    """Whether `frame` begins a new clip: it is of another video than the one before it, or of another size."""
    return previous is None or frame.first or not torch.equal(frame.im_info[:2], previous.im_info[:2])


def _timed(frames: Iterable[Frame], timing: Timing) -> Iterator[Frame]:
    """`frames`, adding the time that each was waited for to `timing.data`."""
    frames = iter(frames)
    while True:
        start = time.perf_counter()
        frame = next(frames, None)
        timing.data += time.perf_counter() - start
        if frame is None:
            return
        yield frame


def read_ahead(items: Iterable[Item], depth: int) -> Iterator[Item]:
    """`items`, produced by a thread that keeps at most `depth` of them ready. Its errors are raised here."""
    ready: queue.Queue = queue.Queue(maxsize=depth)
    stopped = threading.Event()
    end = object()

    def hand_over(item: tuple) -> bool:
        while not stopped.is_set():
            try:
                ready.put(item, timeout=0.1)
                return True
            except queue.Full:
                continue
        return False

    def produce() -> None:
        try:
            for item in items:
                if not hand_over((item, None)):
                    return
            hand_over((end, None))
        except BaseException as error:  # handed to the reader below, which raises it instead of waiting for ever
            hand_over((end, error))

    thread = threading.Thread(target=produce, daemon=True)
    thread.start()
    try:
        while True:
            item, error = ready.get()
            if error is not None:
                raise error
            if item is end:
                return
            yield item
    finally:
        stopped.set()
        thread.join()
        if hasattr(items, "close"):
            items.close()
