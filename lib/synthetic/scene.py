"""A clip: layers from back to front, each a picture and a trajectory, and a camera."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from lib.synthetic import flow, render
from lib.synthetic.camera import Camera
from lib.synthetic.flow import Flow
from lib.synthetic.geometry import to_picture_coordinates
from lib.synthetic.motion import Trajectory
from lib.synthetic.objects import Objects, annotate


@dataclass(frozen=True)
class Layer:
    """One flat object of the scene. label: its class from 1, 0 for scenery. track_id: -1 for scenery.

    pixels: (S, S, 4) uint8 BGR, multiplied by alpha, and alpha; the backmost layer may have any height and width and
        has no alpha: (h, w, 3).
    hull, contours: see `Sprite`; the backmost layer has none.
    """

    pixels: np.ndarray
    trajectory: Trajectory
    hull: np.ndarray
    contours: list[np.ndarray]
    label: int = 0
    track_id: int = -1

    def pixel_poses(self, time: np.ndarray) -> np.ndarray:
        """(T,) frames -> (T, 2, 3): from indices into `pixels` to frame pixels."""
        return self.trajectory.poses(time) @ to_picture_coordinates(*self.pixels.shape[:2])


@dataclass(frozen=True)
class Clip:
    """`frames` frames of height x width pixels; `layers[0]` is the background.

    The methods can be called for any frame in any order: only the layers are stored.
    """

    height: int
    width: int
    frames: int
    layers: list[Layer]
    camera: Camera

    def image(self, index: int, clean: bool = False) -> np.ndarray:
        """Frame `index` (from 0): (H, W, 3) uint8 BGR; `clean` is without blur, defocus, noise and exposure."""
        shutter = 0.0 if clean else self.camera.shutter
        light = render.light(self.layers, float(index), shutter, self.height, self.width)
        return np.clip(light + 0.5, 0, 255).astype(np.uint8) if clean else self.camera.taken(light, index)

    def jpeg(self, index: int) -> bytes:
        """Frame `index` as the bytes of a JPEG file."""
        return self.camera.encoded(self.image(index))

    @cached_property
    def objects(self) -> list[Objects]:
        """The annotation of every frame."""
        return annotate(self.layers, self.frames, self.height, self.width)

    def layer_map(self, index: int) -> np.ndarray:
        """(H, W) int16: which layer is seen at each pixel of frame `index`; 0 is the background."""
        return render.layer_map(self.layers, float(index), self.height, self.width)

    def flow(self, index: int, other: int) -> Flow:
        """Where each pixel of frame `index` is found in frame `other`."""
        return flow.between(self.layers, index, other, self.height, self.width)
