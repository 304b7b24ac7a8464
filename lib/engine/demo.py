"""A detector on somebody's own video: annotated clip, contact sheet, detections as JSON, and where the time went.

Everything streams: the memory that is needed does not grow with the length of the video.
"""

from __future__ import annotations

import itertools
import json
import os
import resource
import sys
import time
from collections import deque
from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from lib.data.transforms import Preprocessing
from lib.data.video import FrameSource, network_frames, open_frames
from lib.structures import Detections, Frame
from lib.visualize.clip import ContactSheet, VideoWriter
from lib.visualize.draw import draw_detections

DEFAULT_FPS = 25.0  # of a clip made from images, which do not say
_Result = tuple[str, np.ndarray, Detections, "Stage"]
_LONG_SIDE = (640, 1280)  # of the annotated video: small frames are enlarged for their labels' sake, large ones shrunk


@dataclass
class Stage:
    """Seconds spent on `frames` frames: `data` reading and resizing, `net` detecting, `draw` drawing and writing."""

    frames: int = 0
    data: float = 0.0
    net: float = 0.0
    draw: float = 0.0

    def milliseconds(self) -> dict[str, float]:
        """Per frame, in milliseconds: data, net, draw and their total."""
        columns = {name: 1000 * getattr(self, name) / max(1, self.frames) for name in ("data", "net", "draw")}
        return {**columns, "total": sum(columns.values())}


@dataclass
class DemoSummary:
    """What a demo did. `warm_up` holds the first frames, whose time includes loading and tuning; `steady` the others.

    frame_wh and network_wh: width and height in pixels of the first frame, and of it as the network reads it.
    """

    frames: int = 0
    boxes: int = 0
    warm_up: Stage = field(default_factory=Stage)
    steady: Stage = field(default_factory=Stage)
    frame_wh: tuple[int, int] = (0, 0)
    network_wh: tuple[int, int] = (0, 0)
    host_gib: float = 0.0
    gpu_gib: float | None = None
    files: list[Path] = field(default_factory=list)

    def table(self) -> str:
        """The summary as it is printed."""
        lines = [
            f"{self.frames} frames of {self.frame_wh[0]} x {self.frame_wh[1]} "
            f"(network input {self.network_wh[0]} x {self.network_wh[1]}), {self.boxes} boxes drawn",
            f"{'ms a frame':12}{'frames':>8}{'data':>10}{'net':>10}{'draw':>10}{'total':>10}",
        ]
        for name, stage in (("warm-up", self.warm_up), ("then", self.steady)):
            if stage.frames:
                columns = "".join(f"{value:10.1f}" for value in stage.milliseconds().values())
                lines.append(f"{name:12}{stage.frames:8}{columns}")
        gpu = "" if self.gpu_gib is None else f", {self.gpu_gib:.2f} GiB on the GPU"
        lines.append(f"peak memory: {self.host_gib:.2f} GiB{gpu}")
        lines.append("written: " + ", ".join(str(path) for path in self.files))
        return "\n".join(lines)


