"""Ten more object classes: animals and plants. See `lib.synthetic.shapes`."""

from __future__ import annotations

import numpy as np
from numpy.random import Generator

from lib.synthetic.outlines import (
    ACCENT,
    DARK,
    LIGHT,
    SECOND,
    SKIN,
    Part,
    bar,
    both,
    ellipse,
    mirrored,
    polygon,
    rotated,
    smooth,
    star,
    tube,
)


def snail(vary: Generator) -> list[Part]:
    """Side view: a coiled shell on a long foot, two stalked eyes."""
    shell = vary.uniform(0.46, 0.56)
    angle = np.linspace(0, 4.2 * np.pi, 22)
    coil = np.stack((np.cos(angle), np.sin(angle)), 1) * (shell * 0.85 * (1 - angle / 15))[:, None] + (0.15, -0.1)
    return [
        Part(bar(-0.68, 0.1, -0.85, -0.4, 0.035), SECOND),
        Part(bar(-0.6, 0.1, -0.55, -0.42, 0.035), SECOND),
        Part(ellipse(-0.85, -0.42, 0.07, 0.07), DARK),
        Part(ellipse(-0.55, -0.44, 0.07, 0.07), DARK),
        Part(
            smooth((-0.9, 0.1), (-0.7, -0.05), (-0.45, 0.15), (0.2, 0.3), (1.1, 0.48), (0.3, 0.58), (-0.7, 0.56)),
            SECOND,
        ),
        Part(ellipse(0.15, -0.1, shell, shell), SKIN),
        Part(tube(coil, 0.045, 0.025), DARK),
    ]


def crab(vary: Generator) -> list[Part]:
    """From above: a wide shell, six legs, two raised claws, eyes on stalks."""
    wide, claw = vary.uniform(0.5, 0.6), vary.uniform(0.18, 0.23)
    pincer = smooth(
        (0.72, -0.45), (0.6, -0.75), (0.72, -0.98), (0.78, -0.72), (0.92, -0.95), (1.0, -0.68), (0.85, -0.45)
    )
    legs = [tube(((0.4, y), (0.8, y - 0.05), (1.0, y + 0.25)), 0.055, 0.025) for y in (0.0, 0.17, 0.34)]
    return [
        *(p for leg in legs for p in both(leg, SECOND)),
        *both(tube(((0.4, -0.1), (0.7, -0.2), (0.78, -0.5)), 0.08), SECOND),
        *both(pincer * (1, 1 + claw - 0.2), SKIN),
        *both(bar(0.15, -0.3, 0.18, -0.5, 0.035), SECOND),
        *both(ellipse(0.18, -0.53, 0.075, 0.075), DARK),
        Part(
            smooth((-wide, -0.1), (-0.3, -0.33), (0.3, -0.33), (wide, -0.1), (0.4, 0.35), (0, 0.45), (-0.4, 0.35)), SKIN
        ),
        Part(smooth((-0.25, 0.1), (0, 0.2), (0.25, 0.1), (0, 0.3)), DARK),
        *both(ellipse(0.25, -0.08, 0.08, 0.08), ACCENT),
    ]


def cat(vary: Generator) -> list[Part]:
    """A face: pointed ears, two eyes, nose, whiskers."""
    ear, wide = vary.uniform(0.9, 1.08), vary.uniform(0.75, 0.85)
    return [
        *both(polygon((0.25, -0.5), (0.72, -ear), (0.8, -0.2)), SKIN),
        *both(polygon((0.42, -0.5), (0.65, -ear + 0.2), (0.7, -0.35)), ACCENT),
        Part(smooth((0, -0.55), (0.6, -0.45), (wide, 0.1), (0.55, 0.6), (0, 0.75), (-0.55, 0.6), (-wide, 0.1),
                    (-0.6, -0.45)), SKIN),
        Part(smooth((0, 0.05), (0.32, 0.3), (0.25, 0.6), (0, 0.68), (-0.25, 0.6), (-0.32, 0.3)), SECOND),
        *both(ellipse(0.34, -0.08, 0.19, 0.15, -0.2), LIGHT),
        *both(ellipse(0.34, -0.08, 0.06, 0.15), DARK),
        Part(polygon((-0.1, 0.2), (0.1, 0.2), (0, 0.34)), DARK),
        *(Part(p, DARK) for y in (0.3, 0.45) for p in (bar(0.3, y, 0.95, y - 0.08, 0.02),
                                                      mirrored(bar(0.3, y, 0.95, y - 0.08, 0.02)))),
    ]  # fmt: skip


