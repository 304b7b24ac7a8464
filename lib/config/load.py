"""Load a configuration: the defaults of `lib.config.keys`, changed by YAML files and then by `KEY=VALUE`.

The key names are those of the originals, so that their YAML files load as they are. An unknown key, a wrong type or a
value out of range is an error that names the key and the file or argument that it came from.
"""

from __future__ import annotations

import copy
import logging
import os
from collections.abc import Iterator, Sequence
from typing import Any

from easydict import EasyDict

from lib.config.combinations import problems
from lib.config.keys import SECTIONS
from lib.config.originals import IGNORED, batches_of_gpus, check_ignored
from lib.config.values import Key, shown
from lib.config.yaml_text import parse_yaml, read_yaml
from lib.errors import InputError

_LOGGER = logging.getLogger(__name__)

Config = EasyDict

COMMAND_LINE = "command line"


class ConfigError(InputError):
    """A configuration that cannot be used; the message names the file or argument, the key and what to do."""


def keys(section: dict = SECTIONS, prefix: str = "") -> Iterator[tuple[str, Key]]:
    """Every key with its full name, such as "TRAIN.lr", in the order of `lib.config.keys`."""
    for name, entry in section.items():
        if isinstance(entry, dict):
            yield from keys(entry, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", entry


def default_config() -> Config:
    """A fresh configuration of the defaults."""
    return EasyDict(_defaults(SECTIONS))


def _defaults(section: dict) -> dict[str, Any]:
    return {
        name: _defaults(entry) if isinstance(entry, dict) else copy.deepcopy(entry.default)
        for name, entry in section.items()
    }


def load_config(
    path: str | os.PathLike | None = None,
    overrides: Sequence[str] = (),
    presets: Sequence[str | os.PathLike] = (),
    base: dict[str, Any] | None = None,
    base_name: str = "",
) -> Config:
    """The defaults, changed by the YAML file at `path`, then by each of `presets`, then by `overrides`.

    presets: YAML files with a few keys, for use with any configuration, such as configs/presets/vid_only.yaml.
    overrides: such as `"TRAIN.lr=1e-3"`. base: a whole configuration that replaces the defaults, such as a
    checkpoint's; base_name: its origin, for messages.
    Raises ConfigError for a missing or unreadable file, an unknown key, a wrong type or a value out of range.
    """
    merged = _Merged()
    if base is not None:
        if not isinstance(base, dict):
            raise ConfigError(f"{base_name}: must be keys and values, not {shown(base)}")
        merged.add(base, base_name)
        merged.ignored.clear()  # the warning was given when the base was made
        merged.forget_defaults()
    for file in ([] if path is None else [path]) + list(presets):
        merged.add(read_yaml(file, ConfigError), os.fspath(file))
    for override in overrides:
        merged.add(_parse_override(override), COMMAND_LINE)
    merged.check()
    return merged.cfg


def _parse_override(override: str) -> dict[str, Any]:
    """`"TRAIN.lr=1e-3"` as {"TRAIN": {"lr": "1e-3"}}.

    The value is parsed as YAML, except that the value of a text key is taken literally unless it is in quotes: a folder
    `010` or `on` is not a number or a truth value.
    """
    name, separator, text = override.partition("=")
    if not separator:
        raise ConfigError(f"{COMMAND_LINE}: {shown(override)} is not KEY=VALUE, for example TRAIN.lr=1e-3")
    entry = dict(keys()).get(name)
    value: Any = text
    if entry is None or not isinstance(entry.default, str) or text[:1] in ("'", '"'):
        value = parse_yaml(text, f"{COMMAND_LINE}: {override[:200]}", ConfigError) if text else ""
    for part in reversed(name.split(".")):
        value = {part: value}
    return value


def to_dict(cfg: Config) -> dict[str, Any]:
    """`cfg` as plain dictionaries and lists, for YAML, JSON and checkpoints."""
    if isinstance(cfg, dict):
        return {key: to_dict(value) for key, value in cfg.items()}
    if isinstance(cfg, (list, tuple)):
        return [to_dict(value) for value in cfg]
    return cfg


def lr_steps(cfg: Config) -> list[float]:
    """The epochs of `TRAIN.lr_step`."""
    return [float(part) for part in cfg.TRAIN.lr_step.split(",") if part.strip()]


class _Merged:
    """A configuration that is merged from several sources, with the origin of each value."""

    def __init__(self) -> None:
        self.cfg = default_config()
        self.sources: dict[str, str] = {}  # full name -> file or command line, the latest last
        self.ignored: dict[str, list[str]] = {}  # file -> keys of the originals without a meaning here
        self.num_anchors: int | None = None

    def add(self, tree: dict[str, Any], where: str) -> None:
        """Overwrite the current values with those of `tree`, which came from `where`."""
        train = tree.get("TRAIN")
        if "gpus" in tree and isinstance(train, dict) and "BATCHES_PER_UPDATE" in train:
            raise ConfigError(f"{where}: 'gpus' sets 'TRAIN.BATCHES_PER_UPDATE'; give one of the two")
        self._merge(self.cfg, SECTIONS, tree, "", where)

    def forget_defaults(self) -> None:
        """Take values that are the defaults for not given: a whole configuration has every key, also those that its
        method does not use."""
        known = dict(keys())
        for name in [name for name in self.sources if name in known]:
            *sections, last = name.split(".")
            place = self.cfg
            for section in sections:
                place = place[section]
            if place[last] == known[name].default:
                del self.sources[name]

    def _merge(self, cfg: Config, section: dict, tree: dict[str, Any], prefix: str, where: str) -> None:
        for key, value in tree.items():
            name = f"{prefix}{key}"
            try:
                known = self._take_original(name, value, where)
            except ValueError as error:
                raise ConfigError(f"{where}: '{name}' {error}") from None
            if known:
                continue
            if key not in section:
                raise ConfigError(f"{where}: unknown key {shown(name)}; known here: {', '.join(sorted(section))}")
            if isinstance(section[key], dict):
                if not isinstance(value, dict):
                    raise ConfigError(f"{where}: '{name}' is a section and needs keys under it, not {shown(value)}")
                self._merge(cfg[key], section[key], value, f"{name}.", where)
                continue
            if name == "SCALES" and isinstance(value, list) and len(value) == 2 and not isinstance(value[0], list):
                value = [value]  # the originals' files give the pair without the outer list
            try:
                cfg[key] = section[key].convert(value)
            except ValueError as error:
                raise ConfigError(f"{where}: '{name}' {error}") from None
            self._came_from(name, where)

    def _came_from(self, name: str, where: str) -> None:
        self.sources.pop(name, None)
        self.sources[name] = where

    def _take_original(self, name: str, value: Any, where: str) -> bool:
        """Handle `name` if it is a key of the originals that is not a key here; returns whether. Raises ValueError."""
        if name in IGNORED:
            check_ignored(name, value)
            self.ignored.setdefault(where, []).append(name)
        elif name == "gpus":
            batches = SECTIONS["TRAIN"]["BATCHES_PER_UPDATE"].convert(batches_of_gpus(value))
            self.cfg.TRAIN.BATCHES_PER_UPDATE = batches
            self._came_from("TRAIN.BATCHES_PER_UPDATE", where)
        elif name == "network.NUM_ANCHORS":
            if not isinstance(value, int) or isinstance(value, bool):
                raise ValueError(f"must be a whole number, not {shown(value)}")
            self.num_anchors = value
            self._came_from(name, where)
        else:
            return False
        return True

    def _where(self, names: Sequence[str]) -> str:
        """The origin of the value that was set last among `names`."""
        return [where for name, where in self.sources.items() if name in names][-1]

    def check(self) -> None:
        """Raise ConfigError for incompatible values; warn of ignored keys, once for each file."""
        for names, problem in problems(self.cfg, set(self.sources)):
            raise ConfigError(f"{self._where(names)}: {problem}")
        anchors = len(self.cfg.network.ANCHOR_RATIOS) * len(self.cfg.network.ANCHOR_SCALES)
        if self.num_anchors not in (None, anchors):
            raise ConfigError(
                f"{self._where(['network.NUM_ANCHORS'])}: 'network.NUM_ANCHORS' is {shown(self.num_anchors)}, but "
                f"ANCHOR_RATIOS x ANCHOR_SCALES give {anchors}; leave it out"
            )
        for where, names in self.ignored.items():
            _LOGGER.warning("%s: keys without a meaning here, ignored: %s", where, ", ".join(names))