@torch.no_grad()
def run_demo(
    model,
    source: str | os.PathLike | Sequence[str | os.PathLike] | FrameSource,
    preprocess: Preprocessing,
    postprocess,
    class_names: Sequence[str],
    out_dir: str | os.PathLike,
    min_score: float = 0.7,
    limit: int = 0,
    batch_images: int = 1,
    fps: float = 0.0,
    video_name: str = "demo.mp4",
) -> DemoSummary:
    """Run `model` over the frames of `source`; write the results into `out_dir`; print and return the summary.

    model: anything with `detect(frames, postprocess) -> Iterator[Detections]` (docs/architecture.md), in eval mode,
    on its device. It may answer some frames late: as many original frames wait here as it is behind, and no more.
    source: what `lib.data.video.open_frames` takes. preprocess: `Preprocessing.from_config(cfg)`.
    postprocess: handed to `detect`. class_names: of labels 1, 2, ... min_score: weaker detections are left out of all
    files. limit: the most frames to take, 0 for all. batch_images: above 1, also handed to `detect`, by this name.
    fps: of the written video; 0: the source's own, or 25. video_name: ends in .mp4 or .webm.

    Writes `<video_name>`, `contact_sheet.png` and `detections.json`, each complete or not at all. An interrupt (Ctrl-C)
    ends the video early and keeps what is there. Raises SourceError or ImageError for bad input, VideoError for a video
    that cannot be written, RuntimeError when the model does not answer every frame exactly once.
    """
    frames = source if isinstance(source, FrameSource) else open_frames(source)
    out = Path(out_dir)
    out.mkdir(parents=True, exist_ok=True)
    summary = DemoSummary(files=[out / video_name, out / "contact_sheet.png", out / "detections.json"])
    arguments = {"batch_images": batch_images} if batch_images > 1 else {}
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
    total = min(frames.length, limit) if frames.length and limit else frames.length or limit or None
    header = {"source": frames.description, "class_names": list(class_names), "min_score": min_score}
    with ExitStack() as stack:
        outputs = _Outputs(
            VideoWriter(summary.files[0], fps or frames.fps or DEFAULT_FPS),
            ContactSheet(),
            stack.enter_context(DetectionsFile(summary.files[2], header)),
            stack.enter_context(tqdm(total=total, unit="frame", desc="demo")),
        )
        fed = itertools.islice(iter(frames), limit or None)
        outputs.take_all(_detect(model, fed, preprocess, postprocess, arguments, summary), summary, min_score)
        _note_memory(summary)
        outputs.listing.footer = {"frames": summary.frames, "milliseconds": summary.steady.milliseconds()}
        outputs.sheet.write(summary.files[1])
    print(summary.table())
    return summary


@dataclass
class _Outputs:
    """Where each result goes."""

    video: VideoWriter
    sheet: ContactSheet
    listing: DetectionsFile
    bar: tqdm

    def take_all(self, results: Generator[_Result, None, None], summary: DemoSummary, min_score: float) -> None:
        """Draw and write every result; an interrupt after the first one only ends the video early."""
        stage, end = summary.warm_up, 0.0
        with self.video:
            try:
                for name, image, detections, stage in results:
                    start = time.perf_counter()
                    summary.boxes += self._take(name, image, detections[detections.scores >= min_score])
                    stage.draw += time.perf_counter() - start
            except KeyboardInterrupt:
                if not self.video.count:
                    raise
                self.bar.write(f"interrupted: keeping the first {self.video.count} frames")
            finally:
                results.close()
                end = time.perf_counter()
        # The encoder looks ahead: much of its work on the last frames is done when the file is closed.
        stage.draw += time.perf_counter() - end

    def _take(self, name: str, image: np.ndarray, shown: Detections) -> int:
        names = self.listing.class_names
        self.video.write(draw_detections(image, shown, names, scale=display_scale(image)))
        # Drawn anew at its own size: labels of a picture made for the video would shrink to nothing.
        self.sheet.add(draw_detections(image, shown, names, scale=self.sheet.width / image.shape[1]), name)
        self.listing.add(name, image, shown)
        self.bar.update()
        return len(shown)


