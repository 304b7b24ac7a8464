"""Read a user's YAML: plain values only, no duplicate keys, limited size and depth."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import yaml

from lib.errors import InputError
from lib.files import read_text

_LARGEST = 1 << 18  # characters; the largest configuration of the repository has 3,000
_DEEPEST = 20
_MOST_VALUES = 5_000


class _PlainLoader(yaml.SafeLoader):
    """`yaml.SafeLoader` without dates, and with an error for duplicate keys."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict:
        first_line: dict[str, int] = {}
        for key, _ in node.value:
            problem = ""
            if not isinstance(key, yaml.ScalarNode):
                problem = "a key must be a word"
            elif key.tag == "tag:yaml.org,2002:merge":
                problem = "merging with << is not accepted"
            elif key.value in first_line:
                problem = f"'{key.value}' was already given in line {first_line[key.value]}"
            if problem:
                raise yaml.constructor.ConstructorError(problem=problem, problem_mark=key.start_mark)
            first_line[key.value] = key.start_mark.line + 1
        return super().construct_mapping(node, deep)


_PlainLoader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:timestamp"]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


def parse_yaml(text: str, where: str, error: type[InputError]) -> Any:
    """The value that `text` describes. Raises `error`, whose message begins with `where`."""
    if len(text) > _LARGEST:
        raise error(f"{where}: more than {_LARGEST} characters; this is no configuration")
    try:
        _check_shape(text)
        loader = _PlainLoader(text)
        try:
            return loader.get_single_data()
        finally:
            loader.dispose()
    except yaml.MarkedYAMLError as reason:
        line = f":{reason.problem_mark.line + 1}" if reason.problem_mark else ""
        raise error(f"{where}{line}: not valid YAML ({reason.problem or reason.context})") from reason
    except (yaml.YAMLError, ValueError) as reason:  # ValueError: a whole number of thousands of digits
        message = (str(reason).splitlines() or [type(reason).__name__])[0]
        raise error(f"{where}: not valid YAML ({message[:200]})") from reason


def _check_shape(text: str) -> None:
    """Raise yaml.YAMLError for text that is nested too deeply or has too many values, and for aliases and tags.

    Aliases can multiply the size of a value; tags create other types and raise errors of any kind.
    """
    depth = 0
    for count, event in enumerate(yaml.parse(text, Loader=yaml.SafeLoader)):
        if isinstance(event, (yaml.MappingStartEvent, yaml.SequenceStartEvent)):
            depth += 1
        elif isinstance(event, (yaml.MappingEndEvent, yaml.SequenceEndEvent)):
            depth -= 1
        problem = ""
        if isinstance(event, yaml.AliasEvent):
            problem = "aliases (*name) are not accepted"
        elif getattr(event, "tag", None) is not None:
            problem = f"tags ({event.tag[:60]}) are not accepted"
        elif depth > _DEEPEST:
            problem = f"nested deeper than {_DEEPEST} levels"
        elif count > _MOST_VALUES:
            problem = f"more than {_MOST_VALUES} values; this is no configuration"
        if problem:
            raise yaml.MarkedYAMLError(problem=problem, problem_mark=event.start_mark)


def read_yaml(path: str | os.PathLike, error: type[InputError]) -> dict[str, Any]:
    """The `key: value` pairs of the YAML file at `path`; an empty file gives none. Raises `error`."""
    where = os.fspath(Path(path))
    tree = parse_yaml(read_text(path, error, "give a YAML file", most=4 * _LARGEST), where, error)
    if tree is None:
        return {}
    if not isinstance(tree, dict):
        raise error(f"{where}: must hold 'key: value' lines, not a {type(tree).__name__}")
    return tree
