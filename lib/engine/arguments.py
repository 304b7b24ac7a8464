"""Command-line arguments that the scripts of all methods share."""

from __future__ import annotations

import argparse

from lib.command_line import count
from lib.engine.device import default_device, device_of
from lib.engine.distributed import processes_from_environment
from lib.engine.run import Method, Run, open_run


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
