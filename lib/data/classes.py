"""Class lists: display names and annotation names (docs/rules.md, section 8)."""

from __future__ import annotations

import itertools
import os
import unicodedata
from collections import Counter
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from lib.errors import InputError
from lib.files import read_text


class ClassListError(InputError):
    """A class list that cannot be used; the message names the file and the line."""


@dataclass(frozen=True)
class Classes:
    """The foreground classes in label order: label 1 is `names[0]`; 0 is the background.

    names: display names. annotation_names: the `<name>` of an XML object, compared exactly.
    """

    names: tuple[str, ...]
    annotation_names: tuple[str, ...]

    def __post_init__(self) -> None:
        if not self.names or len(self.names) != len(self.annotation_names):
            raise ClassListError(
                f"a class list needs as many names as annotation names and at least one, "
                f"not {len(self.names)} and {len(self.annotation_names)}"
            )
        for what, values in (("name", self.names), ("annotation name", self.annotation_names)):
            repeated = [value for value, count in Counter(values).items() if count > 1]
            if repeated:
                raise ClassListError(f"{what} '{repeated[0]}' is given to more than one class")

    @property
    def num_classes(self) -> int:
        """Number of classes including the background."""
        return len(self.names) + 1

    @cached_property
    def labels(self) -> dict[str, int]:
        """Annotation name -> label, from 1."""
        return {name: label for label, name in enumerate(self.annotation_names, 1)}


def _preset(table: str) -> Classes:
    pairs = [entry.split() for entry in table.strip().splitlines()]
    return Classes(tuple(name for _, name in pairs), tuple(wordnet_id for wordnet_id, _ in pairs))


IMAGENET_VID = _preset("""
n02691156 airplane
n02419796 antelope
n02131653 bear
n02834778 bicycle
n01503061 bird
n02924116 bus
n02958343 car
n02402425 cattle
n02084071 dog
n02121808 domestic_cat
n02503517 elephant
n02118333 fox
n02510455 giant_panda
n02342885 hamster
n02374451 horse
n02129165 lion
n01674464 lizard
n02484322 monkey
n03790512 motorcycle
n02324045 rabbit
n02509815 red_panda
n02411705 sheep
n01726692 snake
n02355227 squirrel
n02129604 tiger
n04468005 train
n01662784 turtle
n04530566 watercraft
n02062744 whale
n02391049 zebra
""")


def load_classes(path: str | os.PathLike = "", dataset_path: str | os.PathLike = "") -> Classes:
    """The class list at `path`; with no path `<dataset_path>/classes.txt` if there is one, else ImageNet VID's 30.

    The file has one class a line, in label order: `annotation_name display_name`. Without a display name the
    annotation name serves as both; what follows a `#` is a comment. Raises ClassListError.
    """
    if path:
        return _read(Path(path))
    beside_the_data = Path(dataset_path) / "classes.txt"
    if dataset_path and beside_the_data.is_file():
        return _read(beside_the_data)
    return IMAGENET_VID


def require_same_classes(one: Classes, one_name: str, other: Classes, other_name: str) -> None:
    """Raise ClassListError, which names the first difference, unless both lists are the same.

    one_name, other_name: where they come from, for the message.
    """
    if one == other:
        return
    pairs = (list(zip(c.annotation_names, c.names, strict=True)) for c in (one, other))
    for label, (a, b) in enumerate(itertools.zip_longest(*pairs), 1):
        if a != b:
            first, second = ("no such class" if c is None else f"'{c[1]}' (annotated as '{c[0]}')" for c in (a, b))
            raise ClassListError(
                f"class {label} is {first} in {one_name}, and {second} in {other_name}: the lists must be the same; "
                "give the data set that the weights were trained on, or train on these classes "
                "(network.pretrained_model)"
            )


def _read(path: Path) -> Classes:
    lines = read_text(path, ClassListError, "give a class list, one class a line").split("\n")
    annotation_names: dict[str, int] = {}  # name -> line number
    names: dict[str, int] = {}
    for number, line in enumerate(lines, 1):
        fields = line.partition("#")[0].split(None, 1)
        if not fields:
            continue
        annotation_name, name = fields[0], fields[-1].strip()
        if any(unicodedata.category(character) == "Cc" for character in name):
            raise ClassListError(
                f"{path}:{number}: {name[:100]!r} has a control character, which no class name can have"
            )
        for what, known, value in (("annotation name", annotation_names, annotation_name), ("name", names, name)):
            if value in known:
                raise ClassListError(f"{path}:{number}: {what} '{value}' was already given in line {known[value]}")
            known[value] = number
    if not names:
        raise ClassListError(f"{path}: no class in it; write one class a line: annotation_name display_name")
    return Classes(tuple(names), tuple(annotation_names))
