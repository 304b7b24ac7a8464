"""Compare tested methods: AP of all, slow, medium and fast objects, time per frame, and speed-up over the first.

Each run is given as NAME=FOLDER, the folder in which a test script wrote evaluation.json and timing.json. With --json
the rows are also stored in a file; rows of the same method and seed are replaced, others are kept, so that it can hold
several seeds. With --yaml each row is also written as a file of its own, with what produced it, as in
experiments/*/results. With --turns the detectors are timed again, in turns, on a video of the test set: tests that
ran one after the other say little of speed on a machine that does other things too.

Example: python tools/compare_methods.py R-FCN=output/a/VID_val_videos DFF=output/b/VID_val_videos --json results.json
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from tqdm import tqdm

from lib.command_line import count, run_script
from lib.engine.device import default_device
from lib.engine.turns import detector_of_test, time_in_turns
from lib.errors import InputError
from lib.evaluation.evaluate import EVALUATION
from lib.evaluation.made_with import MadeWith
from lib.evaluation.result_rows import RANGES, ResultRow, write_row
from lib.evaluation.results_file import TIMING
from lib.files import check_output, read_json, write_json


class RunError(InputError):
    """A run that cannot be compared; the message names the file and what to do."""


def parse_arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", metavar="NAME=FOLDER", help="the first one is what speed is compared with")
    parser.add_argument("--seed", type=count, metavar="N", help="of the training; default: the test's TRAIN.SEED")
    parser.add_argument("--json", type=Path, metavar="OUT", help="also keep the rows in this file")
    parser.add_argument("--yaml", type=Path, metavar="DIR", help="also write each row to a file in this folder")
    parser.add_argument("--table", default="", metavar="NAME", help="with --yaml: the table that the rows belong to")
    parser.add_argument("--turns", type=count, default=0, metavar="N", help="time them again in N rounds of turns")
    parser.add_argument("--device", default=default_device(), help="for --turns; default: %(default)s")
    args = parser.parse_args(argv)
    if args.table and not args.yaml:
        parser.error("--table is for the files of --yaml; give both")
    return args


@dataclass(frozen=True)
class TestedRun:
    """One run. seed: of its training; 0 where nothing says it. means: AP from 0 to 1, None where there is no object.
    evaluation: the content of its evaluation.json.
    """

    name: str
    seed: int
    means: dict[str, float | None]
    ms_per_frame: float
    made_with: MadeWith
    evaluation: dict[str, Any]

    @staticmethod
    def of(run: str, seed: int | None) -> TestedRun:
        """Read the run `NAME=FOLDER`. Raises RunError."""
        name, found, folder = run.partition("=")
        if not (name and found and folder):
            raise RunError(f"'{run}' is not NAME=FOLDER")
        what_to_do = "run the method's test script first"
        evaluation, timing = (read_json(Path(folder, file), RunError, what_to_do) for file in (EVALUATION, TIMING))
        try:
            known = {entry["name"]: entry["mean_ap"] for entry in evaluation["motion"]}
            speed = float(timing["ms_per_frame"])
        except (KeyError, TypeError, ValueError) as error:
            raise RunError(
                f"{folder}: no test script wrote {EVALUATION} or {TIMING} ({error!r}); test again"
            ) from error
        made_with = MadeWith.of_evaluation(evaluation)
        seed = seed if seed is not None else made_with.seed or 0
        return TestedRun(name, seed, {key: known.get(key) for key in RANGES}, speed, made_with, evaluation)

    def to_json(self, first: TestedRun) -> dict:
        """The row of --json; first: the run that speed is compared with."""
        return {
            "method": self.name,
            "seed": self.seed,
            "map": self.means,
            "ms_per_frame": self.ms_per_frame,
            "speedup_over_rfcn": self.speed_up(first),
        }

    def speed_up(self, first: TestedRun) -> float | None:
        return first.ms_per_frame / self.ms_per_frame if self.ms_per_frame else None

    def to_row(self, table: str) -> ResultRow:
        """The row of --yaml."""
        made = self.made_with
        return ResultRow(
            method=self.name,
            table=table,
            config=made.config,
            preset=" ".join(made.presets) or None,
            commit=made.commit,
            seed=self.seed,
            hardware=made.hardware,
            dataset=made.dataset,
            map=self.means,
            ms_per_frame=self.ms_per_frame or None,
            weights_sha256=made.weights,
        )

    def file_name(self) -> str:
        """Of the row of --yaml."""
        return f"{re.sub(r'[^a-z0-9]+', '_', self.name.lower()).strip('_') or 'run'}_seed_{self.seed}.yaml"


def keep(runs: Sequence[TestedRun], path: Path) -> None:
    """Put the rows of `runs` into the JSON list at `path`, in place of those of the same method and seed."""
    what_to_do = "give another file"
    known = read_json(path, RunError, what_to_do) if path.exists() else []
    new = {(run.name, run.seed) for run in runs}
    try:
        kept = [row for row in known if (row["method"], row["seed"]) not in new]
    except (KeyError, TypeError) as error:
        raise RunError(f"{path}: not a file of rows that --json wrote; {what_to_do}") from error
    write_json(path, kept + [run.to_json(runs[0]) for run in runs])


def timed_in_turns(runs: Sequence[TestedRun], rounds: int, device: str) -> list[TestedRun]:
    """The runs with the times of `rounds` rounds of turns. Raises InputError where a detector is not there any more."""
    detectors = [detector_of_test(run.evaluation.get("made_with") or {}, device) for run in runs]
    with tqdm(total=rounds + 1, unit="round", desc="timing", dynamic_ncols=True) as bar:
        times = time_in_turns(detectors, rounds, bar.update)
    return [replace(run, ms_per_frame=ms) for run, ms in zip(runs, times, strict=True)]


def table(runs: Sequence[TestedRun]) -> str:
    """The rows as they are printed, AP in per cent."""
    width = max(len("AP (%)"), *(len(run.name) for run in runs))
    titles = "".join(f"{title:>10}" for title in (*RANGES, "ms/frame", "speed-up"))
    lines = [f"{'AP (%)':<{width}}{titles}"]
    for run in runs:
        aps = "".join(f"{'-' if ap is None else f'{100 * ap:.1f}':>10}" for ap in run.means.values())
        speed_up = run.speed_up(runs[0])
        shown = "-" if speed_up is None else f"{speed_up:.2f}x"
        lines.append(f"{run.name:<{width}}{aps}{run.ms_per_frame:10.1f}{shown:>10}")
    return "\n".join(lines)


def main(argv: Sequence[str] | None = None) -> None:
    """Compare the runs that `argv` names, the command line where None. Raises InputError."""
    args = parse_arguments(argv)
    if args.json:
        check_output(args.json)
    runs = [TestedRun.of(run, args.seed) for run in args.runs]
    if args.turns:
        runs = timed_in_turns(runs, args.turns, args.device)
    if args.json:
        keep(runs, args.json)
    if args.yaml:
        if len({run.file_name() for run in runs}) < len(runs):
            raise RunError("two runs have the same name and seed; --yaml needs different names")
        for run in runs:
            write_row(args.yaml / run.file_name(), run.to_row(args.table))
    print(table(runs))


if __name__ == "__main__":
    run_script(main)
