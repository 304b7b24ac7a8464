"""Count the floating-point operations of each method's parts and, per frame, of each method.

Only convolutions are counted, 2 operations for each multiply-add, at the size of the network input. The counts bound
the speed: Deep Feature Flow cannot exceed R-FCN's speed by more than the ratio of their operations, and FGFA cannot be
slower by less.

Example: python tools/flops.py --size 600 1000 --interval 10 --window 19
"""

from __future__ import annotations

import argparse
from pathlib import Path

from dff.model import build_dff
from fgfa.model import build_fgfa
from lib.command_line import run_script
from lib.config import Config, load_config
from lib.files import write_json
from lib.models.flops import PartFlops, count_parts
from lib.models.video_model import VideoModel, parts_of
from rfcn.model import build_rfcn


def parse_arguments(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cfg", metavar="FILE", help="network settings; default: the originals' ResNet-101")
    parser.add_argument("--size", type=int, nargs=2, default=(600, 1000), metavar=("H", "W"), help="network input")
    parser.add_argument("--classes", type=int, default=31, help="with the background; default: %(default)s")
    parser.add_argument("--interval", type=float, default=10, help="of key frames in DFF; default: %(default)s")
    parser.add_argument("--window", type=float, default=19, help="frames that FGFA averages; default: %(default)s")
    parser.add_argument("--json", type=Path, metavar="OUT", help="also write the counts to this file")
    parser.add_argument("overrides", nargs="*", metavar="KEY=VALUE", help="configuration values, network.DEPTH=50")
    return parser.parse_intermixed_args(argv)


def parts_of_methods(cfg: Config, classes: int, height: int, width: int) -> dict[str, PartFlops]:
    """Counts of each method's parts."""
    models: list[tuple[str, VideoModel]] = [
        ("rfcn", build_rfcn(cfg, classes)),
        ("dff", build_dff(cfg, classes)),
        ("fgfa", build_fgfa(cfg, classes)),
    ]
    counts = {}
    for name, model in models:
        parts = parts_of(model.eval())
        counts[name] = count_parts(
            model.features, model.detector, model.flow_net, parts.get("embed_net"), height, width
        )
    return counts


def main(argv: list[str] | None = None) -> None:
    args = parse_arguments(argv)
    parts = parts_of_methods(load_config(args.cfg, args.overrides), args.classes, *args.size)
    fgfa, dff = parts["fgfa"], parts["dff"]
    rows = {
        "backbone and feat_conv_3x3": fgfa.features,
        "RPN and R-FCN head": fgfa.heads,
        "FlowNet-S": fgfa.flow,
        "FlowNet-S with scale map": dff.flow,
        "FGFA embedding": fgfa.embedding,
    }
    per_frame = {"R-FCN": parts["rfcn"].rfcn(), "DFF": dff.dff(args.interval), "FGFA": fgfa.fgfa(args.window)}
    print(f"GFLOP at {args.size[0]} x {args.size[1]} (2 per multiply-add)")
    for name, count in rows.items():
        print(f"  {name:<28}{count / 1e9:10.1f}")
    print(f"per frame: DFF with a key frame in {args.interval:g}, FGFA over {args.window:g} frames")
    for name, count in per_frame.items():
        print(f"  {name:<28}{count / 1e9:10.1f}   {per_frame['R-FCN'] / count:6.2f}x R-FCN's speed at most")
    if args.json:
        write_json(args.json, {"size": list(args.size), "parts": rows, "per_frame": per_frame})


if __name__ == "__main__":
    run_script(main)
