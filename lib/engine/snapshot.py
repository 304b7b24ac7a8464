"""Checkpoints: written atomically, found again, and loaded with nothing skipped in silence."""

from __future__ import annotations

import logging
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from lib.errors import InputError

_LOGGER = logging.getLogger(__name__)
_KEYS = ("model", "optimizer", "epoch", "batch", "iteration", "config")
_COUNTER = "num_batches_tracked"  # of nn.BatchNorm2d; frozen normalisation has none, and nothing depends on it
_SHOWN = 20  # names listed per kind of mismatch


class SnapshotError(InputError):
    """A checkpoint that cannot be used; the message names the file and what to do."""


@dataclass(frozen=True)
class SnapshotFolder:
    """The checkpoints of one run.

    `<folder>/<prefix>-0001.pth` after the first epoch and so on (the originals' naming), and `<prefix>-latest.pth`
    for a place inside an epoch, which the next epoch's file replaces.
    """

    folder: Path
    prefix: str

    @property
    def latest(self) -> Path:
        return self.folder / f"{self.prefix}-latest.pth"

    def of_epoch(self, epoch: int) -> Path:
        """The file written when `epoch` epochs were complete."""
        return self.folder / f"{self.prefix}-{epoch:04d}.pth"

    def save(self, content: dict[str, Any]) -> Path:
        """Write `content` (see `load_snapshot`) to the file that its epoch and batch say."""
        if content["batch"]:
            return save_atomically(content, self.latest)
        path = save_atomically(content, self.of_epoch(content["epoch"]))
        self.latest.unlink(missing_ok=True)  # older than the file just written
        return path

    def existing(self) -> list[Path]:
        """The checkpoints of epochs, in order, then the one inside an epoch if there is one."""
        pattern = re.compile(re.escape(self.prefix) + r"-(\d{4,})\.pth")
        names = [path.name for path in self.folder.iterdir()] if self.folder.is_dir() else []
        epochs = sorted(int(match[1]) for name in names if (match := pattern.fullmatch(name)))
        return [self.of_epoch(epoch) for epoch in epochs] + ([self.latest] if self.latest.is_file() else [])

    def newest(self) -> Path | None:
        """The checkpoint with the most updates, or None where there is none."""
        # A run that was killed between the two steps of `save` leaves an old "latest" behind: look inside the last two.
        last_two = self.existing()[-2:]
        if len(last_two) < 2:
            return last_two[0] if last_two else None
        return max(last_two, key=lambda path: load_snapshot(path)["iteration"])

    def set_aside(self) -> None:
        """Move the checkpoints of an earlier training to the folder `earlier-1` (or -2, ...) beside them."""
        found = self.existing()
        if not found:
            return
        number = 1
        while (aside := self.folder / f"earlier-{number}").exists():
            number += 1
        aside.mkdir()
        for path in found:
            path.rename(aside / path.name)
        _LOGGER.warning(
            "%s: training begins anew; its %d earlier checkpoints are now in %s", self.folder, len(found), aside
        )


