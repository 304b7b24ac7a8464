"""The detectors and the clips that come with the repository, which the demos take where nothing else is given."""

from __future__ import annotations

import os
from pathlib import Path

from lib.data.video import SourceError, natural_key
from lib.engine.checkpoint import CheckpointError

ROOT = Path(__file__).resolve().parents[2]
DETECTORS = ROOT / "model"
CLIPS = ROOT / "data" / "demo"


def shipped_detector(method: str) -> Path:
    """The detector of a method, by its name. Raises CheckpointError where it is not there."""
    path = _shown(DETECTORS / f"demo_{method}.pth")
    if not path.is_file():
        raise CheckpointError(
            f"{path}: there is no such file, the detector that comes with the repository; give one with --weights, or "
            "--cfg of a run that is trained"
        )
    return path


def shipped_clips() -> list[Path]:
    """The folders of frames in data/demo, in natural order. Raises SourceError where there is none."""
    folder = _shown(CLIPS)
    clips = sorted((path for path in folder.iterdir() if path.is_dir()), key=natural_key) if folder.is_dir() else []
    if not clips:
        raise SourceError(f"{folder}: there are no clips, which come with the repository; give frames with --source")
    return clips


def limits_of_shipped(source: str | None, cure: str) -> str:
    """A line that says what the shipped detectors know, for `source` of the user's, and ends with `cure`.

    "" for the shipped clips, which None stands for.
    """
    if source is None or Path(os.path.abspath(source)).is_relative_to(CLIPS):
        return ""
    return (
        f"the detector that comes with the repository knows ten kinds of drawn objects only (model/README.md); {cure}"
    )


def _shown(path: Path) -> Path:
    """`path` as seen from the current folder, where it lies below it."""
    here = Path.cwd()
    return path.relative_to(here) if path.is_relative_to(here) else path
