"""Feed hostile inputs to everything that reads a user's files, and show how each kind ended.

Every input must end in one clear error or in a right result: not in a traceback, a hang, a crash, more than 2 GiB of
memory, a wrong number, a file left behind or changed, or code that is run. Inputs written by hand come first, then
damaged ones by the seed. What fails is kept in a folder, with the command that tries it again; the status is then 1.

Example: python tools/fuzz.py --minutes 20 --seed 1
Example: python tools/fuzz.py --kind annotation yaml --minutes 2
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from lib.command_line import count, positive_number, run_script
from lib.files import output_errors
from tools.fuzzing.attempts import ERROR, FAILURE, RECOVERY
from tools.fuzzing.kinds import KINDS
from tools.fuzzing.runner import Tally, in_rounds, keep, run

_ROUND = 60  # inputs of one kind before the next kind's turn


def parse_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=positive_number, default=5.0, metavar="N", help="default: %(default)s")
    parser.add_argument("--seed", type=count, default=0, metavar="S", help="of the damage; default: %(default)s")
    parser.add_argument(
        "--kind",
        nargs="+",
        choices=KINDS,
        default=list(KINDS),
        metavar="KIND",
        help=f"default: all: {', '.join(KINDS)}",
    )
    parser.add_argument("--number", type=count, metavar="N", help="only input N of each kind")
    parser.add_argument(
        "--keep",
        type=Path,
        default=Path("fuzz_failures"),
        metavar="DIR",
        help="for inputs that fail; default: %(default)s",
    )
    return parser.parse_args(arguments)


def try_kinds(args: argparse.Namespace) -> list[Tally]:
    """Try the inputs of each kind in turn until the time is over."""
    end = time.monotonic() + 60 * args.minutes
    tallies = {kind: Tally(kind) for kind in args.kind}
    if args.number is not None:
        for kind, tally in tallies.items():
            run(kind, args.seed, [args.number], tally)
        return list(tallies.values())
    left = set(tallies)
    for numbers in in_rounds(_ROUND):
        for kind in args.kind:
            if kind in left and not run(kind, args.seed, numbers, tallies[kind], lambda: time.monotonic() < end):
                left.discard(kind)
        if not left or time.monotonic() >= end:
            return list(tallies.values())


def table(tallies: Sequence[Tally]) -> str:
    """One row for each kind, and their sum."""
    columns = (ERROR, RECOVERY, FAILURE)
    heads = ("inputs", "clear errors", "recoveries", "failures")
    rows = [(t.kind, t.inputs, *(t.outcomes.get(column, 0) for column in columns)) for t in tallies]
    rows.append(("all", *(sum(row[i] for row in rows) for i in range(1, 5))))
    lines = [f"{'kind':<14}" + "".join(f"{head:>14}" for head in heads)]
    return "\n".join(lines + [f"{row[0]:<14}" + "".join(f"{number:>14}" for number in row[1:]) for row in rows])


def main(arguments: Sequence[str] | None = None) -> int:
    """Try inputs as `arguments` say, the command line where None; returns 1 where one failed."""
    args = parse_arguments(arguments)
    tallies = try_kinds(args)
    for tally in tallies:
        for number, name, what in tally.failures:
            with output_errors(args.keep):
                folder = keep(tally.kind, args.seed, number, args.keep)
            print(f"{tally.kind}, {name}: {what}\n  kept in {folder}; to try it again:")
            print(f"  python tools/fuzz.py --kind {tally.kind} --seed {args.seed} --number {number}")
    print(table(tallies))
    return int(any(tally.failures for tally in tallies))


if __name__ == "__main__":
    run_script(main)
