"""Ten more object classes: things. See `lib.synthetic.shapes`."""

from __future__ import annotations

import numpy as np
from numpy.random import Generator

from lib.synthetic.outlines import (
    ACCENT,
    DARK,
    HOLE,
    LIGHT,
    SECOND,
    SKIN,
    Part,
    bar,
    both,
    ellipse,
    polygon,
    rotated,
    sector,
    smooth,
    tube,
)


def umbrella(vary: Generator) -> list[Part]:
    """An open canopy in gores with a scalloped edge, a shaft with a hook."""
    rise = vary.uniform(0.75, 0.95)
    rim = [(x, 0.0 if i % 2 == 0 else -0.12) for i, x in enumerate(np.linspace(1, -1, 9))]
    dome = [(np.cos(a), -rise * np.sin(a)) for a in np.linspace(np.pi, 0, 20)[1:-1]]
    gore = [(0.36 * x, y) for x, y in dome] + [(0.36, 0.0), (-0.36, 0.0)]
    return [
        Part(tube(((0, -0.4), (0, 0.4), (0.0, 0.85), (0.12, 1.0), (0.26, 0.85)), 0.045), DARK),
        Part(bar(0, -rise - 0.02, 0, -rise - 0.15, 0.04), DARK),
        Part(polygon(*dome, *rim), SKIN),
        Part(polygon(*gore), SECOND),
    ]


def helicopter(vary: Generator) -> list[Part]:
    """Side view: bubble cabin, tail boom with rotor, main rotor on top, skids."""
    blade, boom = vary.uniform(0.85, 1.0), vary.uniform(-0.1, 0.02)
    return [
        Part(bar(-0.5, 0.62, 0.35, 0.62, 0.035), DARK),
        *(Part(bar(x, 0.3, x, 0.6, 0.03), DARK) for x in (-0.3, 0.1)),
        Part(polygon((0.1, -0.15), (1.1, boom - 0.05), (1.1, boom + 0.06), (0.2, 0.25)), SECOND),
        Part(polygon((0.95, boom), (1.12, boom - 0.42), (1.22, boom - 0.42), (1.15, boom + 0.05)), SKIN),
        Part(ellipse(1.1, boom, 0.06, 0.25, 0.4), DARK),
        Part(
            smooth((-0.75, 0.15), (-0.6, -0.2), (-0.2, -0.4), (0.25, -0.3), (0.4, 0.1), (0.15, 0.42), (-0.5, 0.42)),
            SKIN,
        ),
        Part(smooth((-0.72, 0.12), (-0.58, -0.17), (-0.25, -0.28), (-0.25, 0.12)), LIGHT),
        Part(bar(-0.05, -0.35, -0.05, -0.6, 0.045), DARK),
        Part(polygon((-0.05 - blade, -0.63), (-0.05, -0.68), (blade - 0.05, -0.63), (-0.05, -0.56)), ACCENT),
    ]


def locomotive(vary: Generator) -> list[Part]:
    """Side view: boiler with chimney, driver's cab, three wheels, cow-catcher."""
    chimney, cab = vary.uniform(-0.85, -0.65), vary.uniform(-0.7, -0.55)
    return [
        Part(polygon((-0.72, -0.3), (-0.78, chimney), (-0.42, chimney), (-0.48, -0.3)), DARK),
        Part(ellipse(-0.05, -0.32, 0.14, 0.14), ACCENT),
        Part(smooth((-0.95, -0.3), (0.3, -0.33), (0.3, 0.3), (-0.95, 0.28)), SKIN),
        Part(polygon((0.25, cab), (0.95, cab), (0.95, 0.35), (0.25, 0.35)), SECOND),
        Part(polygon((0.15, cab - 0.12), (1.05, cab - 0.12), (1.05, cab + 0.02), (0.15, cab + 0.02)), DARK),
        Part(polygon((0.42, cab + 0.15), (0.78, cab + 0.15), (0.78, -0.08), (0.42, -0.08)), LIGHT),
        Part(polygon((-0.95, 0.25), (0.98, 0.25), (0.98, 0.42), (-0.95, 0.42)), DARK),
        Part(polygon((-0.9, 0.3), (-1.15, 0.72), (-0.75, 0.72)), ACCENT),
        *(Part(ellipse(x, 0.52, 0.23, 0.23), DARK) for x in (-0.5, 0.05, 0.62)),
        *(Part(ellipse(x, 0.52, 0.13, 0.13), LIGHT) for x in (-0.5, 0.05, 0.62)),
    ]


