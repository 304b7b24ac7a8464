"""The object classes: display name, annotation name, and the function that draws one individual."""

from __future__ import annotations

from collections.abc import Callable

from numpy.random import Generator

from lib.synthetic import shapes, shapes_animals, shapes_things
from lib.synthetic.outlines import Part

Drawing = Callable[[Generator], list[Part]]

DRAWINGS: tuple[Drawing, ...] = (
    shapes.airplane,
    shapes.balloon,
    shapes.butterfly,
    shapes.car,
    shapes.duck,
    shapes.fish,
    shapes.octopus,
    shapes.rocket,
    shapes.sailboat,
    shapes.turtle,
    shapes_animals.cactus,
    shapes_animals.cat,
    shapes_animals.crab,
    shapes_animals.giraffe,
    shapes_animals.mushroom,
    shapes_animals.rabbit,
    shapes_animals.snail,
    shapes_animals.snake,
    shapes_animals.spider,
    shapes_animals.starfish,
    shapes_things.anchor,
    shapes_things.bicycle,
    shapes_things.guitar,
    shapes_things.helicopter,
    shapes_things.key,
    shapes_things.locomotive,
    shapes_things.robot,
    shapes_things.teapot,
    shapes_things.umbrella,
    shapes_things.windmill,
)


def class_names(count: int) -> list[str]:
    """Display names of the first `count` classes, in label order (label 1 first)."""
    return [drawing.__name__ for drawing in DRAWINGS[:count]]


def annotation_name(label: int) -> str:
    """The name that stands in annotation files for a label (from 1): made like a WordNet id, but outside WordNet."""
    return f"n{99000000 + label}"