def save_atomically(content: Any, path: str | os.PathLike) -> Path:
    """`torch.save` to a temporary file beside `path`, then rename: a reader sees the old file or the new, never half.

    `content` is made of tensors, numbers, strings, lists and dictionaries, so that it loads with weights_only=True.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with open(temporary, "wb") as file:
            torch.save(content, file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    return path


def read_file(path: str | os.PathLike, what_to_do: str) -> Any:
    """What `torch.save` wrote to `path`, tensors on the CPU. Raises SnapshotError, which ends with `what_to_do`."""
    path = Path(path)
    if not path.is_file():
        raise SnapshotError(f"{path}: there is no such file; {what_to_do}")
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged file makes torch raise many kinds; all mean the same here
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise SnapshotError(f"{path}: cannot be read as a checkpoint ({reason}); {what_to_do}") from error


def load_snapshot(path: str | os.PathLike) -> dict[str, Any]:
    """A training checkpoint, tensors on the CPU:

    model, optimizer: state dictionaries. epoch: complete epochs. batch: batches already used of the epoch begun.
    iteration: updates in all. config: the configuration as plain dictionaries. metrics: running sums of the epoch.
    Raises SnapshotError for a file that is missing, unreadable or something else.
    """
    content = read_file(path, "move it away, or train without TRAIN.RESUME")
    missing = [key for key in _KEYS if not isinstance(content, dict) or key not in content]
    if missing:
        raise SnapshotError(f"{path}: not a training checkpoint (without {', '.join(missing)}), so not one to resume")
    return content


def load_weights(model: nn.Module, path: str | os.PathLike) -> None:
    """Load the weights of a training checkpoint, or of a file that holds only weights, into `model`.

    Every parameter and buffer must be there and of the same shape, and there may be no others; otherwise
    SnapshotError lists them and `model` is unchanged.
    """
    _load(model, path, "give a file that training wrote, <model_prefix>-0001.pth for example")


def load_backbone(resnet: nn.Module, path: str | os.PathLike) -> None:
    """Load pre-trained backbone weights (tools/pretrain_backbone.py writes such files) into `resnet`; as strict."""
    _load(resnet, path, "make one with tools/pretrain_backbone.py, or correct network.pretrained")


def load_flow(flow_net: nn.Module, path: str | os.PathLike) -> None:
    """Load pre-trained FlowNet-S weights into `flow_net`; as strict, but Deep Feature Flow's scale map may be missing:
    flow networks are trained without it, and it then stays as it is."""
    what_to_do = "make one with tools/pretrain_flownet.py, or correct network.pretrained_flow"
    _load(flow_net, path, what_to_do, may_miss="Convolution5_scale.")


def _load(module: nn.Module, path: str | os.PathLike, what_to_do: str, may_miss: str | None = None) -> None:
    load_state(module, read_weights(path, what_to_do), path, may_miss)


def read_weights(path: str | os.PathLike, what_to_do: str) -> dict[str, Tensor]:
    """The weights by name in a training checkpoint, or in a file that holds only weights; tensors on the CPU.

    Raises SnapshotError, which ends with `what_to_do` where the file cannot be read.
    """
    content = read_file(path, what_to_do)
    if isinstance(content, dict) and isinstance(content.get("model"), dict):
        content = content["model"]
    return _named_weights(content, path)


def _named_weights(content: Any, path: str | os.PathLike) -> dict[str, Tensor]:
    if not isinstance(content, dict) or not all(isinstance(value, Tensor) for value in content.values()):
        raise SnapshotError(f"{path}: holds no weights by name, but a {type(content).__name__} of something else")
    return content


def load_state(module: nn.Module, state: Any, path: str | os.PathLike, may_miss: str | None = None) -> None:
    """Load the state dictionary `state`, read from `path`, into `module`, or raise SnapshotError and change nothing.

    may_miss: the beginning of names that need not be in the file; those parameters stay as they are.
    """
    state = _named_weights(state, path)
    own = module.state_dict()
    shapes = [
        f"{name} (file {tuple(state[name].shape)}, model {tuple(own[name].shape)})"
        for name in own
        if name in state and state[name].shape != own[name].shape
    ]
    optional = (may_miss,) if may_miss else ()
    missing = [n for n in own if n not in state and not n.endswith(_COUNTER) and not n.startswith(optional)]
    problems = {
        "missing in the file": missing,
        "in the file, but not in the model": [n for n in state if n not in own and not n.endswith(_COUNTER)],
        "of another shape": shapes,
    }
    if any(problems.values()):
        lines = [f"  {len(names)} {kind}: {_listed(names)}" for kind, names in problems.items() if names]
        raise SnapshotError(
            f"{path}: does not fit this model; was it made with another configuration (depth, width, classes)?\n"
            + "\n".join(lines)
        )
    module.load_state_dict(state, strict=False)  # strictly checked above, counters aside


def _listed(names: list[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more
