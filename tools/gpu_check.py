"""Build, test, compare, time and profile everything on a GPU, one stage after the other, and write one table.

A stage that fails or takes too long is reported and the others still run. --out gets summary.json, summary.md and the
log of every stage. With --device cpu the same is tried on the CPU with small networks and frames.

Example: python tools/gpu_check.py --device cuda --golden GOLDEN --out output/gpu_check
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from lib.command_line import child_environment, count, run_script
from lib.engine.device import default_device, device_of
from lib.engine.provenance import machine
from lib.files import check_output, write_json, write_text
from lib.version import commit
from tools.gpu_check_results import markdown, parity_result, training_result

ROOT = Path(__file__).resolve().parents[1]
_SMALL_NETWORK = [
    "network.DEPTH=18",
    "network.WIDTH=16",
    "network.FEAT_DIM=32",
    "network.FGFA_FEAT_DIM=48",
    "network.FLOW_WIDTH=0.125",
    "TEST.RPN_POST_NMS_TOP_N=50",
]
_SMALL_SIZE = ["--size", "96", "160", "--interval", "4", "--window", "5", "--rounds", "2"]
_PYTEST = ("-m", "pytest", "-m", "gpu", "--durations=0", "tests", "-k")
_DATA = ["--train-videos", "10", "--val-videos", "2", "--frames", "20", "--stills", "30", "--size", "160x128"]
_TRAINING = [
    "SCALES=[[128,160]]",
    "TRAIN.BATCH_IMAGES=5",
    "TRAIN.end_epoch=3",
    "default.frequent=10",
    "TRAIN.WORKERS=4",
    "TRAIN.RESUME=false",
]


@dataclass(frozen=True)
class Stage:
    """One command. limit: seconds that it may take. skip: why it is not run here, "" where it is. outcome: what an exit
    status of 1 says where it is a result rather than a failure, "" where it is a failure."""

    name: str
    command: Sequence[str]
    limit: float
    environment: dict[str, str] = field(default_factory=dict)
    skip: str = ""
    outcome: str = ""


def parse_arguments(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default=default_device(), help="cpu, cuda or cuda:N; default: %(default)s")
    parser.add_argument("--out", type=Path, default=Path("output/gpu_check"), metavar="DIR", help="%(default)s")
    parser.add_argument("--golden", type=Path, metavar="DIR", help="recordings of the originals; none: no parity stage")
    parser.add_argument("--only", nargs="+", metavar="STAGE", help="run these stages alone; default: all")
    parser.add_argument("--seconds", type=count, default=590, help="for all stages together; default: %(default)s")
    return parser.parse_args(argv)


def stages(args: argparse.Namespace, out: Path) -> list[Stage]:
    """All stages in the order of what they are worth, so that the time runs out on the last ones."""
    on_gpu = args.device != "cpu"
    needs_gpu = "" if on_gpu else "needs a GPU"
    python = (sys.executable,)
    build = Stage("build", (*python, "setup.py", "build_ext", "--inplace"), 300, {"FORCE_CUDA": "1" if on_gpu else "0"})
    listed = [
        build,
        Stage("doctor", (*python, "tools/doctor.py"), 60),
        # What torch.compile makes from nothing takes longest, so it comes late
        Stage("gpu_tests", (*python, *_PYTEST, "not compiled_features"), 240),
        *_parity_stages(args, out, "float32", ""),
        *(
            _benchmark(args, out, mode, precision)
            for mode in ("stream", "segment")
            for precision in _precisions(on_gpu)
        ),
        _profile(args, out),
        _operators(args, out),
        *_training_stages(args, out),
        *_parity_stages(args, out, "tf32", needs_gpu),
        Stage("gpu_tests_compiled", (*python, *_PYTEST, "compiled_features"), 240),
        _benchmark(args, out, "stream", "bfloat16", "on"),
        _benchmark(args, out, "stream", "bfloat16", "graphs", needs_gpu),
    ]
    return [stage for stage in listed if not args.only or stage.name in args.only]


def _precisions(on_gpu: bool) -> tuple[str, ...]:
    return ("float32", "tf32", "bfloat16") if on_gpu else ("float32", "bfloat16")


def _device_and_size(args: argparse.Namespace) -> tuple[str, ...]:
    """Configuration values first: after an option that takes several they would be taken for more of these."""
    on_gpu = args.device != "cpu"
    return (*(() if on_gpu else (*_SMALL_NETWORK, *_SMALL_SIZE)), "--device", args.device)


def _benchmark(
    args: argparse.Namespace, out: Path, mode: str, precision: str, compiled: str = "off", skip: str = ""
) -> Stage:
    name = "_".join(("benchmark", mode, precision, *((f"compile_{compiled}",) if compiled != "off" else ())))
    command = [sys.executable, "tools/benchmark.py", f"COMPILE={compiled}", *_device_and_size(args)]
    command += ["--mode", mode, "--precision", precision, "--json", str(out / f"{name}.json")]
    return Stage(name, command, 60 if compiled == "off" else 300, skip=skip)


def _profile(args: argparse.Namespace, out: Path) -> Stage:
    """In bfloat16, the fastest precision that the benchmark is run in."""
    command = [sys.executable, "tools/profile_frame.py", *_device_and_size(args)]
    return Stage("profile", [*command, "--precision", "bfloat16", "--out", str(out)], 90)


def _operators(args: argparse.Namespace, out: Path) -> Stage:
    command = [sys.executable, "tools/benchmark_ops.py", "--device", args.device, "--seconds", "0.2"]
    return Stage("operators", [*command, "--json", str(out / "operators.json")], 90)


def _parity_stages(args: argparse.Namespace, out: Path, precision: str, skip: str) -> list[Stage]:
    name, golden = f"parity_{precision}", args.golden or Path("GOLDEN")
    command = [sys.executable, "tools/check_parity.py", "--golden", str(golden.resolve()), "--device", args.device]
    command += ["--precision", precision, "--json", str(out / f"{name}.json")]
    # The tolerances are those of float32, so arrays outside them are what TF32 is expected to give
    outcome = "arrays outside float32's tolerances, below" if precision == "tf32" else ""
    return [Stage(name, command, 150, skip=skip or ("" if args.golden else "--golden was not given"), outcome=outcome)]


def _training_stages(args: argparse.Namespace, out: Path) -> list[Stage]:
    data = out / "data"
    made = Stage(
        "training_data", (sys.executable, "tools/make_synthetic_vid.py", "--out", str(data), *_DATA, "--overwrite"), 60
    )
    listed = [made]
    for precision in ("float32", "bfloat16"):
        command = [sys.executable, "rfcn/train_end2end.py", "--cfg", "configs/rfcn/resnet_v1_18_synthetic_vid.yaml"]
        command += ["--device", args.device, *_TRAINING, f"PRECISION={precision}", f"dataset.dataset_path={data}"]
        folder = out / f"training_{precision}"
        command += [f"dataset.root_path={folder}", f"output_path={folder}"]
        listed.append(Stage(f"training_{precision}", command, 120))
    return listed


def run_stage(stage: Stage, out: Path, seconds_left: float) -> dict[str, Any]:
    """Run the stage's command with its output in a log; returns what happened."""
    result: dict[str, Any] = {"stage": stage.name, "seconds": 0.0, "command": list(map(str, stage.command))}
    limit = min(stage.limit, seconds_left)
    if stage.skip or limit <= 0:
        return {**result, "status": "skipped", "why": stage.skip or "no time was left"}
    start = time.monotonic()
    with (out / f"{stage.name}.log").open("w", encoding="utf-8") as log:
        environment = child_environment(**stage.environment)
        process = subprocess.Popen(
            stage.command, cwd=ROOT, env=environment, stdout=log, stderr=subprocess.STDOUT, start_new_session=True
        )
        try:
            code = process.wait(limit)
            if code == 0 or (code == 1 and stage.outcome):
                status, why = "ok", stage.outcome if code else ""
            else:
                status, why = "failed", f"exit status {code}"
        except subprocess.TimeoutExpired:
            status, why = "failed", f"took more than {limit:.0f} s"
        finally:
            _end(process)
    if stage.name.startswith("gpu_tests"):
        lines = (out / f"{stage.name}.log").read_text(encoding="utf-8").splitlines() or [""]
        why = "; ".join(filter(None, (why, lines[-1])))  # how many passed, failed and were skipped
    return {**result, "seconds": time.monotonic() - start, "status": status, "why": why}


