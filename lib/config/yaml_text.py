"""Read YAML that a user gives: plain values only, no key twice, bounded in size and depth."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import yaml

from lib.errors import InputError
from lib.files import read_text

_LARGEST = 1 << 20  # characters
_DEEPEST = 20
_MOST_NODES = 20_000


class _PlainLoader(yaml.SafeLoader):
    """`yaml.SafeLoader` without dates, and with an error for a key that a mapping has twice."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict:
        seen: dict[Any, int] = {}
        for key_node, _ in node.value:
            if not isinstance(key_node, yaml.ScalarNode):
                raise yaml.constructor.ConstructorError(
                    problem="a key must be a word", problem_mark=key_node.start_mark
                )
            first = seen.setdefault(key_node.value, key_node.start_mark.line + 1)
            if first != key_node.start_mark.line + 1:
                raise yaml.constructor.ConstructorError(
                    problem=f"'{key_node.value}' was already given in line {first}", problem_mark=key_node.start_mark
                )
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
    except (yaml.YAMLError, ValueError, OverflowError, RecursionError, AttributeError, TypeError) as reason:
        # Explicit tags such as `!!int abc` and numbers of thousands of digits raise what they like
        message = (str(reason).splitlines() or [type(reason).__name__])[0]
        raise error(f"{where}: not valid YAML ({message[:200]})") from reason


def _check_shape(text: str) -> None:
    """Raise yaml.YAMLError for text too deep or too large, and for aliases, which multiply what they point to."""
    depth = 0
    for nodes, event in enumerate(yaml.parse(text, Loader=yaml.SafeLoader)):
        if isinstance(event, (yaml.MappingStartEvent, yaml.SequenceStartEvent)):
            depth += 1
        elif isinstance(event, (yaml.MappingEndEvent, yaml.SequenceEndEvent)):
            depth -= 1
        problem = ""
        if isinstance(event, yaml.AliasEvent):
            problem = "aliases (*name) are not accepted"
        elif depth > _DEEPEST:
            problem = f"nested deeper than {_DEEPEST} levels"
        elif nodes > _MOST_NODES:
            problem = f"more than {_MOST_NODES} values"
        if problem:
            raise yaml.MarkedYAMLError(problem=problem, problem_mark=event.start_mark)


def read_yaml(path: str | os.PathLike, error: type[InputError]) -> dict[str, Any]:
    """The `key: value` pairs of the YAML file at `path`; an empty file gives none. Raises `error`."""
    tree = parse_yaml(read_text(path, error, "give a YAML file"), os.fspath(Path(path)), error)
    if tree is None:
        return {}
    if not isinstance(tree, dict):
        raise error(f"{path}: must hold 'key: value' lines, not a {type(tree).__name__}")
    return tree
