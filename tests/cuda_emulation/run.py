"""Run the CUDA kernels without a GPU and compare them with the CPU kernels.

Device code is compiled with g++ and run on the CPU, block by block and thread by thread; threads that wait have stacks
of their own. Threads and blocks run forward, in reverse and in random order. Data races, barriers that not all threads
reach, misaligned accesses and launches that CUDA would refuse are errors. What it cannot show: speed, the last bits of
a GPU's expf, sort and scan of CUDA libraries, and whatever depends on real simultaneity.

    python tests/cuda_emulation/run.py                          all operators, all orders, 100 random cases each
    python tests/cuda_emulation/run.py --cases 2000 --seed 7    other cases, and more
    python tests/cuda_emulation/run.py --operators nms          some of the operators
    python tests/cuda_emulation/run.py --cases 200 --sanitize   built with the sanitizers for addresses and undefined
                                                                behaviour, which exclude the search for races

It needs g++ and the installed package, but neither nvcc nor a GPU. The first build takes about a minute.

The parts: translate.py rewrites launches and shared memory, device/ has the rest of CUDA as C++ headers, runtime/ runs
the threads, build.py compiles, emulator.py loads, cases/ has the inputs, compare.py compares; planted/ has kernels,
some with faults, by which test_emulator.py tests the emulation itself.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from tests.cuda_emulation.build import build, operator_sources  # noqa: E402
from tests.cuda_emulation.compare import OPERATORS, compare_operator  # noqa: E402
from tests.cuda_emulation.emulator import ORDERS, EmulatedOperators, EmulationError  # noqa: E402

EXAMPLE = "Example: python tests/cuda_emulation/run.py --cases 200 --sanitize"
SANITIZED = "CUDA_EMULATION_SANITIZED"  # set in the process that runs under the address sanitizer


def main() -> int:
    arguments = parse_arguments()
    if arguments.sanitize and SANITIZED not in os.environ:
        return run_under_sanitizer()
    import lib.ops  # noqa: F401  (the CPU kernels)

    emulator = EmulatedOperators(build(operator_sources(), arguments.sanitize), arguments.sanitize)
    print(f"{'operator':22}{'order':10}{'cases':>6}{'same bits':>11}{'largest difference':>20}{'seconds':>9}")
    failures = []
    for name in arguments.operators:
        for order in ORDERS:
            failures += compare(emulator, name, order, arguments)
    counts = ", ".join(f"{count:,} {what}" for what, count in emulator.counts().items())
    print(f"{counts}; races looked for: {'no' if arguments.sanitize else 'yes'}")
    print("\n".join(failures) or "all cases within their tolerances")
    return bool(failures)


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=EXAMPLE, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--cases", type=int, default=100, help="random cases of each operator and order (100)")
    parser.add_argument("--seed", type=int, default=0, help="of the cases and of the random order (0)")
    parser.add_argument("--operators", nargs="+", choices=OPERATORS, default=list(OPERATORS), metavar="NAME")
    parser.add_argument("--sanitize", action="store_true", help="build with -fsanitize=address,undefined")
    return parser.parse_args()


def compare(emulator: EmulatedOperators, name: str, order: str, arguments: argparse.Namespace) -> list[str]:
    """Print one row of the table; what failed."""
    try:
        outcome = compare_operator(emulator, name, order, arguments.cases, arguments.seed)
    except EmulationError as error:
        print(f"{name:22}{order:10}  failed")
        return [f"{name}, {order}: {error}"]
    print(
        f"{name:22}{order:10}{outcome.cases:6}{outcome.equal:11}{outcome.worst:20.1e}{outcome.seconds:9.1f}", flush=True
    )
    return [f"{name}, {order}: {outcome.failure}"] if outcome.failure else []


def run_under_sanitizer() -> int:
    """The same command in a process that has the address sanitizer's library from its start, as that library wants."""
    compiler = os.environ.get("CXX", "g++")
    # The second because the first looks for it when it is loaded, and Python itself is not C++.
    commands = [[compiler, f"-print-file-name={name}"] for name in ("libasan.so", "libstdc++.so")]
    paths = [subprocess.run(c, capture_output=True, text=True, check=True).stdout.strip() for c in commands]
    environment = os.environ | {
        SANITIZED: "1",
        "LD_PRELOAD": " ".join(paths),
        # Python does not free everything at its end, and kernels change stacks.
        "ASAN_OPTIONS": "detect_leaks=0:detect_stack_use_after_return=0:alloc_dealloc_mismatch=0",
        "UBSAN_OPTIONS": "print_stacktrace=1",
    }
    return subprocess.run([sys.executable, *sys.argv], env=environment, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
