"""The ten default object classes: drawings that differ in silhouette and structure.

Each function draws one individual: `vary` is its random generator, so that no two have the same proportions. The list
of all thirty classes is `lib.synthetic.catalogue`.
"""

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
    polygon,
    sector,
    smooth,
    tube,
)


def fish(vary: Generator) -> list[Part]:
    """Side view: a lens of a body, forked tail, fins above and below, one eye."""
    height, fork = vary.uniform(0.42, 0.58), vary.uniform(0.35, 0.5)
    h = height
    return [
        Part(polygon((0.5, 0), (1.05, -fork), (0.92, 0), (1.05, fork)), SECOND),
        Part(smooth((-0.35, -h * 0.8), (0.0, -h * 1.5), (0.4, -h * 1.1), (0.3, -h * 0.5)), SECOND),
        Part(smooth((-0.1, h * 0.8), (0.15, h * 1.35), (0.3, h * 0.6)), SECOND),
        Part(smooth((-1, 0), (-0.6, -h * 0.75), (-0.1, -h), (0.4, -h * 0.5), (0.75, 0), (0.4, h * 0.5), (-0.1, h),
                    (-0.6, h * 0.75)), SKIN),
        Part(smooth((-0.45, -h * 0.75), (-0.3, 0), (-0.45, h * 0.75), (-0.52, h * 0.7), (-0.42, 0), (-0.52, -h * 0.7)),
             DARK),
        Part(smooth((-0.2, 0.05), (0.15, 0.0), (0.25, 0.22), (0.0, 0.25)), ACCENT),
        Part(ellipse(-0.68, -0.12, 0.11, 0.11), LIGHT),
        Part(ellipse(-0.7, -0.12, 0.05, 0.05), DARK),
    ]  # fmt: skip


def butterfly(vary: Generator) -> list[Part]:
    """From above: two pairs of round wings with eye spots, a thin body, antennae."""
    span, low = vary.uniform(0.9, 1.1), vary.uniform(0.55, 0.75)
    upper = smooth((0.04, -0.1), (0.35, -0.75), (0.8 * span, -0.9), (span, -0.6), (0.85 * span, -0.15), (0.4, 0.05))
    lower = smooth((0.04, 0.0), (0.5, 0.0), (0.8 * span, 0.25), (0.7 * span, low), (0.35, 0.8), (0.12, 0.4))
    return [
        *both(tube(((0.03, -0.45), (0.12, -0.8), (0.3, -0.98)), 0.03), DARK),
        *both(upper, SKIN),
        *both(lower, SECOND),
        *both(ellipse(0.66 * span, -0.52, 0.17, 0.17), ACCENT),
        *both(ellipse(0.66 * span, -0.52, 0.07, 0.07), DARK),
        *both(ellipse(0.5 * span, 0.42, 0.12, 0.12), LIGHT),
        Part(ellipse(0, 0.0, 0.09, 0.55), DARK),
    ]


def turtle(vary: Generator) -> list[Part]:
    """From above: an oval shell with plates, four flippers, a head, a small tail."""
    long, wide, reach = vary.uniform(0.62, 0.75), vary.uniform(0.5, 0.62), vary.uniform(0.85, 1.0)
    front = smooth((0.25, -0.45), (0.6, -0.75), (reach, -0.6), (reach + 0.02, -0.4), (0.6, -0.4), (0.4, -0.2))
    back = smooth((0.25, 0.45), (0.45, 0.8), (0.7, 0.95), (0.78, 0.8), (0.55, 0.45))
    plates = [ellipse(0.0, -0.32, 0.16, 0.14), ellipse(0.0, 0.02, 0.19, 0.15), ellipse(0.0, 0.36, 0.16, 0.14)]
    return [
        Part(polygon((-0.1, 0.5), (0, 0.98), (0.1, 0.5)), SECOND),
        *both(front, SECOND),
        *both(back, SECOND),
        Part(smooth((-0.15, -0.6), (-0.19, -0.9), (0, -1.08), (0.19, -0.9), (0.15, -0.6)), SECOND),
        *both(ellipse(0.09, -0.93, 0.04, 0.05), DARK),
        Part(ellipse(0, 0.02, wide, long), DARK),
        Part(ellipse(0, 0.02, wide - 0.07, long - 0.07), SKIN),
        *(Part(p, ACCENT) for p in plates),
        *both(ellipse(0.3, -0.16, 0.1, 0.15, 0.3), ACCENT),
        *both(ellipse(0.3, 0.22, 0.1, 0.15, -0.3), ACCENT),
    ]


