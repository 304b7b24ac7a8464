"""Files of weights: checkpoints, MXNet's parameter files and pickles, damaged or with code in them."""

from __future__ import annotations

import functools
import io
import struct
from multiprocessing.reduction import ForkingPickler
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from lib.checkpoints.conversion import WeightsError
from lib.checkpoints.mxnet_params import LAYOUTS, ParamsFile, is_params, read_params, write_params
from lib.checkpoints.plain_pickle import read_pickle
from lib.engine.checkpoint import load_checkpoint, read_identity
from lib.engine.weight_files import read_weight_file
from lib.engine.weights import load_state, read_weights
from tools.fuzzing.attempts import Input, Kind, WrongError, canary_command
from tools.fuzzing.mutations import damaged_bytes


class _Network(nn.Module):
    """Two small layers with names of the project's networks."""

    def __init__(self) -> None:
        super().__init__()
        self.feat_conv_3x3 = nn.Conv2d(2, 3, 3)
        self.rfcn_cls = nn.Conv2d(3, 4, 1)


class _Code:
    """Calls `open` when it is unpickled."""

    def __reduce__(self) -> tuple:
        return open, (canary_command(), "w")


def _state() -> dict[str, Tensor]:
    torch.manual_seed(0)
    return _Network().state_dict()


def _saved(content: Any, **options: Any) -> bytes:
    file = io.BytesIO()
    torch.save(content, file, **options)
    return file.getvalue()


def _checkpoint(**changes: Any) -> dict[str, Any]:
    """The entries of a training checkpoint."""
    content = {
        "model": _state(),
        "optimizer": {"state": {}, "param_groups": []},
        **dict.fromkeys(("epoch", "batch", "iteration"), 1),
        "config": {"TRAIN": {"lr": 0.1}},
        "method": "rfcn",
        "classes": {"names": ["cat"], "annotation_names": ["n1"]},
        **dict.fromkeys(("name", "version", "commit"), "a"),
    }
    return content | changes


def _load(damaged: bool, folder: Path) -> str:
    """All ways in which a checkpoint is read."""
    path = folder / "a.pth"
    model = _Network()
    load_state(model, read_weights(path, "give another file", model), path)
    good = _state()
    if not damaged or all(torch.equal(value, good[name]) for name, value in model.state_dict().items()):
        read_identity(path)
        load_checkpoint(path)
        return "the right weights"
    raise WrongError("other weights than were saved")


def _pth(what: str, content: bytes, same: bool = False) -> Input:
    """same: weights that load must be those of `_state`."""
    return Input(what, functools.partial(_load, same), {"a.pth": content}, names="a.pth")


def _fixed_checkpoints() -> list[Input]:
    good, state = _saved(_checkpoint()), _state()
    first = next(iter(state))
    odd = {
        "numbers for names": {1: torch.zeros(1)},
        "no tensors": {"model": {"a": 1}},
        "a list": [torch.zeros(1)],
        "a tensor": torch.zeros(3),
        "nothing": None,
        "an empty dictionary": {},
        "sparse weights": {"model": state | {first: torch.zeros(3, 2, 3, 3).to_sparse()}},
        "meta weights": {"model": state | {first: torch.zeros(3, 2, 3, 3, device="meta")}},
        "quantized weights": {
            "model": state | {first: torch.quantize_per_tensor(torch.zeros(3, 2, 3, 3), 1, 0, torch.qint8)}
        },
        "complex weights": {"model": state | {first: torch.zeros(3, 2, 3, 3, dtype=torch.complex64)}},
        "whole numbers": {"model": state | {first: torch.zeros(3, 2, 3, 3, dtype=torch.int64)}},
        "NaN weights": {"model": state | {first: torch.full((3, 2, 3, 3), torch.nan)}},
        "infinite weights": {"model": state | {first: torch.full((3, 2, 3, 3), torch.inf)}},
        "a weight too few": {"model": {first: state[first]}},
        "a weight too many": {"model": state | {"more": torch.zeros(2)}},
        "another shape": {"model": state | {first: torch.zeros(1)}},
        "a billion values in one": {"model": state | {first: torch.zeros(1).expand(1 << 30)}},
        "code": {"model": _Code()},
        "code beside weights": _checkpoint(more=_Code()),
        **{
            f"{key} of another form": _checkpoint(**{key: value})
            for key in ("epoch", "config", "method", "classes", "model", "optimizer", "version")
            for value in (torch.zeros(2),)
        },
        **{f"{key} is a list": _checkpoint(**{key: [1, 2]}) for key in ("config", "classes", "epoch", "model")},
        "classes twice": _checkpoint(classes={"names": ["a", "a"], "annotation_names": ["b", "c"]}),
        "classes without names": _checkpoint(classes={}),
        "more entries for classes": _checkpoint(classes={"names": ["a"], "annotation_names": ["b"], "x": ["c"]}),
    }
    cases = [_pth(what, _saved(content)) for what, content in odd.items()]
    cases += [
        _pth("good checkpoint", good, True),
        _pth("old form", _saved(_checkpoint(), _use_new_zipfile_serialization=False)),
    ]
    script = torch.jit.script(nn.Linear(1, 1)) if hasattr(torch, "jit") else None
    if script is not None:
        file = io.BytesIO()
        torch.jit.save(script, file)
        cases.append(_pth("a TorchScript archive", file.getvalue()))
    cases += [_pth(f"cut off at {share:g}", good[: int(len(good) * share)], True) for share in (0, 0.1, 0.5, 0.9, 0.99)]
    texts = {"text": b"text", "zeros": bytes(999), "a pickle": bytes(ForkingPickler.dumps({"a": 1})), "code": _code()}
    return cases + [_pth(what, content) for what, content in texts.items()]


