"""Read what produced the results of a test: the entry "made_with" that the test script writes to evaluation.json."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lib.errors import InputError
from lib.evaluation.evaluate import EVALUATION
from lib.files import read_json, sha256_of


@dataclass(frozen=True)
class MadeWith:
    """The origin of a test's results; None for what is unknown.

    config, presets: the YAML files of its command line. commit: of the code. seed: of the training. hardware: GPU, or
    threads and platform. dataset: folder name and image set. weights, results: SHA-256 of the checkpoint and of the
    results file.
    """

    config: str | None = None
    presets: tuple[str, ...] = ()
    commit: str | None = None
    seed: int | None = None
    hardware: str | None = None
    dataset: str | None = None
    weights: str | None = None
    results: str | None = None

    @staticmethod
    def of_evaluation(evaluation: Any) -> MadeWith:
        """Read the content of an evaluation.json; entries that are missing or of another form are None."""
        noted = _entry(evaluation, "made_with")
        words = _words(_entry(noted, "command"))
        configs = _options(words, "--cfg")
        seed = _entry(noted, "configuration", "TRAIN", "SEED")
        return MadeWith(
            config=configs[-1] if configs else None,
            presets=tuple(_options(words, "--preset")),
            commit=_text(_entry(noted, "code", "commit")),
            seed=seed if isinstance(seed, int) else None,
            hardware=_hardware(_entry(noted, "machine")),
            dataset=_dataset(_entry(noted, "configuration", "dataset")),
            weights=_text(_entry(noted, "weights", "sha256")),
            results=_text(_entry(noted, "results")),
        )

    @staticmethod
    def of_results(path: Path) -> MadeWith:
        """Read the evaluation.json beside the results file at `path`; all None where it describes other results."""
        try:
            found = MadeWith.of_evaluation(read_json(path.with_name(EVALUATION), InputError, ""))
            if found.results is not None and found.results == sha256_of(path):
                return found
        except (InputError, OSError):
            pass
        return MadeWith()


def _entry(content: Any, *keys: str) -> Any:
    for key in keys:
        content = content.get(key) if isinstance(content, dict) else None
    return content


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) and value else None


def _words(command: Any) -> list[str]:
    try:
        return shlex.split(command) if isinstance(command, str) else []
    except ValueError:
        return []


def _options(words: Sequence[str], name: str) -> list[str]:
    """The values of an option, given as `NAME VALUE` or `NAME=VALUE`."""
    apart = [value for word, value in zip(words, words[1:], strict=False) if word == name]
    return apart + [word.partition("=")[2] for word in words if word.startswith(f"{name}=")]


def _hardware(machine: Any) -> str | None:
    if not isinstance(machine, dict):
        return None
    gpu = _text(machine.get("gpu"))
    return gpu or f"CPU, {machine.get('threads', '?')} threads, {machine.get('platform', 'unknown platform')}"


def _dataset(section: Any) -> str | None:
    folder, image_set = _text(_entry(section, "dataset_path")), _text(_entry(section, "test_image_set"))
    return f"{Path(folder).name}, {image_set}" if folder and image_set else None
