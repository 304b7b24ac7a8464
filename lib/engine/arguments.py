"""Command-line arguments that the scripts of all methods share."""

from __future__ import annotations

import argparse
from pathlib import Path

from lib.command_line import count, rate, share
from lib.engine.demo import DemoSettings
from lib.engine.device import default_device, device_of
from lib.engine.distributed import processes_from_environment
from lib.engine.run import Method, Run, open_run
from lib.visualize.inside import PANELS
from lib.visualize.video_writer import CODECS


def run_parser(description: str, cfg_required: bool = True) -> argparse.ArgumentParser:
    """`--cfg FILE`, `--preset FILE`, `--device`, and `KEY=VALUE` for any key of the configuration."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    default = "" if cfg_required else "; default: the one in the weights"
    parser.add_argument("--cfg", required=cfg_required, metavar="FILE", help=f"YAML configuration{default}")
    parser.add_argument(
        "--preset",
        action="append",
        default=[],
        metavar="FILE",
        help="a few more keys, such as configs/presets/vid_only.yaml; may be given several times",
    )
    parser.add_argument("--device", default=default_device(), help="cpu, cuda or cuda:N; default: %(default)s")
    parser.add_argument("overrides", nargs="*", metavar="KEY=VALUE", help="configuration values, TRAIN.lr=1e-3")
    return parser


def weights_parser(description: str) -> argparse.ArgumentParser:
    """`run_parser` for scripts that need a trained model: `--weights FILE` too, and `--cfg` may be left out."""
    parser = run_parser(description, cfg_required=False)
    parser.add_argument(
        "--weights", metavar="FILE", help="a checkpoint; default: the run's, of epoch TEST.test_epoch (with --cfg)"
    )
    return parser


def test_parser(description: str) -> argparse.ArgumentParser:
    """`weights_parser` plus the arguments of a test."""
    parser = weights_parser(description)
    parser.add_argument(
        "--raw",
        action="store_true",
        help="save every box over the threshold, before NMS, for tools/evaluate.py --seq-nms, and do not evaluate",
    )
    parser.add_argument(
        "--videos", type=count, default=0, metavar="N", help="only the first N videos, results apart; 0: all"
    )
    parser.add_argument("--redo", action="store_true", help="detect again, even where this test is finished")
    return parser


def add_flow_argument(parser: argparse.ArgumentParser) -> None:
    """`--flow`: the source of the flow in a test."""
    parser.add_argument(
        "--flow",
        choices=("learned", "zero", "true"),
        default="learned",
        help="zero, or the generator's true flow (synthetic data), in place of the learned one; results apart",
    )


def run_of(arguments: argparse.Namespace, method: Method, needs_weights: bool = True) -> Run:
    """The run that `arguments` describe. Raises InputError."""
    return open_run(
        method,
        device_of(arguments.device, processes_from_environment().local_rank),
        arguments.cfg,
        arguments.preset,
        arguments.overrides,
        vars(arguments).get("weights"),
        needs_weights,
    )


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


def demo_settings(arguments: argparse.Namespace, folder: Path) -> DemoSettings:
    """What `arguments` ask a demo to write to `folder`."""
    return DemoSettings(
        folder=folder,
        min_score=arguments.min_score,
        file_score=arguments.min_score if arguments.file_score is None else arguments.file_score,
        clip="" if arguments.no_clip else "demo.mp4",
        codec=arguments.codec,
        fps=arguments.fps,
        pictures=arguments.pictures,
        show=arguments.show,
    )
