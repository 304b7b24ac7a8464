"""What the demo script of every method does."""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterator
from pathlib import Path

from lib.data.video import FrameSource, open_frames
from lib.engine.arguments import run_of
from lib.engine.demo import DemoOutput
from lib.engine.demo_arguments import demo_settings, file_score
from lib.engine.live import Window, show_live
from lib.engine.run import Method, Run
from lib.engine.shipped import limits_of_shipped, shipped_clips, shipped_detector
from lib.video_detector import VideoDetector
from lib.visualize.inside import ShowError

OUTPUT = Path("output", "demo")


def run_demo(method: Method, arguments: argparse.Namespace, batch_images: int = 1) -> None:
    """Detect in the frames that `arguments` (of `demo_parser`) name, write or show the answers and print a summary.

    Without weights and configuration it takes the method's shipped detector, without a source the shipped clips.
    batch_images: frames that go through the network together. Raises InputError.
    """
    limits = ""
    if not (arguments.weights or arguments.cfg or arguments.random_weights):
        arguments.weights = str(shipped_detector(method.name))
        limits = limits_of_shipped(arguments.source, "for other objects give a detector of yours: --weights FILE")
    videos = list(_videos(method, arguments))
    window = Window() if arguments.live else None
    run = run_of(arguments, method, needs_weights=not arguments.random_weights)
    if arguments.show and run.cfg.TEST.SEQ_NMS:
        raise ShowError("--show: Seq-NMS would keep the features of the whole video in memory; set TEST.SEQ_NMS=false")
    detector = VideoDetector.of_run(
        run,
        score_threshold=min(arguments.min_score, file_score(arguments)),
        batch_images=1 if arguments.live else batch_images,
    )
    print(_detector_words(run, detector))
    if limits:
        print(limits)
    for source, folder in videos:
        if window is not None:
            shown = show_live(
                detector, source, window, min_score=arguments.min_score, show=arguments.show, limit=arguments.limit
            )
            print(shown.line())
            if shown.stopped:
                return
            if not source.repeatable and not arguments.limit:
                print(f"{source.description} gives no more frames: start again if it comes back")
            continue
        settings = demo_settings(arguments, folder)
        with DemoOutput(settings, source, detector.class_names, run.device, arguments.limit) as output:
            answers = detector(source, limit=arguments.limit, inside=bool(settings.show), timing=output.timing)
            for frame, found in answers:
                output.add(frame, found)
        print(output.summary.table())
        if output.interrupted:
            return


def _videos(method: Method, arguments: argparse.Namespace) -> Iterator[tuple[FrameSource, Path]]:
    """Every video with the folder that its results go to."""
    if arguments.source is not None:
        folder = Path(arguments.out) if arguments.out else OUTPUT / method.name / source_name(arguments.source)
        yield open_frames(arguments.source), folder
        return
    folder = Path(arguments.out) if arguments.out else OUTPUT / method.name
    for clip in shipped_clips():
        yield open_frames(clip), folder / clip.name


def source_name(source: str) -> str:
    """A folder's name for the results of `source`: that of its file or folder, of a stream's or a pattern's last part.

    What is not a letter, a digit, a dot or a dash becomes an underscore.
    """
    last = re.split(r"[\\/]", re.sub(r"[?#].*", "", source) if "://" in source else source.rstrip("\\/"))[-1]
    stem = Path(last).stem if "." in last.strip(".") else last
    return re.sub(r"[^\w.-]+", "_", stem).strip("._") or "video"


def _detector_words(run: Run, detector: VideoDetector) -> str:
    if run.weights is None:
        return f"detector: {run.method.name} with random weights: boxes are meaningless"
    stored = run.identity.stored if run.identity else ""
    form = f", weights stored in {stored} and loaded as float32" if stored else ""
    return f"detector: {run.weights} ({run.method.name}, {len(detector.class_names) - 1} classes{form})"
