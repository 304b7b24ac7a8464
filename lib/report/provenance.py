"""The origin of a results file, read from the files beside it: configuration, commit, seed, speed."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from lib.errors import InputError
from lib.evaluation.made_with import MadeWith
from lib.evaluation.results_file import TIMING
from lib.files import read_json

_COMMIT = re.compile(r"\bcommit (\S+)$", re.MULTILINE)
_SEED = re.compile(r"\bSEED: (\d+)")


@dataclass(frozen=True)
class Provenance:
    """The origin of a run; None for what is unknown. ms_per_frame: of computation, without reading, in the run's own
    test, or where in_turns is set measured in turns with other runs."""

    config: str | None = None
    commit: str | None = None
    seed: int | None = None
    ms_per_frame: float | None = None
    in_turns: bool = False


def find_provenance(results: Path) -> Provenance:
    """Read the files that the scripts write beside `results`.

    These are <configuration>/<test set>/evaluation.json, which says what produced these results, and timing.json; for
    missing entries, the last run in the newest <configuration>/<training set>/train.log. Unreadable files are ignored.
    """
    made_with = MadeWith.of_results(results)
    timing = results.with_name(TIMING)
    logs = sorted(results.absolute().parent.parent.glob("*/train.log"), key=lambda path: path.stat().st_mtime)
    log = _text(logs[-1]) if logs else ""
    commits, seeds = _COMMIT.findall(log), _SEED.findall(log)
    from_scripts = logs or timing.is_file() or made_with.results
    return Provenance(
        config=results.absolute().parent.parent.name if from_scripts else None,
        commit=made_with.commit or (commits[-1] if commits else None),
        seed=made_with.seed if made_with.seed is not None else int(seeds[-1]) if seeds else None,
        ms_per_frame=_ms_per_frame(timing),
    )


def _ms_per_frame(path: Path) -> float | None:
    try:
        return float(read_json(path, InputError, "")["ms_per_frame"])
    except (ValueError, KeyError, TypeError, OverflowError):  # an InputError is a ValueError
        return None


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
