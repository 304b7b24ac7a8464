"""Compare this code with the numbers recorded from the originals, and print how far every recorded array is from it.

Every set in the folder is run: layers_*, net_*, train_*, loops_*, eval_*, ckpt_*, and the lists of parameters and
weights. Networks (net_*) are compared in the form that they train in and in the optimised one that scripts detect with
(normalisation folded, convolutions reordered, FGFA's average in one pass), on --device; everything else on the CPU.

Status 1 says that something does not agree, that a file or an array is not known here, or that there is no
set; 2 that the command cannot be carried out.

Example: python tools/check_parity.py --golden recordings --json parity.json
"""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import torch
from tqdm import tqdm

from lib.command_line import run_script
from lib.engine.device import device_of
from lib.files import check_output, write_json
from lib.models.precision import set_precision
from tools.parity.rows import Row
from tools.parity.sets import NetworkForm, compare_sets, find_sets
from tools.parity.table import table


def parse_arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--golden", required=True, type=Path, metavar="DIR", help="folder of the recordings")
    parser.add_argument("--device", default="cpu", help="of the networks: cpu, cuda or cuda:N; default: %(default)s")
    parser.add_argument(
        "--precision",
        choices=("float32", "tf32"),
        default="float32",
        help="of the networks; the tolerances are float32's, so tf32 shows how far it is from them",
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write every row to this file")
    parser.add_argument("--verbose", action="store_true", help="print every array, not only the worst of each set")
    return parser.parse_args(argv)


def check(folder: Path, device: torch.device) -> list[Row]:
    """The rows of everything in `folder`; networks on `device`. Raises RecordingError where it cannot be read."""
    sets, rows = find_sets(folder)
    forms = [NetworkForm(device), NetworkForm(device, optimised=True)]
    progress = tqdm(zip(sets, compare_sets(sets, forms), strict=True), total=len(sets), unit="set", leave=False)
    for one, compared in progress:
        progress.set_postfix_str(one.name)
        rows += compared
    return rows


@contextmanager
def no_warnings() -> Iterator[None]:
    """Silence the expected warnings about what the data sets of the recordings lack."""
    logger = logging.getLogger("lib")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)


def main(argv: Sequence[str] | None = None) -> int:
    """Compare as `argv` says, the command line where None; returns the exit status. Raises InputError."""
    args = parse_arguments(argv)
    if args.json:
        check_output(args.json)
    device = device_of(args.device)
    set_precision(args.precision, device)
    with no_warnings():
        rows = check(args.golden, device)
    print(table(rows, args.verbose))
    if args.json:
        write_json(args.json, [row.to_json() for row in rows])
    if not rows:
        print(f"{args.golden}: holds no recorded set", file=sys.stderr)
    return 0 if rows and all(row.passed for row in rows) else 1


if __name__ == "__main__":
    run_script(main)
