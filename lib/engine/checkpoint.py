"""Training checkpoints: their contents, their folder, and safe reading and writing."""

from __future__ import annotations

import glob
import logging
import os
import re
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from lib.checkpoints.mxnet_params import is_params
from lib.data.classes import Classes
from lib.errors import InputError
from lib.files import output_errors, writing
from lib.version import __version__, commit

_LOGGER = logging.getLogger(__name__)
_BESIDE = ("tensorboard", "metrics.jsonl", "run.json")  # written beside the checkpoints
IDENTITY = ("method", "config", "classes", "name", "version", "commit", "stored")  # the entries of an `Identity`
_TRAINING_STATE = ("model", "optimizer", "epoch", "batch", "iteration", "config")


class CheckpointError(InputError):
    """A checkpoint that cannot be used; the message names the file and what to do."""


@dataclass(frozen=True)
class Identity:
    """What a checkpoint records about itself.

    method: "rfcn", "dff", "fgfa" or another. config: its configuration as plain dictionaries. classes: the classes that
    it was trained on. name: of the run, from which its folders are named. version, commit: of the code that wrote it.
    stored: "float16" where its weights are stored in half the bytes; they are loaded as float32.
    """

    method: str
    config: dict[str, Any]
    classes: Classes
    name: str = ""
    version: str = __version__
    commit: str = ""
    stored: str = ""

    def to_content(self) -> dict[str, Any]:
        """The entries of a checkpoint file that `of_content` reads."""
        content = {
            "method": self.method,
            "config": self.config,
            "classes": {"names": list(self.classes.names), "annotation_names": list(self.classes.annotation_names)},
            "name": self.name,
            "version": self.version,
            "commit": self.commit or commit(),
        }
        return content | ({"stored": self.stored} if self.stored else {})

    @staticmethod
    def of_content(content: Any, path: str | os.PathLike) -> Identity | None:
        """The identity in a file's `content`; None for older files, which have none. Raises CheckpointError."""
        if not isinstance(content, dict) or "method" not in content:
            return None
        try:
            classes = Classes(**{name: tuple(map(str, values)) for name, values in content["classes"].items()})
            texts = {name: str(content[name]) for name in ("method", "name", "version", "commit")}
            stored = str(content.get("stored", ""))
            return Identity(config=dict(content["config"]), classes=classes, stored=stored, **texts)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise CheckpointError(
                f"{path}: its description of itself is damaged ({error}); take another file"
            ) from error

    def __str__(self) -> str:
        number = len(self.classes.names)
        return f"{self.method}, {number} classes, written by version {self.version} (commit {self.commit or commit()})"


@dataclass(frozen=True)
class CheckpointFolder:
    """The checkpoints of one run.

    `<folder>/<prefix>-0001.pth` after the first epoch and so on (the originals' naming), and `<prefix>-latest.pth`
    inside an epoch, which the next epoch's file replaces.
    """

    folder: Path
    prefix: str

    @property
    def latest(self) -> Path:
        return self.folder / f"{self.prefix}-latest.pth"

    def of_epoch(self, epoch: int) -> Path:
        """The file written when `epoch` epochs were complete."""
        return self.folder / f"{self.prefix}-{epoch:04d}.pth"

    def weights_of_epoch(self, epoch: int) -> Path:
        """The weights to test: the file of `epoch`, or the originals' (.params) if only that exists."""
        return weights_file(self.folder / self.prefix, epoch)

    @property
    def best(self) -> Path:
        """The file with the best validation."""
        return self.folder / f"{self.prefix}-best.pth"

    def path_of(self, epoch: int, place: int) -> Path:
        """The file for `epoch` complete epochs and `place` updates of the next one."""
        return self.latest if place else self.of_epoch(epoch)

    def save(self, content: dict[str, Any]) -> Path:
        """Write `content` (see `load_checkpoint`) to the file of its epoch and batch."""
        path = save_tensors(content, self.path_of(content["epoch"], content["batch"]))
        if path != self.latest:
            self.latest.unlink(missing_ok=True)  # older than the file just written
        return path

    def save_best(self, content: dict[str, Any]) -> Path:
        """Write `content` as the best checkpoint so far."""
        return save_tensors(content, self.best)

    def keep_newest(self, count: int) -> None:
        """Delete all checkpoints of epochs except the `count` newest; 0 keeps all."""
        epochs = [path for path in self.existing() if path != self.latest]
        for path in epochs[:-count] if count else ():
            path.unlink(missing_ok=True)

    def set_aside(self) -> None:
        """Move the files of an earlier training to the subfolder `earlier-1` (or -2, ...)."""
        found = self.existing()
        if not found:
            return
        number = 1
        while (aside := self.folder / f"earlier-{number}").exists():
            number += 1
        others = (self.best, *(self.folder / name for name in _BESIDE))
        with output_errors(aside):
            aside.mkdir()
            for path in [*found, *(path for path in others if path.exists())]:
                path.rename(aside / path.name)
        _LOGGER.warning("%s: training begins anew; the earlier one and its logs are now in %s", self.folder, aside)

    def refuse_others(self) -> None:
        """Raise CheckpointError where the folder has checkpoints of another training only, by their prefix: its log,
        curves and metrics have the names that this one's will have."""
        if not self.folder.is_dir() or self.existing():
            return
        pattern = re.compile(r"(.+)-(\d{4,}|latest)\.pth")
        others = sorted(path for path in self.folder.iterdir() if pattern.fullmatch(path.name))
        if others:
            raise CheckpointError(
                f"{others[-1]}: is of another training, and that of '{self.prefix}' would write to the same folder; "
                "give it an output_path of its own"
            )

    def existing(self) -> list[Path]:
        """The checkpoints of epochs, in order, followed by `latest` if it exists."""
        pattern = re.compile(re.escape(self.prefix) + r"-(\d{4,})\.pth")
        names = [path.name for path in self.folder.iterdir()] if self.folder.is_dir() else []
        epochs = sorted(int(match[1]) for name in names if (match := pattern.fullmatch(name)))
        return [self.of_epoch(epoch) for epoch in epochs] + ([self.latest] if self.latest.is_file() else [])

    def newest(self) -> Path | None:
        """The checkpoint with the most updates, or None if there is no checkpoint.

        Raises CheckpointError if there are only the originals' parameter files, which cannot be resumed.
        """
        # A run that was killed between the two steps of `save` leaves an old "latest": compare the last two files
        last_two = self.existing()[-2:]
        if not last_two:
            originals = sorted(self.folder.glob(f"{glob.escape(self.prefix)}-[0-9][0-9][0-9][0-9].params"))
            if originals:
                load_checkpoint(originals[-1])  # raises the error that says why
            return None
        if len(last_two) < 2:
            return last_two[0]
        return max(last_two, key=lambda path: load_checkpoint(path)["iteration"])