def display_scale(image: np.ndarray) -> float:
    """How many times as large as `image` its annotated picture is: long side at least 640 and at most 1280 pixels.

    Small frames are enlarged a whole number of times, which keeps their pixels even.
    """
    longest = max(image.shape[:2])
    smallest, largest = _LONG_SIDE
    if longest > largest:
        return largest / longest
    return float(min(-(-smallest // longest), max(1, largest // longest)))


class DetectionsFile:
    """Writes detections as JSON, one frame a line, in a `with` block; at its final name only when it is complete.

    The file holds `header`'s keys, then "frames": a list of objects with name, width, height, boxes (x1, y1, x2, y2 in
    pixels of the original frame, 0-based, inclusive), scores, labels (from 1) and label_names; then `footer` as
    "summary".
    """

    def __init__(self, path: str | os.PathLike, header: dict) -> None:
        self.path, self.footer = Path(path), {}
        self.class_names: Sequence[str] = header["class_names"]
        self._temporary = self.path.with_name(f".{self.path.name}.{os.getpid()}.part")
        self._file = self._temporary.open("w", encoding="utf-8")
        self._file.write(json.dumps(header, ensure_ascii=False)[:-1] + ',\n"frames": [')
        self._separator = "\n"

    def __enter__(self) -> DetectionsFile:
        return self

    def add(self, name: str, image: np.ndarray, detections: Detections) -> None:
        """The next frame: its name, its original `image` and what was found in it, on the CPU."""
        labels = detections.labels.tolist()
        line = {
            "name": name,
            "width": image.shape[1],
            "height": image.shape[0],
            "boxes": [[round(value, 2) for value in box] for box in detections.boxes.tolist()],
            "scores": [round(score, 4) for score in detections.scores.tolist()],
            "labels": labels,
            "label_names": [self.class_names[label - 1] for label in labels],
        }
        self._file.write(self._separator + json.dumps(line, ensure_ascii=False))
        self._separator = ",\n"

    def __exit__(self, error_type: type[BaseException] | None, *_: object) -> None:
        try:
            with self._file:
                self._file.write('\n],\n"summary": ' + json.dumps(self.footer) + "}\n")
            if error_type is None:
                os.replace(self._temporary, self.path)
        finally:
            self._temporary.unlink(missing_ok=True)


def _detect(
    model,
    images: Iterator[tuple[str, np.ndarray]],
    preprocess: Preprocessing,
    postprocess,
    arguments: dict,
    summary: DemoSummary,
) -> Generator[_Result, None, None]:
    """Each frame's name, original image and detections (on the CPU), with the stage that its time belongs to."""
    waiting: deque[tuple[str, np.ndarray]] = deque()
    clock = Stage()
    fed = _timed(network_frames(_noted(images, waiting), preprocess), clock, summary)
    results = iter(model.detect(fed, postprocess, **arguments))
    warm_up = max(2, arguments.get("batch_images", 1))
    while True:
        stage = summary.warm_up if summary.frames < warm_up else summary.steady
        read_before, start = clock.data, time.perf_counter()
        detections = next(results, None)
        if detections is not None:
            detections = detections.to("cpu")  # waits for the GPU, so that its time is counted here
        read = clock.data - read_before
        stage.data += read
        stage.net += time.perf_counter() - start - read
        if detections is None:
            break
        if not waiting:
            raise RuntimeError("the model gave more results than it was given frames")
        name, image = waiting.popleft()
        if not summary.frames:
            summary.frame_wh = (image.shape[1], image.shape[0])
        summary.frames += 1
        stage.frames += 1
        yield name, image, detections, stage
    if waiting:
        raise RuntimeError(f"the model left {len(waiting)} frames without a result")


def _noted(
    images: Iterable[tuple[str, np.ndarray]], waiting: deque[tuple[str, np.ndarray]]
) -> Iterator[tuple[str, np.ndarray]]:
    """`images`, each also appended to `waiting`, where it stays until its detections come."""
    for item in images:
        waiting.append(item)
        yield item


def _timed(frames: Iterator[Frame], clock: Stage, summary: DemoSummary) -> Iterator[Frame]:
    """`frames`, adding the time each takes to `clock.data`."""
    while True:
        start = time.perf_counter()
        frame = next(frames, None)
        clock.data += time.perf_counter() - start
        if frame is None:
            return
        if frame.first:
            summary.network_wh = (frame.image.shape[2], frame.image.shape[1])
        yield frame


def _note_memory(summary: DemoSummary) -> None:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    summary.host_gib = peak / (2**30 if sys.platform == "darwin" else 2**20)
    if torch.cuda.is_available():
        summary.gpu_gib = torch.cuda.max_memory_allocated() / 2**30
