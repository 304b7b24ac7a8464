"""One configuration: the defaults of `lib.config.keys`, changed by YAML files, changed by `KEY=VALUE`.

The key names are those of the originals, so that their YAML files load as they are. Everything that is unknown, of
another type or out of range is an error that names the key and the file or argument that it came from.
"""

from __future__ import annotations

import copy
import logging
import os
from collections.abc import Iterator, Sequence
from typing import Any

from easydict import EasyDict

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

    presets: YAML files of a few keys that go with any configuration, such as configs/presets/vid_only.yaml.
    overrides: such as `"TRAIN.lr=1e-3"`. base: a whole configuration to begin from in place of the defaults, such as a
    checkpoint's, and base_name where it comes from, for messages.
    Raises ConfigError for a missing or unreadable file, an unknown key, a wrong type or a value out of range.
    """
    merged = _Merged()
    if base is not None:
        merged.add(base, base_name)
        merged.ignored.clear()  # whoever wrote it was told
    for file in ([] if path is None else [path]) + list(presets):
        merged.add(read_yaml(file, ConfigError), os.fspath(file))
    for override in overrides:
        key, separator, text = override.partition("=")
        if not separator:
            raise ConfigError(f"{COMMAND_LINE}: '{override}' is not KEY=VALUE, for example TRAIN.lr=1e-3")
        value: Any = parse_yaml(text, f"{COMMAND_LINE}: {override}", ConfigError) if text else ""
        for part in reversed(key.split(".")):
            value = {part: value}
        merged.add(value, COMMAND_LINE)
    merged.check()
    return merged.cfg


def to_dict(cfg: Config) -> dict[str, Any]:
    """`cfg` as plain dictionaries and lists, fit for YAML, JSON and checkpoints."""
    if isinstance(cfg, dict):
        return {key: to_dict(value) for key, value in cfg.items()}
    if isinstance(cfg, (list, tuple)):
        return [to_dict(value) for value in cfg]
    return cfg


def lr_steps(cfg: Config) -> list[float]:
    """The epochs of `TRAIN.lr_step`."""
    return [float(part) for part in cfg.TRAIN.lr_step.split(",") if part.strip()]


class _Merged:
    """A configuration that grows layer by layer, and where each value came from."""

    def __init__(self) -> None:
        self.cfg = default_config()
        self.sources: dict[str, str] = {}  # full name -> file or command line
        self.ignored: dict[str, list[str]] = {}  # file -> keys of the originals without a meaning here
        self.num_anchors: int | None = None

    def add(self, tree: dict[str, Any], where: str) -> None:
        """Put the values of `tree`, which came from `where`, over what is there."""
        self._merge(self.cfg, SECTIONS, tree, "", where)

    def _merge(self, cfg: Config, section: dict, tree: dict[str, Any], prefix: str, where: str) -> None:
        for key, value in tree.items():
            name = f"{prefix}{key}"
            if self._is_original(name, value, where):
                continue
            if key not in section:
                known = ", ".join(sorted(section))
                raise ConfigError(f"{where}: unknown key '{name[:200]}'; known here: {known}")
            if isinstance(section[key], dict):
                if not isinstance(value, dict):
                    raise ConfigError(f"{where}: '{name}' is a section and needs keys under it, not {shown(value)}")
                self._merge(cfg[key], section[key], value, f"{name}.", where)
                continue
            if name == "SCALES" and isinstance(value, list) and len(value) == 2 and not isinstance(value[0], list):
                value = [value]  # the originals' files give the pair without the outer list
            self._set(cfg, section[key], key, name, value, where)

    def _set(self, cfg: Config, entry: Key, key: str, name: str, value: Any, where: str) -> None:
        try:
            cfg[key] = entry.convert(value)
        except ValueError as error:
            raise ConfigError(f"{where}: '{name}' {error}") from None
        self.sources[name] = where

    def _is_original(self, name: str, value: Any, where: str) -> bool:
        """Whether `name` is a key of the originals that is no key here; it is then dealt with."""
        try:
            if name in IGNORED:
                check_ignored(name, value)
                self.ignored.setdefault(where, []).append(name)
            elif name == "gpus":
                self.cfg.TRAIN.BATCHES_PER_UPDATE = batches_of_gpus(value)
                self.sources["TRAIN.BATCHES_PER_UPDATE"] = where
            elif name == "network.NUM_ANCHORS":
                self.num_anchors = value if isinstance(value, int) and not isinstance(value, bool) else -1
                self.sources[name] = where
            else:
                return False
        except ValueError as error:
            raise ConfigError(f"{where}: '{name}' {error}") from None
        return True

    def _where(self, *names: str) -> str:
        """Where the values of `names` came from; of several, the latest word."""
        known = [self.sources[name] for name in names if name in self.sources]
        return COMMAND_LINE if COMMAND_LINE in known else known[-1] if known else "configuration"

    def check(self) -> None:
        """Raise ConfigError for values that cannot go together; name ignored keys in one warning for each file."""
        network, train = self.cfg.network, self.cfg.TRAIN
        if network.FEAT_DIM % 2:
            raise ConfigError(
                f"{self._where('network.FEAT_DIM')}: 'network.FEAT_DIM' is cut in two halves and must be even, "
                f"not {network.FEAT_DIM}"
            )
        if network.FGFA_FEAT_DIM < network.FEAT_DIM + 4 and "network.FGFA_FEAT_DIM" in self.sources:
            raise ConfigError(
                f"{self._where('network.FGFA_FEAT_DIM')}: 'network.FGFA_FEAT_DIM' {network.FGFA_FEAT_DIM} leaves no "
                f"channels for the embedding beside the {network.FEAT_DIM} of FEAT_DIM; it is their sum"
            )
        if train.MIN_OFFSET > train.MAX_OFFSET:
            where = self._where("TRAIN.MIN_OFFSET", "TRAIN.MAX_OFFSET")
            raise ConfigError(f"{where}: 'TRAIN.MIN_OFFSET' {train.MIN_OFFSET} is above MAX_OFFSET {train.MAX_OFFSET}")
        if train.begin_epoch >= train.end_epoch:
            where = self._where("TRAIN.begin_epoch", "TRAIN.end_epoch")
            raise ConfigError(
                f"{where}: 'TRAIN.end_epoch' {train.end_epoch} must be above 'TRAIN.begin_epoch' {train.begin_epoch}"
            )
        anchors = len(network.ANCHOR_RATIOS) * len(network.ANCHOR_SCALES)
        if self.num_anchors not in (None, anchors):
            raise ConfigError(
                f"{self._where('network.NUM_ANCHORS')}: 'network.NUM_ANCHORS' is {self.num_anchors}, but ANCHOR_RATIOS "
                f"x ANCHOR_SCALES give {anchors}; leave it out"
            )
        for where, names in self.ignored.items():
            _LOGGER.warning("%s: keys without a meaning here, ignored: %s", where, ", ".join(names))
