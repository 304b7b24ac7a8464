"""What a demo writes: an annotated clip, a contact sheet, the detections as JSON and CSV, and where the time went.

Everything streams: the memory that is needed does not grow with the length of the video.
"""

from __future__ import annotations

import csv
import json
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import IO

import torch
from tqdm import tqdm

from lib.data.video import DEFAULT_FPS, FrameSource, SourceError
from lib.engine.inference import Timing
from lib.engine.interruption import StopRequest
from lib.engine.memory import peak_device_gib, peak_host_gib, reset_peak
from lib.files import writing
from lib.structures import Detections, Frame
from lib.visualize.annotate import Annotator
from lib.visualize.clip import ContactSheet, write_image
from lib.visualize.draw import draw_detections
from lib.visualize.video_writer import VideoWriter

_COLUMNS = ("index", "name", "seconds", "label", "class", "score", "x1", "y1", "x2", "y2")


@dataclass
class DemoSettings:
    """What a demo writes, into `folder`.

    min_score: weaker detections are not drawn. file_score: weaker ones are not written to JSON and CSV either.
    clip: name of the video, ending in .mp4 or .webm, or "" for none. codec: see `VideoWriter`. fps: its frames a
    second; 0: the source's, or 25. pictures: also write every annotated frame as a JPEG. show: what to show beside the
    frame, see `InsidePanels`; the frames then need `Frame.inside`.
    """

    folder: Path
    min_score: float = 0.7
    file_score: float = 0.7
    clip: str = "demo.mp4"
    codec: str = "h264"
    fps: float = 0.0
    pictures: bool = False
    show: tuple[str, ...] = ()


@dataclass
class DemoSummary:
    """What a demo did. timing: of the detector; draw: seconds for drawing and writing.

    frames_wh and network_wh: the widths and heights in pixels of the frames, and of them as the network reads them.
    """

    frames: int = 0
    boxes: int = 0
    timing: Timing = field(default_factory=Timing)
    draw: float = 0.0
    frames_wh: set[tuple[int, int]] = field(default_factory=set)
    network_wh: set[tuple[int, int]] = field(default_factory=set)
    host_gib: float | None = None
    gpu_gib: float | None = None
    files: list[Path] = field(default_factory=list)

    def milliseconds(self) -> dict[str, float]:
        """Per frame: waiting for data, network, post-processing, drawing and writing."""
        return {**self.timing.milliseconds(), "draw": 1000 * self.draw / max(1, self.frames)}

    def table(self) -> str:
        """The summary as it is printed."""
        ms = self.milliseconds()
        memory = [f"{gib:.2f} GiB{on}" for gib, on in ((self.host_gib, ""), (self.gpu_gib, " on the GPU")) if gib]
        return "\n".join(
            [
                f"{self.frames} frames of {_sizes_words(self.frames_wh)} "
                f"(network input {_sizes_words(self.network_wh)}), {self.boxes} boxes drawn",
                "ms a frame: " + ", ".join(f"{name} {value:.1f}" for name, value in ms.items()),
                f"peak memory: {', '.join(memory) or 'unknown'}",
                "written: " + ", ".join(str(path) for path in self.files),
            ]
        )


def _sizes_words(sizes_wh: set[tuple[int, int]]) -> str:
    """`640 x 480`; of several sizes the smallest and the largest."""
    ordered = sorted(sizes_wh, key=lambda wh: (wh[0] * wh[1], wh))
    return " to ".join(f"{width} x {height}" for width, height in ordered[:1] + ordered[1:][-1:])


