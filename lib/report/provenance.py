"""Where a results file comes from, as far as the files beside it tell: configuration, commit, seed, speed."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path

_COMMIT = re.compile(r"\bcommit (\S+)$", re.MULTILINE)
_SEED = re.compile(r"\bSEED: (\d+)")


@dataclass(frozen=True)
class Provenance:
    """What is known of a run; None where nothing says it. ms_per_frame: of computation in the test, without reading."""

    config: str | None = None
    commit: str | None = None
    seed: int | None = None
    ms_per_frame: float | None = None


def find_provenance(results: Path) -> Provenance:
    """Read what the scripts leave: <configuration>/<test set>/timing.json beside `results`, and the newest
    <configuration>/<training set>/train.log, whose last run counts. Files that cannot be read are as good as absent."""
    timing = results.with_name("timing.json")
    logs = sorted(results.absolute().parent.parent.glob("*/train.log"), key=lambda path: path.stat().st_mtime)
    log = _text(logs[-1]) if logs else ""
    commits, seeds = _COMMIT.findall(log), _SEED.findall(log)
    return Provenance(
        config=results.absolute().parent.parent.name if logs or timing.is_file() else None,
        commit=commits[-1] if commits else None,
        seed=int(seeds[-1]) if seeds else None,
        ms_per_frame=_ms_per_frame(timing),
    )


def _ms_per_frame(path: Path) -> float | None:
    try:
        return float(json.loads(_text(path))["ms_per_frame"])
    except (ValueError, KeyError, TypeError):
        return None


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