def bicycle(vary: Generator) -> list[Part]:
    """Side view: two open wheels with spokes, a diamond frame, saddle and handlebar."""
    r = vary.uniform(0.38, 0.44)
    wheels = [(-0.6, 0.35), (0.6, 0.35)]
    spokes = [rotated(bar(-r, 0, r, 0, 0.02), k * np.pi / 3) for k in range(3)]
    frame = [(-0.6, 0.35, -0.35, -0.3), (-0.35, -0.3, 0.38, -0.25), (-0.35, -0.3, -0.02, 0.38),
             (-0.02, 0.38, 0.38, -0.25), (-0.6, 0.35, -0.02, 0.38), (0.6, 0.35, 0.36, -0.5)]  # fmt: skip
    return [
        *(Part(ellipse(x, y, r, r), SECOND) for x, y in wheels),
        *(Part(ellipse(x, y, r - 0.09, r - 0.09), HOLE) for x, y in wheels),
        *(Part(spoke + wheel, DARK) for wheel in wheels for spoke in spokes),
        *(Part(bar(*ends, 0.05), SKIN) for ends in frame),
        Part(smooth((-0.55, -0.42), (-0.2, -0.4), (-0.2, -0.32), (-0.5, -0.28)), DARK),
        Part(tube(((0.18, -0.58), (0.36, -0.52), (0.5, -0.6)), 0.045), DARK),
        Part(ellipse(-0.02, 0.38, 0.12, 0.12), ACCENT),
    ]


def guitar(vary: Generator) -> list[Part]:
    """Upright: a waisted body with a sound hole, long neck with frets, a head with pegs."""
    low, waist = vary.uniform(0.46, 0.55), vary.uniform(0.24, 0.31)
    return [
        *(Part(bar(-0.16, y, 0.16, y, 0.03), DARK) for y in (-0.98, -0.86)),
        Part(polygon((-0.06, -0.85), (0.06, -0.85), (0.07, 0.2), (-0.07, 0.2)), DARK),
        *(Part(bar(-0.05, y, 0.05, y, 0.012), LIGHT) for y in np.linspace(-0.7, -0.15, 5)),
        Part(polygon((-0.1, -1.08), (0.1, -1.08), (0.08, -0.78), (-0.08, -0.78)), SECOND),
        Part(smooth((0, -0.12), (0.34, -0.05), (waist, 0.22), (low, 0.6), (0.3, 0.95), (0, 1.0), (-0.3, 0.95),
                    (-low, 0.6), (-waist, 0.22), (-0.34, -0.05)), SKIN),
        Part(ellipse(0, 0.25, 0.15, 0.15), DARK),
        Part(bar(-0.2, 0.65, 0.2, 0.65, 0.045), ACCENT),
    ]  # fmt: skip


def teapot(vary: Generator) -> list[Part]:
    """Side view: round body, curved spout, ring handle, a lid with a knob."""
    wide, spout = vary.uniform(0.55, 0.64), vary.uniform(-0.5, -0.3)
    return [
        Part(ellipse(0.68, 0.05, 0.36, 0.36), SECOND),
        Part(ellipse(0.68, 0.05, 0.22, 0.22), HOLE),
        Part(polygon((-0.4, 0.0), (-0.75, -0.05), (-0.95, spout), (-1.15, spout), (-0.85, 0.3), (-0.4, 0.45)), SECOND),
        Part(ellipse(0, 0.12, wide, 0.52), SKIN),
        Part(smooth((-0.38, -0.3), (0, -0.5), (0.38, -0.3), (0, -0.22)), SECOND),
        Part(ellipse(0, -0.55, 0.11, 0.1), ACCENT),
        Part(polygon((-0.35, 0.56), (0.35, 0.56), (0.4, 0.68), (-0.4, 0.68)), DARK),
        Part(smooth((-0.4, 0.12), (0, 0.25), (0.4, 0.12), (0.4, 0.25), (0, 0.4), (-0.4, 0.25)), ACCENT),
    ]