def _damaged_checkpoint(rng: Random) -> Input:
    if rng.random() < 0.2:
        return _pth("damaged old form", damaged_bytes(rng, _good_old()))
    return _pth("damaged checkpoint", damaged_bytes(rng, _good()), True)


@functools.cache
def _good() -> bytes:
    return _saved(_checkpoint())


@functools.cache
def _good_old() -> bytes:
    return _saved(_checkpoint(), _use_new_zipfile_serialization=False)


@functools.cache
def _good_params(layout: str) -> bytes:
    import tempfile

    names = [f"arg:{name.replace('.', '_')}" for name in _state()]
    arrays = [value.numpy() for value in _state().values()]
    with tempfile.TemporaryDirectory() as folder:
        path = write_params(Path(folder, "a.params"), ParamsFile(names, arrays), layout)
        return path.read_bytes()


def _load_params(folder: Path) -> str:
    path = folder / "a.params"
    if not is_params(path):
        read_params(path)
        raise WrongError("read, and yet no parameter file")
    found = read_params(path)
    if sum(array.nbytes for array in found.arrays) > path.stat().st_size:
        raise WrongError("more bytes than the file has")
    model = _Network()
    load_state(model, read_weights(path, "give another file", model), path)
    if not all(bool(value.isfinite().all()) for value in model.state_dict().values()):
        raise WrongError("weights that are not finite")
    return "finite weights"


def _params(what: str, content: bytes) -> Input:
    return Input(what, _load_params, {"a.params": content}, names="a.params")


def _fixed_params() -> list[Input]:
    cases = []
    for layout in LAYOUTS:
        good = _good_params(layout)
        cases.append(_params(f"good {layout}", good))
        cases += [
            _params(f"{layout} cut off at {share:g}", good[: int(len(good) * share)]) for share in (0, 0.1, 0.5, 0.99)
        ]
        for place in (0, 16, 24, 28, 32, 40):
            for number in (0, 2**31, 2**32 - 1, 2**63 - 1, 2**64 - 1):
                data = bytearray(good)
                data[place : place + 8] = struct.pack("<Q", number)
                cases.append(_params(f"{layout} with {number} at byte {place}", bytes(data)))
    return cases


def _damaged_params(rng: Random) -> Input:
    layout = rng.choice(LAYOUTS)
    return _params(f"damaged {layout}", damaged_bytes(rng, _good_params(layout)))


def _good_pickle(protocol: int) -> bytes:
    arrays = {"conv1_w": np.arange(6, dtype=np.float32).reshape(2, 3), "b": np.float32(1.5)}
    return bytes(ForkingPickler.dumps({"blobs": arrays, "cfg": "a: 1", "list": [1, 2.5, None, ("x",)]}, protocol))


def _code() -> bytes:
    return bytes(ForkingPickler.dumps(_Code()))


def _load_pickle(folder: Path) -> str:
    path = folder / "a.pkl"
    read_pickle(path)
    try:
        kind = read_weight_file(path).kind()
    except WeightsError:  # which does not name the file: the tool that reads it does
        kind = "unknown"
    return kind


def _pickle(what: str, content: bytes) -> Input:
    return Input(what, _load_pickle, {"a.pkl": content}, names="a.pkl")


def _fixed_pickles() -> list[Input]:
    canary = canary_command().encode()
    many = b"\x80\x02" + b"]q\x00" + b"".join(b"(h\x00h\x00h\x00h\x00h\x00t" for _ in range(3000)) + b"."
    odd = {
        "code": _code(),
        "code in a list": bytes(ForkingPickler.dumps([1, {"a": _Code()}])),
        "code by GLOBAL": b"cbuiltins\nopen\n(V" + canary + b"\nVw\ntR.",
        "code by INST": b"(V" + canary + b"\nVw\nibuiltins\nopen\n.",
        "code by OBJ": b"(cbuiltins\nopen\nV" + canary + b"\nVw\no.",
        "code by BUILD": b"\x80\x02ccollections\nOrderedDict\n)R(cbuiltins\nopen\nV" + canary + b"\nVw\ntRb.",
        "an extension": b"\x80\x02\x82\x01.",
        "a persistent id": b"Pa\n.",
        "itself in a list": b"]q\x00h\x00a.",
        "itself in a dictionary": b"}q\x00(U\x01ah\x00u.",
        "parts without end": many,
        "lists doubled 60 times": b"]" + b"2" * 3 + b"q\x00" + b"".join(b"(h\x00h\x00lq\x00" for _ in range(60)) + b".",
        "deep lists": b"(" * 50_000 + b"l" * 50_000 + b".",
        "a long number": b"L" + b"9" * 100_000 + b"L\n.",
        "a huge length": b"\x80\x04\x8d" + struct.pack("<Q", 2**62) + b"a.",
        "no end": b"\x80\x02]",
        "nothing": b"",
        "too much on the stack": b"\x80\x02]]].",
    }
    good = [_pickle(f"good, protocol {protocol}", _good_pickle(protocol)) for protocol in range(6)]
    return good + [_pickle(what, content) for what, content in odd.items()]


def _damaged_pickle(rng: Random) -> Input:
    protocol = rng.randrange(6)
    return _pickle(f"damaged pickle of protocol {protocol}", damaged_bytes(rng, _good_pickle(protocol)))


KINDS: tuple[Kind, ...] = (
    Kind("pth", _fixed_checkpoints, _damaged_checkpoint),
    Kind("params", _fixed_params, _damaged_params),
    Kind("pickle", _fixed_pickles, _damaged_pickle),
)