def _end(process: subprocess.Popen) -> None:
    """The process and those that it started."""
    with contextlib.suppress(ProcessLookupError):
        if hasattr(os, "killpg") and hasattr(signal, "SIGKILL"):
            os.killpg(process.pid, signal.SIGKILL)
        else:
            process.kill()
    process.wait()


def collect(out: Path, results: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """What the stages that ran have left in `out`."""
    ran = {result["stage"] for result in results if result["status"] != "skipped"}
    found: dict[str, Any] = {"benchmark": [], "operators": [], "parity": {}, "training": {}, "profile": {}}
    for name in sorted(ran):
        path = out / f"{name}.json"
        if name.startswith("benchmark") and path.is_file():
            compiled = name.partition("_compile_")[2] or "off"
            found["benchmark"] += [{**row, "compile": compiled} for row in _read(path)]
        elif name.startswith("parity") and path.is_file():
            found["parity"][name.removeprefix("parity_")] = parity_result(_read(path))
        elif name in ("profile", "operators") and path.is_file():
            found[name] = _read(path)
    for precision in ("float32", "bfloat16"):
        metrics = sorted((out / f"training_{precision}").rglob("metrics.jsonl"))
        if f"training_{precision}" in ran and metrics:
            found["training"][precision] = training_result(metrics[-1].read_text(encoding="utf-8"))
    return found


def _read(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def main(argv: list[str] | None = None) -> int:
    """Returns 1 where a stage failed."""
    args = parse_arguments(argv)
    device = device_of(args.device)
    out = args.out.resolve()
    check_output(out / "summary.json")
    out.mkdir(parents=True, exist_ok=True)
    results, start = [], time.monotonic()
    for stage in stages(args, out):
        (out / f"{stage.name}.json").unlink(missing_ok=True)  # of an earlier run
        results.append(run_stage(stage, out, args.seconds - (time.monotonic() - start)))
        last = results[-1]
        print(f"{last['status']:8}{last['seconds']:7.1f} s  {stage.name}  {last['why']}".rstrip(), flush=True)
    summary = {
        "device": args.device,
        "commit": commit(),
        "machine": machine(device),
        "seconds": time.monotonic() - start,
        "stages": results,
        **collect(out, results),
    }
    write_json(out / "summary.json", summary)
    write_text(out / "summary.md", markdown(summary))
    print(f"{out / 'summary.md'}")
    return int(any(result["status"] == "failed" for result in results))


if __name__ == "__main__":
    run_script(main)
