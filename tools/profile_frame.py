"""Profile one frame of each method, DFF's key frame and the frame after it apart, with random weights.

Prints the operations that take most time, and writes them to --out: profile.json and one text for each method.

Example: python tools/profile_frame.py --device cuda --size 600 1000 --out output/profile
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import torch
from torch.profiler import ProfilerActivity, profile

from lib.command_line import run_script
from lib.engine.benchmarking import Contender, random_frames
from lib.engine.device import wait_for
from lib.engine.seeding import seed_everything
from lib.files import check_output, write_json, write_text
from tools import benchmark

_SHOWN = 25


def parse_arguments(argv: list[str]) -> tuple[argparse.Namespace, argparse.Namespace]:
    """Own arguments, and those of tools/benchmark.py, which say what is profiled."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder of the tables")
    own, rest = parser.parse_known_args(argv)
    return own, benchmark.parse_arguments(rest)


def profiled(one: Contender) -> profile:
    """One frame through the whole loop."""
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if one.device.type == "cuda" else [])]
    with profile(activities=activities) as result:
        one.step()
        wait_for(one.device)
    return result


def operations(result: profile, on_gpu: bool) -> list[dict]:
    """Operations by their own time in milliseconds, the longest first."""
    time_of = "self_device_time_total" if on_gpu else "self_cpu_time_total"
    rows = [
        {"name": event.key, "ms": getattr(event, time_of) / 1000, "calls": event.count}
        for event in result.key_averages()
    ]
    return sorted((row for row in rows if row["ms"] > 0), key=lambda row: -row["ms"])[:_SHOWN]


def main(argv: list[str] | None = None) -> dict[str, list[dict]]:
    """Returns the operations of each frame that was profiled."""
    own, args = parse_arguments(sys.argv[1:] if argv is None else argv)
    check_output(own.out / "profile.json")
    own.out.mkdir(parents=True, exist_ok=True)
    seed_everything(0, deterministic=False)
    torch.set_num_threads(args.threads or torch.get_num_threads())
    device, found = torch.device(args.device), {}
    on_gpu = device.type == "cuda"
    for method in args.methods:
        one = benchmark.contender(args, method, [], device)
        one.begin(random_frames(*args.size))  # a whole number of key-frame intervals
        for name in ("dff_key", "dff") if method == "dff" else (method,):
            result = profiled(one)
            found[name] = operations(result, on_gpu)
            sort = "self_device_time_total" if on_gpu else "self_cpu_time_total"
            table = result.key_averages().table(sort_by=sort, row_limit=_SHOWN, max_name_column_width=60)
            write_text(own.out / f"profile_{name}.txt", table)
            print(f"{name}\n{table}")
    write_json(own.out / "profile.json", found)
    return found


if __name__ == "__main__":
    run_script(main)