class DemoOutput:
    """Draws and writes the answers of a detector; use it in a `with` statement and `add` every answer.

    Every file is written whole or not at all. Ctrl-C and SIGTERM end the video after the frame in hand and keep what
    is there, and `interrupted` says so; nothing is kept before the first frame. class_names: of all labels, 0 the
    background.
    Raises VideoError for a video that cannot be written, OutputError for another file.
    """

    def __init__(
        self,
        settings: DemoSettings,
        source: FrameSource,
        class_names: Sequence[str],
        device: torch.device,
        limit: int = 0,
    ) -> None:
        self.settings, self.class_names, self.device = settings, class_names, device
        self.summary = DemoSummary()
        self.timing = self.summary.timing
        self._source, self._limit = source, limit
        self.interrupted = False
        self._annotate = Annotator(class_names[1:], settings.min_score, settings.show)
        self._sheet = ContactSheet()
        self._stack = ExitStack()
        self._stop = StopRequest()

    def __enter__(self) -> DemoOutput:
        settings, source, folder = self.settings, self._source, self.settings.folder
        files = [folder / "contact_sheet.png", folder / "detections.json", folder / "detections.csv"]
        self._video = None
        with ExitStack() as stack:  # closes what is open if the next thing cannot be opened
            if settings.clip:
                fps = settings.fps or source.fps or DEFAULT_FPS
                self._video = stack.enter_context(VideoWriter(folder / settings.clip, fps, settings.codec))
                files.insert(0, folder / settings.clip)
            header = {
                "source": source.description,
                "fps": source.fps,
                "class_names": list(self.class_names[1:]),
                "min_score": settings.file_score,
            }
            self._json = stack.enter_context(JSONDetections(files[-2], header, self.class_names))
            self._rows = csv.writer(stack.enter_context(writing(files[-1], text=True)), lineterminator="\n")
            self._rows.writerow(_COLUMNS)
            total = source.length_within(self._limit)
            self._bar = stack.enter_context(tqdm(total=total, unit="frame", desc="demo", dynamic_ncols=True))
            stack.enter_context(self._stop)
            self._stack = stack.pop_all()
        self.summary.files = files
        reset_peak(self.device)
        return self

    def add(self, frame: Frame, detections: Detections) -> None:
        """The next frame, with its `pixels`, and what was found in it. Raises KeyboardInterrupt after a signal, and
        SourceError for a frame without pixels.
        """
        if frame.pixels is None:
            raise SourceError(
                f"{self._source.description}: Seq-NMS answers when the video is over, and these frames can be had only "
                "once; set TEST.SEQ_NMS=false"
            )
        start = time.perf_counter()
        settings, summary = self.settings, self.summary
        image, shown = frame.pixels, detections[detections.scores >= settings.min_score]
        drawn = self._annotate(frame, shown)
        if self._video is not None:
            self._video.write(drawn)
        if settings.pictures:
            write_image(settings.folder / "frames" / f"{Path(frame.name).stem}.jpg", drawn)
        # Drawn anew at its own size: labels of a picture made for the video would shrink to nothing.
        scale = self._sheet.width / image.shape[1]
        self._sheet.add(draw_detections(image, shown, self.class_names[1:], scale=scale), frame.name)
        self._write(frame, detections[detections.scores >= settings.file_score])
        summary.frames_wh.add((image.shape[1], image.shape[0]))
        summary.network_wh.add((int(frame.im_info[1]), int(frame.im_info[0])))
        summary.frames += 1
        summary.boxes += len(shown)
        summary.draw += time.perf_counter() - start
        self._bar.update()
        if self._stop.signal_number is not None:
            raise KeyboardInterrupt

    def _write(self, frame: Frame, detections: Detections) -> None:
        self._json.add(frame, detections)
        seconds = "" if frame.seconds is None else f"{frame.seconds:.3f}"
        for label, score, box in detections:
            corners = [f"{value:.2f}" for value in box]
            name = self.class_names[label]
            self._rows.writerow([frame.index, frame.name, seconds, label, name, f"{score:.4f}", *corners])

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        self.interrupted = kind is not None and issubclass(kind, KeyboardInterrupt) and self.summary.frames > 0
        if self.interrupted:
            self._bar.write(f"interrupted: keeping the first {self.summary.frames} frames")
            kind = error = trace = None
        start = time.perf_counter()
        self._json.footer = {"frames": self.summary.frames, "milliseconds": self.summary.milliseconds()}
        # The encoder looks ahead: much of its work on the last frames is done when the file is closed.
        self._stack.__exit__(kind, error, trace)
        if kind is None:
            self._sheet.write(self.settings.folder / "contact_sheet.png")
            self.summary.draw += time.perf_counter() - start
            self.summary.host_gib, self.summary.gpu_gib = peak_host_gib(), peak_device_gib(self.device)
        return self.interrupted


class JSONDetections:
    """Writes detections as JSON, one frame a line, in a `with` block; at its final name only when it is complete.

    The file holds `header`'s keys, then "frames": a list of objects with index (from 0), name, seconds (null where
    unknown), width, height, boxes (x1, y1, x2, y2 in pixels of the original frame, 0-based, inclusive), scores, labels
    (from 1) and label_names; then `footer` as "summary". class_names: of all labels, 0 the background.
    """

    def __init__(self, path: Path, header: dict, class_names: Sequence[str]) -> None:
        self.footer: dict = {}
        self._class_names = class_names
        self._header = header
        self._context = writing(path, text=True)
        self._file: IO[str]
        self._separator = "\n"

    def __enter__(self) -> JSONDetections:
        self._file = self._context.__enter__()
        self._file.write(json.dumps(self._header, ensure_ascii=False)[:-1] + ',\n"frames": [')
        return self

    def add(self, frame: Frame, detections: Detections) -> None:
        """The next frame, with its `pixels`, and what was found in it, on the CPU."""
        labels = detections.labels.tolist()
        line = {
            "index": frame.index,
            "name": frame.name,
            "seconds": None if frame.seconds is None else round(frame.seconds, 4),
            "width": frame.pixels.shape[1],
            "height": frame.pixels.shape[0],
            "boxes": [[round(value, 2) for value in box] for box in detections.boxes.tolist()],
            "scores": [round(score, 4) for score in detections.scores.tolist()],
            "labels": labels,
            "label_names": [self._class_names[label] for label in labels],
        }
        self._file.write(self._separator + json.dumps(line, ensure_ascii=False, allow_nan=False))
        self._separator = ",\n"

    def __exit__(self, *error: object) -> None:
        if error[0] is None:
            self._file.write('\n],\n"summary": ' + json.dumps(self.footer, allow_nan=False) + "}\n")
        self._context.__exit__(*error)