def save_tensors(content: Any, path: str | os.PathLike) -> Path:
    """`torch.save` to `path`, whole or not at all; creates the folder.

    `content` consists of tensors, numbers, strings, lists and dictionaries, so that it loads with weights_only=True.
    Raises OutputError.
    """
    with writing(path) as file, output_errors(path):
        try:
            torch.save(content, file)
        except RuntimeError as error:
            # After an error of the file, torch's zip writer fails once more as it closes the archive
            if isinstance(error.__context__, OSError):
                raise error.__context__ from None
            raise OSError(f"{(str(error).splitlines() or [''])[0]}; is the disk full?") from error
    return Path(path)


def read_tensors(path: str | os.PathLike, what_to_do: str) -> Any:
    """Read what `torch.save` wrote to `path`, tensors on the CPU. Raises CheckpointError, which ends with `what_to_do`.

    The checksums of the archive are verified first: damaged bytes would load as wrong weights.
    """
    path = Path(path)
    if not path.is_file():
        raise CheckpointError(f"{path}: there is no such file; {what_to_do}")
    try:
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                damaged = archive.testzip()
            if damaged is not None:
                raise ValueError(f"damaged: the checksum of '{damaged}' is wrong")
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises many kinds of errors for a damaged file
        raise CheckpointError(f"{path}: cannot be read as a checkpoint ({_reason(error)}); {what_to_do}") from error


def _reason(error: Exception) -> str:
    """Why a file is no checkpoint, without torch's advice to allow code in it."""
    text = str(error).strip() or type(error).__name__
    stranger = re.search(r"GLOBAL (\S+)", text)
    if stranger:
        return f"it holds an object of {stranger[1]} beside tensors, and loading such objects could run code"
    is_unread = isinstance(error, (EOFError, LookupError, UnicodeError))
    if is_unread or "weights_only" in text or "magic number" in text:
        return "it is no file of weights that torch.save wrote, or is damaged"
    return text.splitlines()[0]


def read_identity(path: str | os.PathLike) -> Identity | None:
    """The identity in the file at `path`; None for MXNet's files and older checkpoints. Raises CheckpointError."""
    if is_params(path):
        return None
    what_to_do = "give a file that training wrote, <model_prefix>-0001.pth for example, or MXNet's (.params)"
    return Identity.of_content(read_tensors(path, what_to_do), path)


def load_checkpoint(path: str | os.PathLike) -> dict[str, Any]:
    """Load a training checkpoint, tensors on the CPU. Its entries:

    model, optimizer: state dictionaries. epoch: complete epochs. batch: batches already used of the current epoch.
    iteration: total number of updates. config: the configuration as plain dictionaries. metrics: running sums of the
    epoch; and the entries of `Identity.to_content`. Raises CheckpointError for a file that is missing, unreadable or
    not a training checkpoint.
    """
    if is_params(path):
        raise CheckpointError(
            f"{path}: an MXNet parameter file has weights but no state of the optimiser, so training cannot be resumed "
            "from it; give it as network.pretrained_model, without TRAIN.RESUME"
        )
    content = read_tensors(path, "move it away, or train without TRAIN.RESUME")
    missing = [key for key in _TRAINING_STATE if not isinstance(content, dict) or key not in content]
    if missing:
        raise CheckpointError(f"{path}: not a training checkpoint (without {', '.join(missing)}), so not one to resume")
    return content


def weights_file(prefix: str | os.PathLike, epoch: int) -> Path:
    """The originals' naming: <prefix>-0002.pth, or <prefix>-0002.params if only that exists."""
    prefix = Path(prefix)
    own, originals = (prefix.with_name(f"{prefix.name}-{epoch:04d}.{suffix}") for suffix in ("pth", "params"))
    return originals if originals.exists() and not own.exists() else own
