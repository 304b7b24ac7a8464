"""Configurations: YAML files, and every key with values that it cannot have."""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any

import yaml

from lib.config import load_config, to_dict
from lib.config.keys import SECTIONS
from lib.config.load import keys
from lib.config.values import Key
from tools.fuzzing.attempts import Input, Kind, WrongError, canary_command
from tools.fuzzing.mutations import TOKENS, as_bytes, damaged_text

_CONFIGS = Path(__file__).resolve().parents[2] / "configs"
_VALUES = (
    *("", "~", "true", "abc", "-1", "0", "1", "0.5", "1e30", "-1e30", "nan", ".nan", "inf", "-.inf", "1e999", "9" * 30),
    *("9" * 5000, "[]", "[0]", "[1, 2, 3, 4]", "[nan, 1, 1]", "[[1, 2]]", "{a: 1}", "[[[[1]]]]", "'", "\x00", "\u202e"),
    *("../x", "/x", "a/b", "!!python/object/apply:print [1]", "*a", "&a [*a]", "2020-01-01", "0x7f", "1_0", "x" * 5000),
)


def check_config(cfg: Any) -> None:
    """Raise WrongError unless every key of `cfg` has a value that its declaration accepts, and there are no others."""
    _check_section(to_dict(cfg), SECTIONS)


def _check_section(values: dict, section: dict) -> None:
    if values.keys() != section.keys():
        raise WrongError(f"keys {sorted(values.keys() ^ section.keys())}")
    for name, entry in section.items():
        if isinstance(entry, dict):
            _check_section(values[name], entry)
        else:
            _check_value(name, values[name], entry)


def _check_value(name: str, value: Any, key: Key) -> None:
    """By the declaration's fields alone, not by its own code."""
    if type(value) is not type(key.default):
        raise WrongError(f"{name} is a {type(value).__name__}, {value!r}")
    if isinstance(value, list):
        low, high = key.length or (0, math.inf)
        if not low <= len(value) <= high:
            raise WrongError(f"{name} has {len(value)} entries")
        for entry in value:
            _check_value(name, entry, key.item)
    elif key.choices and value not in key.choices:
        raise WrongError(f"{name} is {value!r}")
    elif isinstance(value, (int, float)) and not isinstance(value, bool):
        least, most = (-math.inf if key.least is None else key.least), (math.inf if key.most is None else key.most)
        if not math.isfinite(value) or not least <= value <= most or (key.above is not None and value <= key.above):
            raise WrongError(f"{name} is {value!r}")
    elif isinstance(value, str) and ("\0" in value or len(value) > 5000):
        raise WrongError(f"{name} is {value[:50]!r}")


def _override(text: str, folder: Path) -> str:
    cfg = load_config(overrides=[text])
    check_config(cfg)
    if load_config(base=to_dict(cfg), base_name="again") != cfg:
        raise WrongError("the configuration does not load again as it is")
    return "accepted"


def _fixed_keys() -> list[Input]:
    names = [name for name, _ in keys()]
    cases = [
        Input(f"{name}={value[:30]!r}", functools.partial(_override, f"{name}={value}"), names="command line")
        for name in names
        for value in _VALUES
    ]
    odd = (
        "",
        "=",
        "=1",
        "TRAIN",
        "TRAIN=1",
        "TRAIN.lr",
        "TRAIN.lr.x=1",
        ".lr=1",
        "TRAIN..lr=1",
        "x=1",
        "\0=1",
        "TRAIN.\u202e=1",
    )
    return cases + [Input(f"{text!r}", functools.partial(_override, text), names="command line") for text in odd]


def _mutated_key(rng: Random) -> Input:
    name = rng.choice([name for name, _ in keys()])
    value = rng.choice(TOKENS)
    if rng.random() < 0.4:
        value = "[" + ", ".join(rng.choice(TOKENS) for _ in range(rng.randrange(6))) + "]"
    text = damaged_text(rng, f"{name}={value}") if rng.random() < 0.2 else f"{name}={value}"
    return Input(f"{text[:50]!r}", functools.partial(_override, text), names="command line")


