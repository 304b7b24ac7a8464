"""Pairs of frames with their true flow, from the generator's clips, and the flow of a frame in feature cells."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache

import cv2
import numpy as np
from numpy.random import Generator

from lib.synthetic.casting import Settings, make_clip
from lib.synthetic.scene import Clip

STRIDE = 16  # pixels of a feature cell
LIFE = 4096  # pairs for which a clip, background or sprite stays in use
_CLIPS = 64  # in use at a time


@dataclass(frozen=True)
class FlowPair:
    """Two frames and where the content of the first lies in the second.

    current, reference: (H, W, 3) uint8 BGR. flow: (2, H, W) float32 pixels (dx, dy): what is seen at pixel p of
    `current` lies at p + flow[:, p] in `reference`, also where it is hidden there. layers: (H, W) int, which thing is
    seen at each pixel of `current`, 0 for the background; None where that is not known.
    """

    current: np.ndarray
    reference: np.ndarray
    flow: np.ndarray
    layers: np.ndarray | None


def flow_in_cells(flow: np.ndarray, layers: np.ndarray | None, stride: int = STRIDE) -> np.ndarray:
    """The flow (2, H, W) in pixels as `lib.ops.flow_warp` wants it: (2, ceil(H/stride), ceil(W/stride)) float32, cells.

    A cell has the mean motion of the pixels of one thing, that of `things_in_cells`: a mean over two that move apart
    would point to neither. Without `layers` it is the median of each component: what most pixels do.
    """
    _, height, width = flow.shape
    rows, columns = -(-height // stride), -(-width // stride)
    if layers is None:
        missing = ((0, 0), (0, rows * stride - height), (0, columns * stride - width))
        blocks = np.pad(flow, missing, mode="edge").reshape(2, rows, stride, columns, stride)
        return (np.median(blocks, axis=(2, 4)) / stride).astype(np.float32)
    things = things_in_cells(layers, stride)
    of_pixels = np.repeat(np.repeat(things, stride, axis=0), stride, axis=1)[:height, :width]
    counted = (layers == of_pixels).astype(np.float32)
    share = stride * _block_sums(counted, stride)
    return np.stack([_block_sums(component * counted, stride) / share for component in flow])


def things_in_cells(layers: np.ndarray, stride: int = STRIDE) -> np.ndarray:
    """Which thing each cell shows, of a map (H, W) of those that the pixels show: that which covers most of it.

    An object's pixels count twice, so that it wins over the background, 0, where it covers more than a third.
    """
    numbers = np.flatnonzero(np.bincount(layers.ravel()))
    covered = [_block_sums((layers == number).astype(np.float32), stride) for number in numbers]
    claims = np.stack([count * (2 if number else 1) for number, count in zip(numbers, covered, strict=True)])
    return numbers[claims.argmax(axis=0)]


def _block_sums(values: np.ndarray, stride: int) -> np.ndarray:
    """Sums of (H, W) over blocks of `stride` pixels, smaller ones at the right and bottom: (ceil(H/s), ceil(W/s))."""
    rows, columns = (np.arange(0, side, stride) for side in values.shape)
    return np.add.reduceat(np.add.reduceat(values, rows, axis=0), columns, axis=1)


def in_use(slot: int, slots: int, number: int) -> int:
    """Which thing lies in `slot` when pair `number` is made: never the same in two slots, and each for LIFE pairs.

    The slots change one after the other, so that a pool of `slots` things is renewed steadily.
    """
    generation = (number + slot * LIFE // slots) // LIFE
    return generation * slots + slot


class ClipPairs:
    """Pairs of frames, up to 9 apart in either direction or the same, of clips as a data set has them.

    Without `clips` there is no end of clips; with it, there are that many, the first ones of the split `train`.
    """

    most_apart = 9  # frames, as the methods read

    def __init__(self, settings: Settings, clips: int | None = None) -> None:
        self.settings, self.clips = settings, clips

    def pair(self, number: int, vary: Generator) -> FlowPair:
        index = in_use(int(vary.integers(_CLIPS)), _CLIPS, number)
        clip = _clip(self.settings, index if self.clips is None else index % self.clips)
        return pair_of(clip, *_two_frames(vary, clip.frames))


@lru_cache(maxsize=_CLIPS + 8)
def _clip(settings: Settings, index: int) -> Clip:
    return make_clip(settings, "train", index)


def _two_frames(vary: Generator, frames: int) -> tuple[int, int]:
    """A frame, and one up to `ClipPairs.most_apart` before or after it; both in the clip."""
    current = int(vary.integers(frames))
    low, high = max(0, current - ClipPairs.most_apart), min(frames - 1, current + ClipPairs.most_apart)
    return current, int(vary.integers(low, high + 1))


def pair_of(clip: Clip, current: int, reference: int) -> FlowPair:
    """Frames `current` and `reference` (from 0) of a clip, as its camera takes them."""
    found = clip.flow(current, reference)
    return FlowPair(clip.image(current), clip.image(reference), found.flow, found.layers)


def held_out_pairs(settings: Settings, clips: int, first: int = 0, of_each: int = 4) -> list[FlowPair]:
    """`of_each` pairs of each of `clips` clips of the split `val` from clip `first` on, as JPEG files show them.

    The reference comes 1 to 9 frames before the current frame, as in Deep Feature Flow.
    """
    pairs = []
    for index in range(first, first + clips):
        clip = make_clip(settings, "val", index)
        vary = np.random.default_rng([settings.seed, index])
        for _ in range(of_each):
            apart = int(vary.integers(1, min(ClipPairs.most_apart, clip.frames - 1) + 1))
            reference = int(vary.integers(clip.frames - apart))
            found = clip.flow(reference + apart, reference)
            images = [
                cv2.imdecode(np.frombuffer(clip.jpeg(i), np.uint8), cv2.IMREAD_COLOR)
                for i in (reference + apart, reference)
            ]
            pairs.append(FlowPair(*images, found.flow, found.layers))
    return pairs


def varied(pair: FlowPair, vary: Generator) -> FlowPair:
    """The pair mirrored sideways, upside down, both or not at all, and with its colour channels in random order."""
    channels = vary.permutation(3)
    images = [image[..., channels] for image in (pair.current, pair.reference)]
    flow, layers = pair.flow, pair.layers
    for axis in (0, 1):  # rows, columns
        if vary.random() < 0.5:
            images = [np.flip(image, axis) for image in images]
            flow = np.flip(flow, axis + 1) * np.float32([1, -1] if axis == 0 else [-1, 1])[:, None, None]
            layers = None if layers is None else np.flip(layers, axis)
    return replace(pair, current=images[0], reference=images[1], flow=flow, layers=layers)