def key(vary: Generator) -> list[Part]:
    """A ring with a hole, a shaft, a bit with teeth."""
    ring, teeth = vary.uniform(0.36, 0.44), vary.uniform(0.25, 0.36)
    return [
        Part(bar(-0.4, 0, 1.0, 0, 0.09), SECOND),
        Part(polygon((0.6, 0), (0.7, 0), (0.7, teeth), (0.6, teeth)), SECOND),
        Part(polygon((0.78, 0), (1.0, 0), (1.0, teeth + 0.1), (0.78, teeth + 0.1)), SECOND),
        Part(polygon((-0.2, -0.14), (-0.1, -0.14), (-0.1, 0.14), (-0.2, 0.14)), DARK),
        Part(ellipse(-0.62, 0, ring, ring * 0.95), SKIN),
        Part(ellipse(-0.7, 0, ring * 0.45, ring * 0.45), HOLE),
    ]


def anchor(vary: Generator) -> list[Part]:
    """A ring, a cross bar, a shaft, two curved arms with flukes."""
    arm, bar_at = vary.uniform(0.75, 0.9), vary.uniform(-0.5, -0.38)
    fluke = polygon((arm + 0.14, 0.1), (arm + 0.18, 0.55), (arm - 0.3, 0.38))
    return [
        Part(ellipse(0, -0.85, 0.22, 0.22), SECOND),
        Part(ellipse(0, -0.85, 0.11, 0.11), HOLE),
        *both(tube(((0, 0.85), (0.45, 0.75), (arm, 0.3)), 0.13, 0.09), SKIN),
        *both(fluke, SECOND),
        Part(bar(0, -0.6, 0, 0.85, 0.12), SKIN),
        Part(bar(-0.5, bar_at, 0.5, bar_at, 0.09), SECOND),
        *both(ellipse(0.5, bar_at, 0.12, 0.12), ACCENT),
    ]


def windmill(vary: Generator) -> list[Part]:
    """A tapering tower with a cap and door, four lattice sails."""
    turn = vary.uniform(0, np.pi / 2)
    sail = polygon((0.02, -0.06), (0.85, -0.06), (0.85, 0.2), (0.2, 0.2), (0.2, 0.04), (0.02, 0.04))
    lattice = [bar(x, -0.05, x, 0.18, 0.02) for x in (0.35, 0.52, 0.69)]
    hub = np.array((0.0, -0.4))
    return [
        Part(polygon((-0.25, -0.35), (0.25, -0.35), (0.42, 1.05), (-0.42, 1.05)), SKIN),
        Part(smooth((-0.32, -0.3), (-0.2, -0.6), (0, -0.7), (0.2, -0.6), (0.32, -0.3)), SECOND),
        Part(polygon((-0.1, 0.7), (0.1, 0.7), (0.1, 1.04), (-0.1, 1.04)), DARK),
        Part(ellipse(0, 0.25, 0.09, 0.1), LIGHT),
        *(Part(rotated(sail, turn + k * np.pi / 2) + hub, LIGHT) for k in range(4)),
        *(Part(rotated(rib, turn + k * np.pi / 2) + hub, DARK) for k in range(4) for rib in lattice),
        Part(ellipse(*hub, 0.1, 0.1), ACCENT),
    ]


def robot(vary: Generator) -> list[Part]:
    """Upright: square head with an antenna, box body with a dial, jointed arms and legs."""
    wide, hand = vary.uniform(0.38, 0.46), vary.uniform(-0.1, 0.4)
    return [
        Part(bar(0, -0.7, 0, -0.98, 0.03), DARK),
        Part(ellipse(0, -1.02, 0.08, 0.08), ACCENT),
        *both(tube(((wide, -0.15), (wide + 0.25, 0.05), (wide + 0.3, hand)), 0.08), SECOND),
        *both(ellipse(wide + 0.3, hand, 0.13, 0.13), ACCENT),
        *both(polygon((0.1, 0.5), (0.28, 0.5), (0.28, 0.95), (0.1, 0.95)), SECOND),
        *both(polygon((0.06, 0.9), (0.4, 0.9), (0.4, 1.05), (0.06, 1.05)), DARK),
        Part(polygon((-0.34, -0.75), (0.34, -0.75), (0.34, -0.28), (-0.34, -0.28)), SECOND),
        Part(polygon((-wide, -0.25), (wide, -0.25), (wide, 0.55), (-wide, 0.55)), SKIN),
        *both(ellipse(0.15, -0.56, 0.09, 0.09), LIGHT),
        *both(ellipse(0.15, -0.56, 0.04, 0.04), DARK),
        Part(polygon((-0.2, -0.42), (0.2, -0.42), (0.2, -0.35), (-0.2, -0.35)), DARK),
        Part(ellipse(0, 0.12, 0.2, 0.2), LIGHT),
        Part(sector(0, 0.12, 0.17, -2.4, -0.6), ACCENT),
    ]
