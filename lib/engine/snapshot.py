"""Checkpoints: written atomically, found again, and loaded with nothing skipped in silence."""

from __future__ import annotations

import glob
import logging
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from lib.checkpoints.conversion import WeightsError, misfits
from lib.checkpoints.mxnet_params import is_params, read_params
from lib.checkpoints.mxnet_state import CLASSIFIER, BoxRule, state_from_params
from lib.errors import InputError
from lib.models.mxnet_names import mxnet_names

_LOGGER = logging.getLogger(__name__)
_KEYS = ("model", "optimizer", "epoch", "batch", "iteration", "config")


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

    def weights_of_epoch(self, epoch: int) -> Path:
        """What to test: the file of `epoch`, or the originals' (.params) where only that is there."""
        return weights_file(self.folder / self.prefix, epoch)

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
        """The checkpoint with the most updates, or None where there is none.

        Raises SnapshotError where there are only the originals' parameter files, which cannot be resumed.
        """
        # A run that was killed between the two steps of `save` leaves an old "latest" behind: look inside the last two.
        last_two = self.existing()[-2:]
        if not last_two:
            originals = sorted(self.folder.glob(f"{glob.escape(self.prefix)}-[0-9][0-9][0-9][0-9].params"))
            if originals:
                load_snapshot(originals[-1])  # says why not
            return None
        if len(last_two) < 2:
            return last_two[0]
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
    if is_params(path):
        raise SnapshotError(
            f"{path}: an MXNet parameter file has weights but no state of the optimiser, so training cannot be resumed "
            "from it; give it as network.pretrained_model, without TRAIN.RESUME"
        )
    content = read_file(path, "move it away, or train without TRAIN.RESUME")
    missing = [key for key in _KEYS if not isinstance(content, dict) or key not in content]
    if missing:
        raise SnapshotError(f"{path}: not a training checkpoint (without {', '.join(missing)}), so not one to resume")
    return content


def weights_file(prefix: str | os.PathLike, epoch: int) -> Path:
    """The originals' naming: <prefix>-0002.pth, or <prefix>-0002.params where only that is there."""
    prefix = Path(prefix)
    own, originals = (prefix.with_name(f"{prefix.name}-{epoch:04d}.{suffix}") for suffix in ("pth", "params"))
    return originals if originals.exists() and not own.exists() else own


def load_weights(model: nn.Module, path: str | os.PathLike) -> None:
    """Load the weights of a training checkpoint, or of a file that holds only weights, into `model`.

    Such a file may be MXNet's (.params), here and below; it is known by its content. Every parameter and buffer must
    be there and of the same shape, and there may be no others; otherwise SnapshotError lists them and `model` is
    unchanged.
    """
    _load(model, path, "give a file that training wrote, <model_prefix>-0001.pth for example")


def load_backbone(resnet: nn.Module, path: str | os.PathLike) -> None:
    """Load pre-trained backbone weights (tools/pretrain_backbone.py writes such files) into `resnet`; as strict, but
    the classifier at the end of MXNet's pre-trained files is left out."""
    what_to_do = "make one with tools/pretrain_backbone.py, or correct network.pretrained"
    _load(resnet, path, what_to_do, may_drop=CLASSIFIER)


def load_flow(flow_net: nn.Module, path: str | os.PathLike) -> None:
    """Load pre-trained FlowNet-S weights into `flow_net`; as strict, but Deep Feature Flow's scale map may be missing:
    flow networks are trained without it, and it then stays as it is."""
    what_to_do = "make one with tools/pretrain_flownet.py, or correct network.pretrained_flow"
    _load(flow_net, path, what_to_do, may_miss="Convolution5_scale.")


def _load(
    module: nn.Module,
    path: str | os.PathLike,
    what_to_do: str,
    may_miss: str | None = None,
    may_drop: tuple[str, ...] = (),
) -> None:
    load_state(module, read_weights(path, what_to_do, module, may_drop), path, may_miss)


def read_weights(
    path: str | os.PathLike, what_to_do: str, model: nn.Module, may_drop: tuple[str, ...] = ()
) -> dict[str, Tensor]:
    """The weights by name in a training checkpoint, or in a file that holds only weights; tensors on the CPU.

    MXNet's parameter files, known by their content, give the names that `model` has for them; what it does not have
    keeps its own name, except for `may_drop`, which is left out. What is decided on the way goes to the log.
    Raises InputError (SnapshotError, ParamsError), which ends with `what_to_do` where a file cannot be read.
    """
    if is_params(path):
        return _read_params(Path(path), model, may_drop)
    content = read_file(path, what_to_do)
    if isinstance(content, dict) and isinstance(content.get("model"), dict):
        content = content["model"]
    return _named_weights(content, path)


def _read_params(path: Path, model: nn.Module, may_drop: tuple[str, ...]) -> dict[str, Tensor]:
    try:
        conversion = state_from_params(read_params(path), mxnet_names(model), _box_rule(model), may_drop)
    except WeightsError as error:
        raise SnapshotError(f"{path}: {error}") from error
    for name, why in conversion.dropped:
        _LOGGER.info("%s: %s left out: %s", path, name, why)
    for note in conversion.notes:
        _LOGGER.warning("%s: %s", path, note)
    return conversion.state


def _named_weights(content: Any, path: str | os.PathLike) -> dict[str, Tensor]:
    if not isinstance(content, dict) or not all(isinstance(value, Tensor) for value in content.values()):
        raise SnapshotError(f"{path}: holds no weights by name, but a {type(content).__name__} of something else")
    return content


def _box_rule(module: nn.Module) -> BoxRule:
    """How `module` un-normalises its boxes (`lib.models.detector.Detector`); the usual rule where it has none."""
    for part in module.modules():
        if hasattr(part, "box_stds"):
            return BoxRule(*(tuple(round(x, 7) for x in v.tolist()) for v in (part.box_means, part.box_stds)))
    return BoxRule()


def load_state(module: nn.Module, state: Any, path: str | os.PathLike, may_miss: str | None = None) -> None:
    """Load the state dictionary `state`, read from `path`, into `module`, or raise SnapshotError and change nothing.

    may_miss: the beginning of names that need not be in the file; those parameters stay as they are.
    """
    state = _named_weights(state, path)
    problems = misfits(module.state_dict(), state, may_miss)
    if problems:
        raise SnapshotError(
            f"{path}: does not fit this model; was it made with another configuration (depth, width, classes)? "
            f"Weights of other projects go through tools/convert_weights.py first.\n{problems}"
        )
    module.load_state_dict(state, strict=False)  # strictly checked above, counters aside
