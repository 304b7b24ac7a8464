"""Run Deep Feature Flow on your own frames or video: an annotated clip, a contact sheet and the detections as JSON and
CSV.

Example: python dff/demo.py --weights my.pth --source my.mp4 --out output/my
"""

from __future__ import annotations

from dff.method import METHOD
from lib.command_line import run_script
from lib.data.video import open_frames
from lib.engine.arguments import demo_parser, demo_settings, run_of
from lib.engine.demo import DemoOutput
from lib.video_detector import VideoDetector


def main(argv: list[str] | None = None, batch_images: int = 1) -> None:
    """batch_images: frames that go through the network together."""
    arguments = demo_parser(__doc__).parse_intermixed_args(argv)
    run = run_of(arguments, METHOD, needs_weights=not arguments.random_weights)
    settings, source = demo_settings(arguments), open_frames(arguments.source)
    threshold = min(settings.min_score, settings.file_score)
    detector = VideoDetector.of_run(run, score_threshold=threshold, batch_images=batch_images)
    with DemoOutput(settings, source, detector.class_names, run.device, arguments.limit) as output:
        for frame, found in detector(source, limit=arguments.limit, timing=output.timing):
            output.add(frame, found)
    print(output.summary.table())


if __name__ == "__main__":
    run_script(main)
