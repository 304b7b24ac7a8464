"""A detector over the videos of an image set: frames read ahead in a thread, results written as they come."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

import torch
from tqdm import tqdm

from lib.structures import Detections, Frame

Item = TypeVar("Item")


@dataclass
class InferenceTiming:
    """Where the time of a run over an image set went, in seconds."""

    frames: int = 0
    waiting: float = 0.0  # for frames to be read and resized
    computing: float = 0.0  # networks and post-processing, Seq-NMS included

    @property
    def ms_per_frame(self) -> float:
        """Milliseconds of computation per frame, reading excluded."""
        return 1000 * self.computing / max(1, self.frames)

    @property
    def ms_waiting(self) -> float:
        """Milliseconds per frame that the detector waited for it to be read and resized."""
        return 1000 * self.waiting / max(1, self.frames)

    def to_json(self) -> dict[str, float]:
        return {"frames": self.frames, "ms_per_frame": self.ms_per_frame, "ms_waiting_for_data": self.ms_waiting}

    def summary(self) -> str:
        total = self.waiting + self.computing
        return (
            f"{self.frames} frames in {total:.1f} s: {self.ms_per_frame:.1f} ms a frame computing, "
            f"{self.ms_waiting:.1f} ms waiting for data"
        )


def read_ahead(items: Iterable[Item], depth: int) -> Iterator[Item]:
    """`items`, produced by a thread that keeps at most `depth` of them ready. Its errors are raised here."""
    ready: queue.Queue = queue.Queue(maxsize=depth)
    stopped = threading.Event()
    end = object()

    def produce() -> None:
        try:
            for item in items:
                while not stopped.is_set():
                    try:
                        ready.put((item, None), timeout=0.1)
                        break
                    except queue.Full:
                        continue
                if stopped.is_set():
                    return
            last = (end, None)
        except Exception as error:  # handed to the reader below, which raises it
            last = (end, error)
        while not stopped.is_set():
            try:
                ready.put(last, timeout=0.1)
                return
            except queue.Full:
                continue

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


@torch.no_grad()
def detect_videos(
    model,
    videos: Sequence,
    frames_of: Callable[..., Iterator[Frame]],
    postprocess,
    write: Callable[[int, Detections], None],
    batch_images: int = 1,
    end_video: Callable[[], None] = lambda: None,
    after_video: Callable[[int], None] = lambda done: None,
) -> InferenceTiming:
    """Run `model.detect` over each of `videos` and hand every frame's `Detections` to `write(frame_id, detections)`.

    videos: objects with `name` and `length`; `frames_of(video)` yields its `Frame`s, network-input pixels, in order.
    batch_images: frames that the model may take at once. end_video(): called after each video's last frame; what it
    does, Seq-NMS for example, counts as computing. after_video(n): called when n of `videos` are done; does not count.
    Raises RuntimeError when the model does not give exactly one result per frame: results would be shifted in silence.
    """
    timing = InferenceTiming()
    with tqdm(total=sum(video.length for video in videos), unit="frame", desc="testing", smoothing=0.05) as bar:
        for done, video in enumerate(videos, 1):
            frame_ids: list[int] = []
            waited = timing.waiting
            start = time.perf_counter()
            given = 0
            fed = _watched(read_ahead(frames_of(video), depth=batch_images + 4), frame_ids, timing)
            for detections in model.detect(fed, postprocess, batch_images):
                if given >= len(frame_ids):
                    raise RuntimeError(f"video {video.name}: the detector gave more results than it was given frames")
                write(frame_ids[given], detections)
                given += 1
                bar.update()
            if given != len(frame_ids):
                raise RuntimeError(f"video {video.name}: {given} results for {len(frame_ids)} frames")
            end_video()
            timing.frames += given
            timing.computing += time.perf_counter() - start - (timing.waiting - waited)
            after_video(done)
    return timing


def _watched(frames: Iterator[Frame], frame_ids: list[int], timing: InferenceTiming) -> Iterator[Frame]:
    """`frames`, noting each one's id and how long it was waited for."""
    while True:
        start = time.perf_counter()
        frame = next(frames, None)
        timing.waiting += time.perf_counter() - start
        if frame is None:
            return
        frame_ids.append(frame.frame_id)
        yield frame
