"""Put tested methods side by side: AP of all, slow, medium and fast objects, time per frame, and speed-up.

Each run is given as NAME=FOLDER, the folder in which a test script left evaluation.json and timing.json. The first one
is what speed is compared with. With --json the rows are also kept in a file; rows of the same method and seed are
replaced, others stay, so that it can hold several seeds.

Example: python tools/compare_methods.py R-FCN=output/a/VID_val_videos DFF=output/b/VID_val_videos --json results.json
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from lib.engine.testing import TIMING
from lib.errors import InputError
from lib.evaluation.evaluate import write_json

RANGES = ("all", "slow", "medium", "fast")


class RunError(InputError):
    """A run that cannot be compared; the message names the file and what to do."""


def parse_arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", metavar="NAME=FOLDER", help="the first one is what speed is compared with")
    parser.add_argument("--seed", type=int, default=0, help="that they were trained with, for the record")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also keep the rows in this file")
    return parser.parse_args(argv)


def row_of(name: str, folder: Path, seed: int) -> dict:
    """`method`, `seed`, `map` (AP between 0 and 1, null where there is no object) and `ms_per_frame` of one run."""
    evaluation, timing = (_read(folder / file) for file in ("evaluation.json", TIMING))
    try:
        means = {entry["name"]: entry["mean_ap"] for entry in evaluation["motion"]}
        speed = float(timing["ms_per_frame"])
    except (KeyError, TypeError, ValueError) as error:
        raise RunError(f"{folder}: no test script wrote evaluation.json or {TIMING} ({error!r}); test again") from error
    return {"method": name, "seed": seed, "map": {key: means.get(key) for key in RANGES}, "ms_per_frame": speed}


def compared(runs: Sequence[str], seed: int) -> list[dict]:
    """A row for each NAME=FOLDER, with `speedup_over_rfcn`: over the first one."""
    rows = []
    for run in runs:
        name, found, folder = run.partition("=")
        if not (name and found and folder):
            raise RunError(f"'{run}' is not NAME=FOLDER")
        rows.append(row_of(name, Path(folder), seed))
    for row in rows:
        own = row["ms_per_frame"]
        row["speedup_over_rfcn"] = rows[0]["ms_per_frame"] / own if own else None
    return rows


def keep(rows: Sequence[dict], path: Path) -> None:
    """Put `rows` into the JSON list at `path`, in place of those of the same method and seed."""
    known = _read(path) if path.exists() else []
    new = {(row["method"], row["seed"]) for row in rows}
    try:
        kept = [row for row in known if (row["method"], row["seed"]) not in new]
    except (KeyError, TypeError) as error:
        raise RunError(f"{path}: not a file of rows that --json wrote; name another one") from error
    write_json(path, kept + list(rows))


def table(rows: Sequence[dict]) -> str:
    """The rows as they are printed, AP in per cent."""
    width = max(len("AP (%)"), *(len(row["method"]) for row in rows))
    titles = "".join(f"{title:>10}" for title in (*RANGES, "ms/frame", "speed-up"))
    lines = [f"{'AP (%)':<{width}}{titles}"]
    for row in rows:
        aps = "".join(f"{'-' if ap is None else f'{100 * ap:.1f}':>10}" for ap in row["map"].values())
        speedup = "-" if row["speedup_over_rfcn"] is None else f"{row['speedup_over_rfcn']:.2f}x"
        lines.append(f"{row['method']:<{width}}{aps}{row['ms_per_frame']:10.1f}{speedup:>10}")
    return "\n".join(lines)


def _read(path: Path) -> dict | list:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise RunError(f"{path}: cannot be read ({error.strerror}); run the method's test script first") from error
    except ValueError as error:
        raise RunError(f"{path}: not JSON ({error}); run the method's test script again") from error


def main(argv: Sequence[str] | None = None) -> int:
    args = parse_arguments(argv)
    try:
        rows = compared(args.runs, args.seed)
        if args.json:
            keep(rows, args.json)
    except InputError as error:
        print(f"compare_methods: {error}", file=sys.stderr)
        return 2
    print(table(rows))
    return 0


if __name__ == "__main__":
    sys.exit(main())
