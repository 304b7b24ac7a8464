"""Profile one frame of each method, DFF's key frame and the frame after it apart, with random weights.

Prints the operations that take most time, and writes to --out: one text for each method, and profile.json with, for
each frame, its time without the profiler, the time that the device computes and the part of it in convolutions, in
milliseconds, and these operations. What the first has more than the second, the device waits.

Example: python tools/profile_frame.py --device cuda --size 600 1000 --out output/profile
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from statistics import median
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import torch
from torch.autograd import DeviceType
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
    args = benchmark.parse_arguments(rest)
    if args.mode != "stream":
        parser.error(f"--mode {args.mode}: frames are profiled one at a time; leave it out")
    return own, args


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


def summary(result: profile, on_gpu: bool, milliseconds: float) -> dict[str, Any]:
    """What profile.json says of a frame; milliseconds: without the profiler."""
    events = result.key_averages()
    if on_gpu:  # kernels stand for themselves; their times stand once more beside the operations that launch them
        kernels = (e for e in events if e.device_type == DeviceType.CUDA and not e.is_user_annotation)
        busy = sum(event.self_device_time_total for event in kernels)
    else:
        busy = sum(event.self_cpu_time_total for event in events)
    operators = [event for event in events if event.device_type == DeviceType.CPU and "conv" in event.key]
    convolutions = sum(event.self_device_time_total if on_gpu else event.self_cpu_time_total for event in operators)
    return {
        "ms": milliseconds,
        "device_ms": busy / 1000,
        "convolutions_ms": convolutions / 1000,
        "operations": operations(result, on_gpu),
    }


def main(argv: list[str] | None = None) -> dict[str, dict[str, Any]]:
    """Returns what profile.json says of each frame that was profiled."""
    own, args = parse_arguments(sys.argv[1:] if argv is None else argv)
    check_output(own.out / "profile.json")
    own.out.mkdir(parents=True, exist_ok=True)
    seed_everything(0, deterministic=False)
    torch.set_num_threads(args.threads or torch.get_num_threads())
    device, found = torch.device(args.device), {}
    on_gpu = device.type == "cuda"
    for method in args.methods:
        one = benchmark.contender(args, method, [], device)
        one.begin(random_frames(*args.size))
        for _ in range(args.rounds):
            one.turn()
        times = {"dff_key": one.key, "dff": one.nonkey} if method == "dff" else {method: one.totals}
        # begin and turns take a whole number of key-frame intervals; at interval 1 all frames are key frames
        for name, alone in ((name, alone) for name, alone in times.items() if alone):
            result = profiled(one)
            found[name] = summary(result, on_gpu, median(alone))
            sort = "self_device_time_total" if on_gpu else "self_cpu_time_total"
            table = result.key_averages().table(sort_by=sort, row_limit=_SHOWN, max_name_column_width=60)
            write_text(own.out / f"profile_{name}.txt", table)
            print(f"{name}\n{table}")
    write_json(own.out / "profile.json", found)
    return found


if __name__ == "__main__":
    run_script(main)