def rabbit(vary: Generator) -> list[Part]:
    """Sitting, from behind: long ears, round head, round body, a bobtail."""
    ear, lean = vary.uniform(0.42, 0.55), vary.uniform(0.05, 0.25)
    return [
        *both(rotated(ellipse(0.08, -0.35, 0.11, ear), lean) + (0.08, -0.5), SKIN),
        *both(rotated(ellipse(0.08, -0.35, 0.05, ear * 0.75), lean) + (0.08, -0.5), ACCENT),
        *both(ellipse(0.35, 0.8, 0.26, 0.14), SECOND),
        Part(smooth((0, -0.15), (0.35, 0.1), (0.5, 0.6), (0.3, 0.9), (0, 0.95), (-0.3, 0.9), (-0.5, 0.6), (-0.35, 0.1)),
             SKIN),
        Part(ellipse(0, -0.3, 0.33, 0.29), SKIN),
        *both(ellipse(0.14, -0.35, 0.05, 0.06), DARK),
        Part(ellipse(0, -0.22, 0.06, 0.04), ACCENT),
        Part(ellipse(0, 0.6, 0.2, 0.22), LIGHT),
    ]  # fmt: skip


def spider(vary: Generator) -> list[Part]:
    """From above: eight bent legs, a small head, a large abdomen with a cross."""
    abdomen = vary.uniform(0.34, 0.42)
    bends = ((-0.25, -0.75, -1.0), (-0.1, -0.4, -0.35), (0.0, 0.05, 0.4), (0.1, 0.4, 1.0))
    legs = [tube(((0.1, a - 0.15), (0.65, b), (0.95, c)), 0.05, 0.025) for a, b, c in bends]
    return [
        *(p for leg in legs for p in both(leg, DARK)),
        Part(ellipse(0, 0.32, abdomen, abdomen * 1.2), SKIN),
        Part(bar(0, 0.05, 0, 0.65, 0.06), ACCENT),
        Part(bar(-0.2, 0.25, 0.2, 0.25, 0.06), ACCENT),
        Part(ellipse(0, -0.25, 0.23, 0.24), SECOND),
        *both(ellipse(0.09, -0.36, 0.05, 0.05), LIGHT),
    ]


def giraffe(vary: Generator) -> list[Part]:
    """Side view: long neck, small head with horns, sloping back, four legs."""
    neck = vary.uniform(-1.05, -0.85)
    legs = ((-0.2, -0.04), (-0.06, 0.02), (0.32, 0.0), (0.45, 0.05))
    return [
        *(Part(bar(x, 0.25, x + lean, 1.02, 0.055), SECOND) for x, lean in legs),
        Part(tube(((0.5, 0.1), (0.62, 0.25), (0.6, 0.45)), 0.03), DARK),
        Part(smooth((-0.3, 0.2), (-0.38, 0.0), (-0.5, neck + 0.25), (-0.5, neck), (-0.3, neck), (-0.12, -0.2),
                    (0.3, -0.1), (0.53, 0.1), (0.5, 0.35), (0.1, 0.38), (-0.2, 0.4)), SKIN),
        Part(bar(-0.42, neck, -0.42, neck - 0.22, 0.03), DARK),
        Part(bar(-0.32, neck, -0.3, neck - 0.22, 0.03), DARK),
        Part(smooth((-0.3, neck - 0.08), (-0.5, neck - 0.1), (-0.85, neck + 0.06), (-0.83, neck + 0.17),
                    (-0.5, neck + 0.16), (-0.32, neck + 0.12)), SKIN),
        Part(ellipse(-0.5, neck, 0.04, 0.04), DARK),
    ]  # fmt: skip