def _load_yaml(content: bytes, folder: Path) -> str:
    cfg = load_config(folder / "a.yaml")
    check_config(cfg)
    tree = yaml.safe_load(content.decode("utf-8-sig")) or {}
    for name, value in _leaves(tree):
        known = _value_of(to_dict(cfg), name.split("."))
        if isinstance(value, (int, bool)) and isinstance(known, (int, float)) and known != value:
            raise WrongError(f"{name} is {known!r}, and the file says {value!r}")
    return "accepted"


def _leaves(tree: dict, prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in tree.items():
        if isinstance(value, dict):
            yield from _leaves(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _value_of(tree: Any, path: list[str]) -> Any:
    for part in path:
        tree = tree.get(part) if isinstance(tree, dict) else None
    return tree


def _yaml(what: str, content: bytes) -> Input:
    return Input(what, functools.partial(_load_yaml, content), {"a.yaml": content}, names="a.yaml")


@functools.cache
def _good_files() -> dict[str, str]:
    return {path.name: path.read_text(encoding="utf-8") for path in sorted(_CONFIGS.rglob("*.yaml"))}


def _fixed_yaml() -> list[Input]:
    bomb = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
        f"{b}: &{b} [{', '.join([f'*{a}'] * 9)}]\n" for a, b in zip("abcdefgh", "bcdefghi", strict=True)
    )
    run = f"TRAIN: !!python/object/apply:builtins.open ['{canary_command()}', 'w']\n"
    odd = {
        "nothing": "",
        "a list": "- 1\n- 2\n",
        "a number": "5\n",
        "a section twice": "TRAIN:\n  lr: 0.1\nTEST: {}\nTRAIN:\n  FLIP: false\n",
        "a key twice": "TRAIN:\n  lr: 0.1\n  lr: 0.2\n",
        "two documents": "TRAIN: {}\n---\nTRAIN: {}\n",
        "an alias bomb": bomb,
        "an alias bomb in a value": bomb + "TRAIN: {lr: *i}\n",
        "an alias of itself": "TRAIN: &a {lr: *a}\n",
        "merging": "TRAIN: {<<: {lr: 1}}\n",
        "deep lists": "SCALES: " + "[" * 50_000,
        "deep sections": "".join(" " * i + "a:\n" for i in range(3000)),
        "code": run,
        "a new object": "TRAIN: !!python/object/new:os.system [true]\n",
        "a bad date": "TRAIN: {lr_step: 2020-99-99}\n",
        "a bad integer": "TRAIN: {lr: !!int abc}\n",
        "5,000 digits": "TRAIN: {end_epoch: " + "9" * 5000 + "}\n",
        "a key of a list": "? [1, 2]\n: 3\n",
        "a key of no text": "1: 2\n2.5: 3\ntrue: 4\n~: 5\n",
        "a tab": "TRAIN:\n\tlr: 1\n",
        "a directive": "%YAML 9.9\n---\nTRAIN: {}\n",
        "a million lines": "# x\n" * 1_000_000,
        "binary": "TRAIN: {lr: !!binary R0lGODlhDAAMAIQAAP}\n",
        "sets": "TRAIN: !!set {lr, FLIP}\n",
    }
    cases = [_yaml(f"good {name}", text.encode()) for name, text in _good_files().items()]
    cases += [_yaml(what, text.encode()) for what, text in odd.items()]
    text = next(iter(_good_files().values()))
    cases += [_yaml(name, text.encode(name)) for name in ("utf-16", "utf-32", "cp037", "utf-8-sig")]
    return [*cases, _yaml("latin-1", b"output_path: gr\xfcn\n"), _yaml("a picture", b"\x89PNG\r\n\x1a\n" + bytes(99))]


def _damaged_yaml(rng: Random) -> Input:
    name, text = rng.choice(list(_good_files().items()))
    return _yaml(f"damaged {name}", as_bytes(rng, damaged_text(rng, text)))


KINDS = (Kind("yaml", _fixed_yaml, _damaged_yaml), Kind("key", _fixed_keys, _mutated_key))
