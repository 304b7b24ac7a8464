"""Which recorded sets lie in a folder, and comparing them all."""

from __future__ import annotations

import gc
import json
import re
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from lib.errors import InputError
from tools.parity.checkpoints import compare_checkpoint
from tools.parity.evaluation import compare_evaluation
from tools.parity.golden_weights import METHODS, GoldenNetwork, compare_shapes, compare_weights, golden_network
from tools.parity.layers import compare_layers
from tools.parity.loops import compare_loops
from tools.parity.networks import compare_network
from tools.parity.rows import Recording, RecordingError, Row, failure
from tools.parity.training import compare_training

_METHOD = "|".join(METHODS)
_KINDS = {  # what the files of a family are called; the groups are the method, if there is one, and the name
    "weights": r"weights_check\.json",
    "shapes": rf"param_shapes_(?P<method>{_METHOD})\.json",
    "layers": r"layers_.+\.npz",
    "ckpt": r"ckpt_.+\.npz",
    "eval": r"eval_.+\.npz",
    "loops": rf"loops_(?P<method>{_METHOD})_.+\.npz",
    "net": rf"net_(?P<method>{_METHOD})_.+\.npz",
    "train": rf"train_(?P<method>{_METHOD})_.+\.npz",
}
_PARAMS = re.compile(r"(ckpt_.+)-\d{4}\.params")


@dataclass(frozen=True)
class GoldenSet:
    """One set: its family ("layers", "net", ...), the method that it is about ("" for none), its main file."""

    family: str
    method: str
    path: Path

    @property
    def name(self) -> str:
        return self.path.stem


def find_sets(folder: Path) -> tuple[list[GoldenSet], list[Row]]:
    """The sets in a folder, those of one method together; and a failing row for each file that belongs to none.

    Only .npz and .params files are expected to belong to a set: others may lie there. Raises RecordingError for a
    folder that cannot be read.
    """
    try:
        names = sorted(path.name for path in folder.iterdir() if path.is_file())
    except OSError as error:
        raise RecordingError(
            f"{folder}: cannot be read ({error.strerror}); give the folder of the recordings"
        ) from error
    sets, strays = [], []
    for name in names:
        found = [(family, match) for family, kind in _KINDS.items() if (match := re.fullmatch(kind, name))]
        if found:
            ((family, match),) = found
            sets.append(GoldenSet(family, match.groupdict().get("method") or "", folder / name))
        elif name.endswith(".npz"):
            strays.append(failure(Path(name).stem, "(set)", "nothing here knows a set of this name"))
        elif name.endswith(".params") and f"{_stem_of_params(name)}.npz" not in names:
            strays.append(failure(Path(name).stem, "(set)", "no .npz beside it says what this file should hold"))
    order = list(_KINDS)
    sets.sort(key=lambda one: (one.family in ("net", "train"), one.method, order.index(one.family), one.name))
    return sets, strays


def _stem_of_params(name: str) -> str:
    match = _PARAMS.fullmatch(name)
    return match[1] if match else ""


@dataclass(frozen=True)
class NetworkForm:
    """How the networks of net_* sets are run: on which device, and whether in the form that scripts detect with."""

    device: torch.device = torch.device("cpu")
    optimised: bool = False

    def __str__(self) -> str:
        words = [self.device.type] * (self.device.type != "cpu") + ["optimised"] * self.optimised
        return f" ({', '.join(words)})" if words else ""


def compare_sets(sets: Iterable[GoldenSet], forms: Sequence[NetworkForm] = (NetworkForm(),)) -> Iterator[list[Row]]:
    """The rows of each set; those of a net_* set for each of `forms`. Neighbours with the same network share it."""
    network: GoldenNetwork | None = None
    for one in sets:
        rows = []
        for form in forms if one.family == "net" else forms[:1]:
            more, network = compare_set(one, network, form)
            rows += more
        yield rows


def compare_set(
    one: GoldenSet, network: GoldenNetwork | None = None, form: NetworkForm | None = None
) -> tuple[list[Row], GoldenNetwork | None]:
    """The rows of a set, and the network that it needed, if any; `network` is taken if it is the right one.

    form: of a net_* set; the others are compared on the CPU. What goes wrong within a set is a failing row of it, so
    that the others are still compared.
    """
    form = form if form is not None and one.family == "net" else NetworkForm()
    try:
        recording = Recording(f"{one.name}{form}", _read(one.path))
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        return [failure(one.name, "(file)", f"{one.path.name} cannot be read ({error})")], network
    try:
        if one.family in ("net", "train"):
            network = _network_for(one, recording, network)
            if one.family == "net":
                compare_network(recording, replace(network, device=form.device, optimised=form.optimised))
            else:
                compare_training(recording, network)
        else:
            _COMPARE[one.family](recording, one)
    except Exception as error:  # anything: a recording can be wrong in more ways than can be listed
        kind = "" if isinstance(error, InputError) else f"{type(error).__name__}: "
        recording.rows.append(failure(one.name, "(set)", f"could not be compared to its end: {kind}{error}"))
    rows = recording.finish()
    return rows or [failure(recording.name, "(set)", "nothing in it to compare")], network


def _network_for(one: GoldenSet, recording: Recording, network: GoldenNetwork | None) -> GoldenNetwork:
    seed = int(recording.number("seed"))
    if network is None or (network.method, network.seed) != (one.method, seed):
        del network
        gc.collect()  # two networks at full size would be held otherwise
        return golden_network(one.method, seed)
    return network


_COMPARE: dict[str, Callable[[Recording, GoldenSet], None]] = {
    "weights": lambda recording, one: compare_weights(recording),
    "shapes": lambda recording, one: compare_shapes(recording, one.method),
    "layers": lambda recording, one: compare_layers(recording),
    "ckpt": lambda recording, one: compare_checkpoint(recording, _params_file(one.path)),
    "eval": lambda recording, one: compare_evaluation(recording, one.path.with_suffix("")),
    "loops": lambda recording, one: compare_loops(recording, one.method),
}


def _params_file(path: Path) -> Path:
    """The parameter file that a ckpt_*.npz describes: the same name and an epoch."""
    named = [other for other in path.parent.iterdir() if _stem_of_params(other.name) == path.stem]
    if len(named) != 1:
        raise RecordingError(f"{path.name}: {len(named)} files {path.stem}-NNNN.params beside it, there should be one")
    return named[0]


def _read(path: Path) -> dict[str, np.ndarray]:
    """The arrays of a set's main file; those of a JSON file are its entries."""
    if path.suffix == ".npz":
        with np.load(path, allow_pickle=False) as file:
            return {name: file[name] for name in file.files}
    content = json.loads(path.read_text(encoding="utf-8"))
    if path.name == "weights_check.json":
        return {name: np.array(json.dumps(entry)) for name, entry in content.items()}
    return {name: np.array(shape) for kind in ("arg", "aux") for name, shape in content[kind]}