def starfish(vary: Generator) -> list[Part]:
    """Five thick arms with rows of dots."""
    arm, waist = vary.uniform(0.95, 1.05), vary.uniform(0.36, 0.46)
    points = star(0, 0, arm, waist, 5)
    dots = [star(0, 0, r, 0.1, 5)[::2] for r in (0.3, 0.5, 0.68)]
    return [
        Part(smooth(*points), SKIN),
        *(Part(ellipse(x, y, 0.065, 0.065), ACCENT) for ring in dots for x, y in ring),
        Part(ellipse(0, 0, 0.13, 0.13), SECOND),
    ]


def snake(vary: Generator) -> list[Part]:
    """A wavy body that thins out to the tail, a head with a forked tongue."""
    bend = vary.uniform(0.38, 0.5)
    path = ((-0.85, -bend), (-0.45, -bend * 0.9), (-0.3, 0.1), (-0.05, bend), (0.3, bend * 0.6), (0.4, -bend * 0.7),
            (0.75, -bend), (1.02, -0.1))  # fmt: skip
    return [
        Part(bar(-1.0, -bend, -1.22, -bend - 0.05, 0.02), ACCENT),
        Part(bar(-1.15, -bend, -1.24, -bend + 0.06, 0.02), ACCENT),
        Part(tube(path, 0.17, 0.03), SKIN),
        Part(ellipse(-0.9, -bend, 0.22, 0.17), SECOND),
        Part(ellipse(-0.96, -bend - 0.08, 0.045, 0.045), DARK),
        Part(ellipse(-0.96, -bend + 0.08, 0.045, 0.045), DARK),
    ]


def mushroom(vary: Generator) -> list[Part]:
    """A domed cap with dots on a stout stem with a ring."""
    cap, stem = vary.uniform(0.85, 1.02), vary.uniform(0.18, 0.27)
    dots = ((-0.5, -0.3, 0.14), (0.05, -0.55, 0.16), (0.5, -0.25, 0.13), (-0.1, -0.18, 0.1), (-0.35, -0.62, 0.08))
    return [
        Part(
            smooth((-stem, 0.0), (-stem, 0.5), (-stem - 0.12, 0.95), (stem + 0.12, 0.95), (stem, 0.5), (stem, 0.0)),
            LIGHT,
        ),
        Part(
            smooth((-stem - 0.08, 0.28), (0, 0.22), (stem + 0.08, 0.28), (stem + 0.1, 0.42), (-stem - 0.1, 0.42)),
            SECOND,
        ),
        Part(smooth((-cap, 0.08), (-cap * 0.85, -0.45), (0, -0.95), (cap * 0.85, -0.45), (cap, 0.08), (0, 0.15)), SKIN),
        *(Part(ellipse(x, y, r, r * 0.85), LIGHT) for x, y, r in dots),
    ]


def cactus(vary: Generator) -> list[Part]:
    """A ribbed column with two raised arms in a pot, a flower on top."""
    left, right = vary.uniform(-0.2, 0.1), vary.uniform(-0.05, 0.25)
    return [
        Part(tube(((-0.1, left + 0.3), (-0.5, left + 0.28), (-0.58, left - 0.05), (-0.56, left - 0.4)), 0.13), SKIN),
        Part(tube(((0.1, right + 0.15), (0.48, right + 0.1), (0.55, right - 0.2), (0.53, right - 0.45)), 0.12), SKIN),
        Part(bar(0, -0.72, 0, 0.6, 0.24), SKIN),
        *(Part(bar(x, -0.75, x, 0.5, 0.018), DARK) for x in (-0.12, 0.0, 0.12)),
        Part(star(0, -0.98, 0.17, 0.08, 6), ACCENT),
        Part(polygon((-0.42, 0.55), (0.42, 0.55), (0.3, 1.05), (-0.3, 1.05)), SECOND),
        Part(polygon((-0.48, 0.5), (0.48, 0.5), (0.48, 0.65), (-0.48, 0.65)), SECOND),
    ]