def rocket(vary: Generator) -> list[Part]:
    """Upright: pointed body, round window, two swept fins, a flame."""
    w, flame = vary.uniform(0.26, 0.36), vary.uniform(1.0, 1.3)
    fin = polygon((w * 0.8, 0.15), (w + 0.42, 0.7), (w + 0.38, 0.95), (w * 0.8, 0.65))
    return [
        Part(smooth((-w * 0.6, 0.65), (-w * 0.5, 0.95), (0, flame), (w * 0.5, 0.95), (w * 0.6, 0.65)), ACCENT),
        Part(smooth((-w * 0.3, 0.65), (0, flame - 0.22), (w * 0.3, 0.65)), LIGHT),
        *both(fin, SECOND),
        Part(smooth((0, -1.1), (w * 0.75, -0.6), (w, 0), (w * 0.8, 0.7), (0, 0.74), (-w * 0.8, 0.7), (-w, 0),
                    (-w * 0.75, -0.6)), SKIN),
        Part(smooth((0, -1.1), (w * 0.55, -0.75), (w * 0.72, -0.58), (0, -0.5), (-w * 0.72, -0.58), (-w * 0.55, -0.75)),
             SECOND),
        Part(ellipse(0, -0.16, w * 0.62, w * 0.62), DARK),
        Part(ellipse(0, -0.16, w * 0.45, w * 0.45), LIGHT),
        Part(bar(0, 0.3, 0, 0.85, 0.045), DARK),
    ]  # fmt: skip


def sailboat(vary: Generator) -> list[Part]:
    """Side view: a hull, a mast, a large and a small triangular sail, a pennant."""
    mast, deep = vary.uniform(-0.15, 0.1), vary.uniform(0.3, 0.42)
    return [
        Part(bar(mast, -1.05, mast, 0.45, 0.035), DARK),
        Part(polygon((mast + 0.03, -1.1), (mast + 0.36, -1.0), (mast + 0.03, -0.9)), ACCENT),
        Part(smooth((mast + 0.06, -0.88), (mast + 0.4, -0.4), (0.85, 0.28), (0.4, 0.34), (mast + 0.06, 0.33)), SKIN),
        Part(polygon((mast - 0.07, -0.78), (-0.8, 0.3), (mast - 0.07, 0.3)), LIGHT),
        Part(bar(mast + 0.08, -0.2, 0.55, -0.04, 0.03), DARK),
        Part(polygon((-1, 0.42), (1.02, 0.42), (0.72, 0.42 + deep), (-0.7, 0.42 + deep)), SECOND),
        Part(polygon((-0.98, 0.45), (1.0, 0.45), (0.95, 0.55), (-0.93, 0.55)), LIGHT),
    ]


def car(vary: Generator) -> list[Part]:
    """Side view: low body with bonnet and cabin, two windows, two wheels, a lamp."""
    roof, front, wheel = vary.uniform(-0.5, -0.36), vary.uniform(-0.45, -0.25), vary.uniform(0.2, 0.26)
    body = smooth((-1, 0.25), (-1.02, 0.02), (-0.7, -0.1), (front - 0.08, -0.12),
                  (front + 0.2, roof), (0.1, roof - 0.06), (0.5, roof + 0.02), (0.8, -0.1),
                  (1.0, -0.02), (1.03, 0.28), (0.5, 0.33), (-0.5, 0.33))  # fmt: skip
    return [
        Part(body, SKIN),
        Part(polygon((-1.0, 0.16), (1.02, 0.16), (1.0, 0.25), (-0.98, 0.25)), SECOND),
        Part(polygon((front + 0.03, -0.11), (front + 0.25, roof + 0.09), (0.08, roof + 0.06), (0.08, -0.11)), LIGHT),
        Part(polygon((0.15, -0.11), (0.15, roof + 0.06), (0.46, roof + 0.1), (0.68, -0.11)), LIGHT),
        Part(ellipse(-0.93, 0.05, 0.07, 0.08), ACCENT),
        *(Part(ellipse(x, 0.33, wheel, wheel), DARK) for x in (-0.56, 0.56)),
        *(Part(ellipse(x, 0.33, wheel * 0.5, wheel * 0.5), LIGHT) for x in (-0.56, 0.56)),
    ]


