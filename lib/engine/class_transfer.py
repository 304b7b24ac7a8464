"""Copy the weights of the class layer from one class list to another, class by class, matched by name."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from lib.data.classes import IMAGENET_VID, Classes

_BACKGROUND = (0, 0)


@dataclass(frozen=True)
class ClassMatch:
    """Which classes of a model are copied from which classes of a file, as labels; 0 is the background of both.

    pairs: (label in the model, label in the file), the background first. new: names of the model's classes that keep
    their initial weights. unused: names of the file's classes that are not copied. assumption: what was assumed about a
    file without class names.
    """

    pairs: tuple[tuple[int, int], ...]
    new: tuple[str, ...] = ()
    unused: tuple[str, ...] = ()
    assumption: str = ""

    def describe(self, own: Classes) -> str:
        """What is copied, new and unused, for the log; `own` are the model's classes."""
        copied = ["background", *(own.names[label - 1] for label, _ in self.pairs[1:])]
        parts = (("copied", copied), ("new", self.new), ("not used of the file", self.unused))
        return "; ".join(f"{what}: {', '.join(names) or '-'}" for what, names in parts)


def match_classes(own: Classes, theirs: Classes | None, their_count: int) -> ClassMatch:
    """Match the classes of a model, `own`, with those of a file, by display name, else by annotation name.

    theirs: the file's classes, None if it does not name them. In that case their_count, the number of classes with the
    background, decides: 31 are assumed to be ImageNet VID's, as many as `own` has to be the same ones; for any other
    number only the background is matched.
    """
    if theirs is not None:
        return _by_name(own, theirs, "")
    if their_count == IMAGENET_VID.num_classes:
        return _by_name(own, IMAGENET_VID, "it does not name its classes: 30 are taken for ImageNet VID's")
    if their_count == own.num_classes:
        pairs = tuple((label, label) for label in range(own.num_classes))
        return ClassMatch(
            pairs, assumption="it does not name its classes: as many as here, they are taken for the same"
        )
    unused = tuple(f"class {label}" for label in range(1, their_count))
    assumption = "it does not name its classes, and their number is neither ImageNet VID's nor that of the classes here"
    return ClassMatch((_BACKGROUND,), own.names, unused, assumption)


def _by_name(own: Classes, theirs: Classes, assumption: str) -> ClassMatch:
    found: dict[int, int] = {}  # label here -> label in the file
    for ours, others in ((own.names, theirs.names), (own.annotation_names, theirs.annotation_names)):
        labels = {name: label for label, name in enumerate(others, 1)}
        for label, name in enumerate(ours, 1):
            if label not in found and name in labels and labels[name] not in found.values():
                found[label] = labels[name]
    return ClassMatch(
        (_BACKGROUND, *sorted(found.items())),
        tuple(name for label, name in enumerate(own.names, 1) if label not in found),
        tuple(name for label, name in enumerate(theirs.names, 1) if label not in found.values()),
        assumption,
    )


def copy_classes(initial: Tensor, theirs: Tensor, match: ClassMatch, bins: int) -> Tensor:
    """A weight or bias of the class layer: the file's values for matched classes, those of `initial` for the others.

    initial: (K * bins, ...), theirs: (their K * bins, ...); the channels of a class follow one another: channel
    (c * 7 + i) * 7 + j is bin (i, j) of class c. Returns a new tensor like `initial`.
    """
    here, there = torch.tensor(match.pairs).unbind(1)
    copied, given = initial.clone().unflatten(0, (-1, bins)), theirs.unflatten(0, (-1, bins))  # (K, bins, ...) each
    copied[here] = given[there].to(copied.dtype)
    return copied.flatten(0, 1)
