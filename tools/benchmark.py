"""Time the methods side by side: milliseconds a frame, speed over R-FCN and over what the arithmetic allows, memory.

Random weights and frames: speed does not depend on them. Every round gives each method a turn, so that the ratios hold
on a machine whose speed drifts; medians are printed. `data` is resizing and conversion, `net` the networks, `post`
suppression and the copy to the CPU; ms/frame is net and post. DFF's key frames and the frames between are also timed
apart in stream mode, one frame at a time; segment mode takes --batch frames at once.

--versus compares two settings, each given as configuration values: the methods run with and without it.

Example: python tools/benchmark.py --methods rfcn dff fgfa --device cpu --size 600 1000
Example: python tools/benchmark.py --methods rfcn --versus PRECISION=bfloat16
"""

from __future__ import annotations

import argparse
import logging
import multiprocessing
import sys
from multiprocessing.connection import Connection
from pathlib import Path
from statistics import median

import torch
from tqdm import tqdm

from lib.command_line import count, run_script
from lib.config import Config, load_config
from lib.data.transforms import Preprocessing
from lib.engine.benchmarking import Contender, MatmulPeak, host_mb, random_frames, run_rounds
from lib.engine.device import default_device, device_of
from lib.engine.memory import held_gib
from lib.engine.run import METHODS, method_called
from lib.engine.seeding import seed_everything
from lib.files import check_output, write_json
from lib.host_memory import set_up_host_memory
from lib.models.build import build_postprocess
from lib.models.flops import count_parts
from lib.models.inference_form import prepare_for_inference
from lib.models.precision import set_precision
from lib.models.video_model import parts_of

_LOGGER = logging.getLogger(__name__)
JSON_KEYS = (
    "method",
    "device",
    "precision",
    "compile",
    "mode",
    "batch",
    "height",
    "width",
    "interval_or_window",
    "ms_per_frame",
    "key_ms",
    "nonkey_ms",
    "speedup_over_rfcn",
    "flop_bound_share",
    "gflops_per_s",
    "matmul_peak_gflops_per_s",
    "peak_memory_mb",
)
_SEGMENT = 8  # frames that go through the networks together in segment mode


def parse_arguments(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=list(METHODS))
    parser.add_argument("--cfg", metavar="FILE", help="network settings; default: the originals' ResNet-101")
    parser.add_argument("--device", default=default_device(), help="cpu, cuda or cuda:N; default: %(default)s")
    parser.add_argument("--size", type=int, nargs=2, default=(600, 1000), metavar=("H", "W"), help="network input")
    parser.add_argument("--classes", type=int, default=31, help="with the background; default: %(default)s")
    parser.add_argument(
        "--precision", default="", help="float32, tf32, bfloat16, float16 or int8; default: the configuration's"
    )
    parser.add_argument("--mode", choices=("stream", "segment"), default="stream")
    parser.add_argument(
        "--batch",
        type=count,
        default=0,
        metavar="N",
        help=f"frames at once in segment mode; default: in DFF the interval, {_SEGMENT} in the others",
    )
    parser.add_argument("--interval", type=count, default=10, help="of key frames in DFF; default: %(default)s")
    parser.add_argument("--window", type=count, default=19, help="frames that FGFA averages, odd; default: %(default)s")
    parser.add_argument("--compile", action="store_true", help="torch.compile; the same as COMPILE=on")
    parser.add_argument("--rounds", type=count, default=5, help="default: %(default)s")
    parser.add_argument("--threads", type=count, default=0, help="CPU threads; 0: PyTorch's own choice")
    parser.add_argument("--versus", nargs="+", metavar="KEY=VALUE", help="also time every method with these values")
    parser.add_argument(
        "--json", type=Path, metavar="OUT", help="also write the rows, in the printed order, to this file"
    )
    parser.add_argument("overrides", nargs="*", metavar="KEY=VALUE", help="configuration values, network.DEPTH=50")
    args = parser.parse_intermixed_args(argv)
    if args.window % 2 == 0:
        parser.error(
            f"--window {args.window}: FGFA averages a frame and as many before as after it; give an odd number"
        )
    return args