def duck(vary: Generator) -> list[Part]:
    """Side view: round body with raised tail, neck and head, flat beak, wing, two legs."""
    head, tail = vary.uniform(0.25, 0.31), vary.uniform(-0.35, -0.15)
    return [
        Part(bar(-0.05, 0.6, -0.1, 0.95, 0.045), ACCENT),
        Part(bar(0.2, 0.6, 0.25, 0.95, 0.045), ACCENT),
        Part(bar(-0.27, 0.98, -0.06, 0.96, 0.05), ACCENT),
        Part(bar(0.08, 0.98, 0.29, 0.96, 0.05), ACCENT),
        Part(smooth((-0.72, -0.62), (-1.1, -0.55), (-1.08, -0.42), (-0.72, -0.4)), ACCENT),
        Part(smooth((-0.6, -0.3), (-0.3, -0.35), (-0.15, -0.02), (0.4, -0.05), (1.0, tail), (0.85, 0.35), (0.45, 0.66),
                    (-0.2, 0.68), (-0.62, 0.35), (-0.68, 0.0)), SKIN),
        Part(ellipse(-0.5, -0.55, head + 0.03, head), SECOND),
        Part(smooth((-0.72, -0.3), (-0.5, -0.24), (-0.25, -0.32), (-0.22, -0.22), (-0.5, -0.12), (-0.72, -0.18)),
             LIGHT),
        Part(smooth((-0.2, 0.1), (0.35, 0.05), (0.75, 0.12), (0.4, 0.42), (0.0, 0.42)), SECOND),
        Part(ellipse(-0.58, -0.62, 0.06, 0.06), DARK),
    ]  # fmt: skip


def balloon(vary: Generator) -> list[Part]:
    """A hot-air balloon: round envelope in gores, ropes, a basket."""
    wide, drop = vary.uniform(0.66, 0.8), vary.uniform(0.3, 0.42)
    envelope = [(0, -1.1), (wide * 0.75, -0.85), (wide, -0.35), (wide * 0.75, 0.1), (0.2, drop + 0.08)]
    outline = [*envelope, *((-x, y) for x, y in reversed(envelope[1:]))]
    middle = smooth(*((x * 0.4, y) for x, y in outline))
    return [
        *both(bar(0.17, drop, 0.13, 0.8, 0.025), DARK),
        Part(smooth(*outline), SKIN),
        Part(smooth(*((x * 0.75, y) for x, y in outline)), SECOND),
        Part(middle, SKIN),
        Part(smooth((-wide, -0.36), (0, -0.25), (wide, -0.36), (wide * 0.98, -0.2), (0, -0.08), (-wide * 0.98, -0.2)),
             ACCENT),
        Part(polygon((-0.19, 0.76), (0.19, 0.76), (0.15, 1.08), (-0.15, 1.08)), DARK),
        Part(polygon((-0.19, 0.76), (0.19, 0.76), (0.18, 0.84), (-0.18, 0.84)), LIGHT),
    ]  # fmt: skip


def airplane(vary: Generator) -> list[Part]:
    """From above: slim fuselage, swept wings with engines, tail plane."""
    span, sweep, w = vary.uniform(0.9, 1.08), vary.uniform(0.2, 0.45), vary.uniform(0.11, 0.15)
    wing = polygon((0.05, -0.22), (span, sweep), (span, sweep + 0.16), (0.05, 0.2))
    return [
        *both(wing, SECOND),
        *both(polygon((0.65 * span, 0.65 * sweep - 0.05), (span, sweep), (span, sweep + 0.16),
                      (0.65 * span, 0.65 * sweep + 0.2)), ACCENT),
        *both(ellipse(0.42, -0.0, 0.075, 0.19), DARK),
        *both(polygon((0.03, 0.68), (0.42, 0.9), (0.42, 1.02), (0.03, 0.92)), SECOND),
        Part(smooth((0, -1.08), (w, -0.8), (w, 0.3), (0.05, 1.02), (-0.05, 1.02), (-w, 0.3), (-w, -0.8)), SKIN),
        Part(smooth((0, -0.98), (w * 0.6, -0.82), (0, -0.72), (-w * 0.6, -0.82)), DARK),
        Part(bar(0, 0.6, 0, 0.95, 0.04), ACCENT),
    ]  # fmt: skip


def octopus(vary: Generator) -> list[Part]:
    """A domed head with two eyes and six curling arms with spots."""
    arms, curl = [], vary.uniform(0.12, 0.25)
    for side in np.linspace(-1, 1, 6):
        wave = curl * (1 if vary.random() < 0.5 else -1)
        path = ((side * 0.35, 0.0), (side * 0.6, 0.4), (side * 0.72 + wave, 0.72), (side * 0.95 - wave * 0.5, 1.0))
        arms.append(Part(tube(path, 0.13, 0.05), SECOND))
    head = vary.uniform(0.5, 0.6)
    return [
        *arms,
        Part(smooth((-head, -0.45), (-0.4, -0.95), (0.0, -1.08), (0.4, -0.95), (head, -0.45), (0.42, 0.1), (0, 0.22),
                    (-0.42, 0.1)), SKIN),
        *both(ellipse(0.2, -0.2, 0.14, 0.17), LIGHT),
        *both(ellipse(0.17, -0.17, 0.07, 0.09), DARK),
        Part(sector(0, 0.02, 0.12, 0.2, np.pi - 0.2), DARK),
        Part(ellipse(-0.2, -0.75, 0.09, 0.07), ACCENT),
        Part(ellipse(0.22, -0.68, 0.07, 0.06), ACCENT),
    ]  # fmt: skip
