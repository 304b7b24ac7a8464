"""Show methods side by side: run them on the same frames, or join clips that demos wrote.

With --methods each method answers every frame in turn, so that the times printed at the end compare also on a busy
machine. METHOD alone is the detector that comes with the repository; METHOD=FILE another checkpoint. Clips are given as
TITLE=FILE, such as the demo.mp4 that a demo script wrote. A contact sheet is written beside the clip, as a PNG of the
same name. Ctrl-C ends both after the frame in hand.

Example: python tools/side_by_side.py --methods rfcn dff fgfa --source my.mp4 --out methods.mp4
Example: python tools/side_by_side.py --methods rfcn dff=my_dff.pth --out methods.mp4
Example: python tools/side_by_side.py "R-FCN=a/demo.mp4" "DFF=b/demo.mp4" "FGFA=c/demo.mp4" --out methods.mp4
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tqdm import tqdm

from lib.command_line import count, positive_count, rate, run_script, share
from lib.data.video import DEFAULT_FPS, FrameSource, SourceError, open_frames
from lib.engine.device import default_device
from lib.engine.inference import Timing
from lib.engine.interruption import StopRequest
from lib.engine.run import METHODS
from lib.engine.shipped import limits_of_shipped, shipped_clips, shipped_detector
from lib.files import check_output
from lib.video_detector import VideoDetector, load_detector
from lib.visualize.annotate import Annotator
from lib.visualize.clip import ContactSheet, side_by_side
from lib.visualize.video_writer import CODECS, VideoWriter

_TITLES = {"rfcn": "R-FCN", "dff": "DFF", "fgfa": "FGFA"}


def parse_arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("clips", nargs="*", metavar="TITLE=FILE", help="a video file or a folder of frames")
    parser.add_argument("--out", required=True, type=Path, metavar="FILE", help="ends in .mp4 or .webm")
    parser.add_argument("--codec", choices=CODECS, default="h264", help="default: %(default)s")
    parser.add_argument("--fps", type=rate, default=0.0, help="frames a second; default: those of the frames")
    parser.add_argument("--sheet", type=positive_count, default=4, metavar="N", help="frames on the sheet; default: 4")
    run = parser.add_argument_group("methods to run")
    run.add_argument("--methods", nargs="+", default=[], metavar="METHOD[=FILE]", help=f"of {', '.join(METHODS)}")
    run.add_argument("--source", help="frames, as for a demo; default: the first clip in data/demo")
    run.add_argument("--min-score", type=share, default=0.7, help="do not draw weaker ones; default: %(default)s")
    run.add_argument("--limit", type=count, default=0, metavar="N", help="only the first N frames; 0: all")
    run.add_argument("--device", default=default_device(), help="cpu, cuda or cuda:N; default: %(default)s")
    args = parser.parse_intermixed_args(argv)
    if bool(args.clips) == bool(args.methods):
        parser.error("give either clips as TITLE=FILE, or --methods to run")
    return args


@dataclass
class Column:
    """One of what stands side by side. pictures: of its frames. timing: of the detector, None of a finished clip."""

    title: str
    pictures: Iterator[np.ndarray]
    fps: float | None
    length: int | None
    timing: Timing | None = None


def clip_columns(clips: Sequence[str]) -> list[Column]:
    """Finished clips, each given as TITLE=FILE. Raises SourceError."""
    columns = []
    for clip in clips:
        title, found, file = clip.partition("=")
        if not (title and found and file):
            raise SourceError(f"'{clip}' is not TITLE=FILE")
        source = open_frames(file)
        columns.append(Column(title, (frame.pixels for frame in source), source.fps, source.length))
    return columns


def method_columns(args: argparse.Namespace) -> list[Column]:
    """Detectors that run; a line says where one of them is made for other frames. Raises InputError."""
    source = open_frames(shipped_clips()[0] if args.source is None else args.source)
    if not source.repeatable:
        raise SourceError(f"{source.description}: each method reads the frames for itself; record them first")
    length = source.length_within(args.limit)
    columns = []
    for given in args.methods:
        name, _, file = given.partition("=")
        if name not in METHODS:
            raise SourceError(f"--methods {given}: is none of {', '.join(METHODS)}")
        weights = file or shipped_detector(name)
        detector = load_detector(weights, device=args.device, method=name, score_threshold=args.min_score)
        timing = Timing()
        pictures = annotated(detector, source, args.limit, timing)
        columns.append(Column(_TITLES[name], pictures, source.fps, length, timing))
    limits = limits_of_shipped(args.source, "for other objects give a detector of yours: METHOD=FILE")
    if limits and any(given in METHODS for given in args.methods):
        print(limits)
    return columns


def annotated(detector: VideoDetector, source: FrameSource, limit: int, timing: Timing) -> Iterator[np.ndarray]:
    """Yield the annotated pictures of a video."""
    annotate = Annotator(detector.class_names[1:], detector.score_threshold)
    for frame, found in detector(source, limit=limit, timing=timing):
        yield annotate(frame, found)


def join(columns: Sequence[Column], out: Path, fps: float = 0.0, codec: str = "h264", on_sheet: int = 4) -> list[Path]:
    """Write the clip and its contact sheet; returns their paths. Raises SourceError for different lengths.

    Ctrl-C and SIGTERM end both after the frame in hand and keep what is there, and a line says so; before the first
    frame a second Ctrl-C raises KeyboardInterrupt, and nothing is kept.
    """
    sheet_path = out.with_suffix(".png")
    check_output(sheet_path)
    sheet = ContactSheet(on_sheet, width=min(1920, 480 * len(columns)))
    titles = [column.title for column in columns]
    with StopRequest() as stop, VideoWriter(out, fps or columns[0].fps or DEFAULT_FPS, codec) as video:
        try:
            for number, pictures in enumerate(tqdm(_together(columns), unit="frame", total=columns[0].length)):
                sheet.add(side_by_side(pictures, [f"{title}, frame {number}" for title in titles]), "")
                video.write(side_by_side(pictures, titles))
                if stop.signal_number is not None:
                    raise KeyboardInterrupt
        except KeyboardInterrupt:
            if video.count == 0:
                raise
            print(f"interrupted: keeping the first {video.count} frames")
    sheet.write(sheet_path)
    return [out, sheet_path]


def _together(columns: Sequence[Column]) -> Iterator[list[np.ndarray]]:
    """Yield the first picture of all columns, then the second, and so on."""
    while True:
        pictures = [next(column.pictures, None) for column in columns]
        ended = [column.title for column, picture in zip(columns, pictures, strict=True) if picture is None]
        if len(ended) == len(pictures):
            return
        if ended:
            raise SourceError(f"{', '.join(ended)}: ends before the others; give clips of the same frames")
        yield pictures


def timing_table(columns: Sequence[Column]) -> str:
    """Milliseconds a frame of the detectors, and how many times as fast as the first one each is."""
    first = columns[0].timing.ms_per_frame
    return "\n".join(
        f"{column.title:6} {column.timing.ms_per_frame:8.1f} ms a frame {first / column.timing.ms_per_frame:6.2f}x"
        for column in columns
    )


def main(argv: Sequence[str] | None = None) -> None:
    """Write what `argv` asks for, the command line where None. Raises InputError."""
    args = parse_arguments(argv)
    for path in (args.out, args.out.with_suffix(".png")):
        check_output(path)
    columns = method_columns(args) if args.methods else clip_columns(args.clips)
    written = join(columns, args.out, args.fps, args.codec, args.sheet)
    if args.methods:
        print(timing_table(columns))
    print("written: " + ", ".join(str(path) for path in written))


if __name__ == "__main__":
    run_script(main)