def config_of(args: argparse.Namespace, method: str, more: list[str]) -> Config:
    """The configuration that a method is timed with."""
    interval = {"rfcn": 0, "dff": args.interval, "fgfa": args.window // 2}[method]
    chosen = [f"TEST.KEY_FRAME_INTERVAL={interval}", f"SCALES=[{min(args.size)}, {max(args.size)}]"]
    chosen += [f"PRECISION={args.precision}"] if args.precision else []
    chosen += ["COMPILE=on"] if args.compile else []
    return load_config(args.cfg, [*chosen, *args.overrides, *more])


def contender(args: argparse.Namespace, method: str, more: list[str], device: torch.device) -> Contender:
    """A method with random weights, ready to be timed."""
    cfg = config_of(args, method, more)
    torch.manual_seed(0)
    before = held_gib(device)
    described = method_called(method)
    reduced = set_precision(cfg.PRECISION, device)
    model = described.build(cfg, args.classes).eval()
    embed_net = parts_of(model).get("embed_net")
    flops = count_parts(model.features, model.detector, model.flow_net, embed_net, *args.size)
    model = prepare_for_inference(model.to(device), reduced, cfg.COMPILE, cfg.PRECISION == "int8")
    batch = 1 if args.mode == "stream" else args.batch or {"dff": args.interval}.get(method, _SEGMENT)
    return Contender(
        method,
        model,
        build_postprocess(cfg, described.score_threshold),
        Preprocessing.from_config(cfg, device),
        device,
        cfg.PRECISION,
        flops,
        frames_a_turn={"rfcn": max(2, batch), "dff": args.interval, "fgfa": max(1, batch)}[method],
        batch_images=batch,
        interval=args.interval,
        flows=1 if cfg.TEST.PROPAGATE_FROM == "own" else 2,  # from one key frame, or from both
        averaged=args.window if method == "fgfa" else 0,
        held_gib=held_gib(device) - before,
    )


def row_of(args: argparse.Namespace, one: Contender, cfg: Config, peak: MatmulPeak, base: Contender | None) -> dict:
    """The figures of one contender; base: R-FCN in the same setting, where it was timed too."""
    flops = one.flops_per_frame
    speed = flops / one.ms_per_frame / 1e6  # GFLOP/s
    speedup = bound = None
    if base is not None:
        speedup = base.ms_per_frame / one.ms_per_frame
        bound = base.flops_per_frame / flops
    return {
        "method": one.name,
        "device": str(one.device),
        "precision": cfg.PRECISION,
        "compile": cfg.COMPILE,
        "mode": args.mode,
        "batch": one.batch_images,
        "height": args.size[0],
        "width": args.size[1],
        "interval_or_window": {"rfcn": None, "dff": args.interval, "fgfa": args.window}[one.name],
        "ms_per_frame": one.ms_per_frame,
        "ms_range": [min(one.totals), max(one.totals)],
        "data_ms": median(one.data),
        "net_ms": median(one.net),
        "post_ms": median(one.post),
        "key_ms": median(one.key) if one.key else None,
        "nonkey_ms": median(one.nonkey) if one.nonkey else None,
        "frames_per_second": 1000 / one.ms_per_frame,
        "speedup_over_rfcn": speedup,
        "flop_bound_share": None if speedup is None else speedup / bound,
        "gflops_per_s": speed,
        "matmul_peak_gflops_per_s": peak.best_gflops,
        "peak_share": speed / peak.best_gflops,
        "threads": torch.get_num_threads(),
        "peak_memory_mb": one.device_mb,
    }


def _memory_alone(argv: list[str], method: str, more: list[str], answer: Connection) -> None:
    """In a process of its own: the memory that a method needs on the CPU."""
    set_up_host_memory()
    args = parse_arguments(argv)
    torch.set_num_threads(args.threads or torch.get_num_threads())
    one = contender(args, method, more, torch.device("cpu"))
    one.begin(random_frames(*args.size))
    answer.send(host_mb())


def memory_alone(argv: list[str], method: str, more: list[str]) -> float | None:
    """Peak memory of a method on the CPU, in MB; None where the system does not say, or the process dies."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe(duplex=False)
    process = context.Process(target=_memory_alone, args=(argv, method, more, theirs))
    process.start()
    theirs.close()  # so that the end of the process is seen
    try:
        return ours.recv()
    except EOFError:
        process.join()
        _LOGGER.warning("%s: the process that measures its memory ended with status %s", method, process.exitcode)
        return None
    finally:
        process.join()


def table(rows: list[dict]) -> str:
    """The rows as they are printed."""
    lines = [
        f"{'method':8}{'setting':>22}{'ms/frame':>10}{'fps':>8}{'key':>9}{'between':>9}{'data':>7}{'post':>7}"
        f"{'speed-up':>10}{'of bound':>10}{'GFLOP/s':>9}{'of peak':>9}{'MB':>8}"
    ]
    for row in rows:

        def shown(name: str, form: str, row: dict = row) -> str:
            return "-" if row[name] is None else format(row[name], form)

        setting = f"{row['precision']}{'' if row['compile'] == 'off' else ' compiled'} x{row['batch']}"
        speedup = "-" if row["speedup_over_rfcn"] is None else f"{row['speedup_over_rfcn']:.2f}x"
        lines.append(
            f"{row['method']:8}{setting:>22}{row['ms_per_frame']:10.1f}{row['frames_per_second']:8.2f}"
            f"{shown('key_ms', '.1f'):>9}{shown('nonkey_ms', '.1f'):>9}{row['data_ms']:7.1f}{row['post_ms']:7.1f}"
            f"{speedup:>10}{shown('flop_bound_share', '.0%'):>10}{row['gflops_per_s']:9.0f}{row['peak_share']:9.0%}"
            f"{shown('peak_memory_mb', '.0f'):>8}"
        )
    return "\n".join(lines)


def main(argv: list[str] | None = None) -> list[dict]:
    """Print the table and return its rows."""
    argv = sys.argv[1:] if argv is None else argv
    args = parse_arguments(argv)
    if args.json:
        check_output(args.json)
    device = device_of(args.device)
    seed_everything(0, deterministic=False)
    torch.set_num_threads(args.threads or torch.get_num_threads())
    settings = [[], *([args.versus] if args.versus else [])]
    timed: list[tuple[Contender, Config, int]] = []
    for number, more in enumerate(settings):
        for method in args.methods:
            cfg = config_of(args, method, more)
            timed.append((contender(args, method, more, device), cfg, number))
    peaks = {cfg.PRECISION: MatmulPeak(device, cfg.PRECISION) for _, cfg, _ in timed}
    with tqdm(total=args.rounds, unit="round", desc="timing", dynamic_ncols=True) as bar:
        for one, *_ in timed:
            one.begin(random_frames(*args.size))
        run_rounds([one for one, *_ in timed], list(peaks.values()), args.rounds, bar.update)
    rows = []
    for one, cfg, number in timed:
        base = next((other for other, _, n in timed if other.name == "rfcn" and n == number), None)
        rows.append(row_of(args, one, cfg, peaks[cfg.PRECISION], base))
        if device.type == "cpu":
            rows[-1]["peak_memory_mb"] = memory_alone(argv, one.name, settings[number])
    print(table(rows))
    for one, other in zip(rows, rows[len(args.methods) :], strict=False) if args.versus else ():
        ratio = one["ms_per_frame"] / other["ms_per_frame"]
        print(f"{one['method']}: {' '.join(args.versus)} is {ratio:.2f}x as fast")
    if args.json:
        write_json(args.json, [{key: row[key] for key in JSON_KEYS} for row in rows])
    return rows


if __name__ == "__main__":
    run_script(main)
