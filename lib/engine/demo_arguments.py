"""Command-line arguments of the demos."""

from __future__ import annotations

import argparse
from pathlib import Path

from lib.command_line import count, rate, share
from lib.engine.arguments import weights_parser
from lib.engine.demo import DemoSettings
from lib.visualize.inside import PANELS
from lib.visualize.video_writer import CODECS


def demo_parser(description: str) -> argparse.ArgumentParser:
    """`weights_parser` plus the arguments of a demo."""
    parser = weights_parser(description)
    parser.add_argument(
        "--random-weights", action="store_true", help="try a configuration without training; boxes are meaningless"
    )
    parser.add_argument(
        "--source",
        help="folder of images, 'pattern*.jpg', video file, rtsp:// or http:// address, camera:0; default: the clips "
        "in data/demo",
    )
    parser.add_argument(
        "--out", metavar="DIR", help="folder for the clip, the contact sheet, JSON and CSV; default: in output/demo"
    )
    parser.add_argument(
        "--min-score", type=share, default=0.7, help="do not draw weaker detections; default: %(default)s"
    )
    parser.add_argument(
        "--file-score",
        type=share,
        metavar="SCORE",
        help="leave weaker detections out of JSON and CSV; default: --min-score",
    )
    parser.add_argument("--limit", type=count, default=0, metavar="N", help="only the first N frames; 0: all")
    parser.add_argument(
        "--fps", type=rate, default=0.0, help="frames a second of the clip; default: the source's, or 25"
    )
    parser.add_argument(
        "--codec", choices=CODECS, default="h264", help="of the clip; vp9: smaller and slower; default: %(default)s"
    )
    parser.add_argument("--no-clip", action="store_true", help="write no video")
    parser.add_argument(
        "--pictures", action="store_true", help="also write every annotated frame as a JPEG, to DIR/frames"
    )
    parser.add_argument(
        "--show",
        type=panels,
        default=(),
        metavar="PANELS",
        help=f"show beside the frame what the network computed: {','.join(PANELS)}, or all",
    )
    parser.add_argument(
        "--live", action="store_true", help="show the answers in a window and write nothing; drops frames to keep up"
    )
    return parser


def panels(text: str) -> tuple[str, ...]:
    """What --show names: some of `PANELS`, separated by commas, or all."""
    if text == "all":
        return ("all",)
    chosen = tuple(part.strip() for part in text.split(","))
    unknown = [part for part in chosen if part not in PANELS]
    if unknown:
        raise argparse.ArgumentTypeError(f"must be 'all' or some of {','.join(PANELS)}, not {unknown[0]!r}")
    return chosen


def file_score(arguments: argparse.Namespace) -> float:
    """The least score of a detection in JSON and CSV: --file-score, or else --min-score."""
    return arguments.min_score if arguments.file_score is None else arguments.file_score


def demo_settings(arguments: argparse.Namespace, folder: Path) -> DemoSettings:
    """What `arguments` ask a demo to write to `folder`."""
    return DemoSettings(
        folder=folder,
        min_score=arguments.min_score,
        file_score=file_score(arguments),
        clip="" if arguments.no_clip else "demo.mp4",
        codec=arguments.codec,
        fps=arguments.fps,
        pictures=arguments.pictures,
        show=arguments.show,
    )
