"""Show beside a frame what a network computed for it: flow, features, the weights of the neighbours, key frames.

Pictures are (H, W, 3) uint8 in BGR order.
"""

from __future__ import annotations

import cv2
import numpy as np
import torch

from lib.errors import InputError
from lib.structures import Frame, Inside
from lib.visualize.clip import fit
from lib.visualize.draw import draw_caption, line_width
from lib.visualize.flow import colour_wheel, flow_colours

PANELS = ("flow", "features", "weights", "keys")
_STRIDE = 16  # pixels of the network's input in a cell
_LEAST_FLOW = 0.5  # cells that stand for full colour, at least: the noise of a flow where nothing moves stays pale
_KEY, _OWN, _BAR, _DARK = (60, 220, 255), (40, 150, 255), (190, 190, 190), 32
_NEEDS = {
    "flow": "this method has no flow; dff and fgfa have",
    "weights": "this method weighs no frames; fgfa does",
    "keys": "this method has no key frames; dff has",
}


class ShowError(InputError):
    """Something to show that the method does not compute; the message says which methods do."""


class InsidePanels:
    """Adds panels to the pictures of one video, whose frames carry `Frame.inside`.

    chosen: some of `PANELS`, or ("all",) for those that the method has. Colours mean the same in all frames: those of
    the features are three principal components of the first frame's, and the scale of the flow only grows. That of the
    weights is each frame's own, and its caption says which.
    """

    def __init__(self, chosen: tuple[str, ...]) -> None:
        self.chosen = chosen
        self._shown: tuple[str, ...] | None = None
        self._axes: tuple[np.ndarray, ...] | None = None  # of the features: mean, directions, lowest and highest value
        self._longest = _LEAST_FLOW
        self._reach = 1  # frames to each side of the one that is shown
        self._last_key = 0

    def compose(self, picture: np.ndarray, frame: Frame) -> np.ndarray:
        """`picture` of the next frame with the panels to its right and below it; of one size in the whole video.

        Raises ShowError at the first frame where something was chosen that the method does not compute.
        """
        if self._shown is None:
            self._shown = self._available(frame)
        height, width = picture.shape[:2]
        if "keys" in self._shown:
            picture = self._mark_key(picture, frame)
        maps = [name for name in ("flow", "features") if name in self._shown]
        column = []
        for number, name in enumerate(maps):
            rows = height * (number + 1) // len(maps) - height * number // len(maps)
            size_hw = (rows, max(1, width // len(maps)))
            column.append(self._flow(frame, size_hw) if name == "flow" else self._features(frame, size_hw))
        if column:
            picture = np.hstack([picture, np.vstack(column)])
        if "weights" in self._shown:
            picture = np.vstack([picture, self._weights(frame, (max(48, height // 6), picture.shape[1]))])
        return picture

    def _available(self, frame: Frame) -> tuple[str, ...]:
        inside = _inside_of(frame)
        has = {
            "flow": inside.flow is not None or frame.key_frame is not None,
            "features": True,
            "weights": inside.weights is not None,
            "keys": frame.key_frame is not None,
        }
        if self.chosen == ("all",):
            return tuple(name for name in PANELS if has[name])
        missing = next((name for name in self.chosen if not has[name]), None)
        if missing is not None:
            raise ShowError(f"--show {missing}: {_NEEDS[missing]}")
        return self.chosen

    def _mark_key(self, picture: np.ndarray, frame: Frame) -> np.ndarray:
        if frame.key_frame:
            self._last_key = frame.index
            picture = draw_caption(picture, f"key frame {frame.index}")
            width = 2 * line_width(picture)
            corner = (picture.shape[1] - 1, picture.shape[0] - 1)
            return cv2.rectangle(picture, (0, 0), corner, _KEY, 2 * width)
        references = _inside_of(frame).references or [self._last_key]
        keys = " and ".join(str(index) for index in references)
        return draw_caption(picture, f"frame {frame.index}, features of key frame {keys}")

    def _flow(self, frame: Frame, size_hw: tuple[int, int]) -> np.ndarray:
        inside = _inside_of(frame)
        if inside.flow is None:
            blank = np.full((*size_hw, 3), 255, np.uint8)
            return draw_caption(blank, "flow: none, a key frame")
        offsets = [index - frame.index for index in inside.references]
        farthest = max(range(len(offsets)), key=lambda n: (abs(offsets[n]), -offsets[n]))
        flow = inside.flow[farthest].float().cpu().numpy()  # (2, h, w)
        self._longest = max(self._longest, float(np.quantile(np.hypot(flow[0], flow[1]), 0.99)))
        panel = _enlarge(flow_colours(flow, self._longest), frame, size_hw)
        side = min(size_hw) // 5
        panel[-side:, -side:] = colour_wheel(side)
        pixels = self._longest * _STRIDE / frame.scale
        return draw_caption(panel, f"flow to frame {inside.references[farthest]}, full colour {pixels:.0f} pixels")

    def _features(self, frame: Frame, size_hw: tuple[int, int]) -> np.ndarray:
        inside = _inside_of(frame)
        features = inside.features.float().cpu().flatten(1).T.numpy()  # (h * w, C)
        if self._axes is None:
            self._axes = _principal_axes(features)
        mean, directions, low, high = self._axes
        values = ((features - mean) @ directions - low) / (high - low)  # (h * w, 3)
        small = np.rint(np.clip(values, 0, 1) * 255).astype(np.uint8).reshape(*inside.features.shape[1:], 3)
        warped = "warped features" if inside.weights is None else "average of warped features"
        return draw_caption(_enlarge(small, frame, size_hw), warped if inside.references else "features")

    def _weights(self, frame: Frame, size_hw: tuple[int, int]) -> np.ndarray:
        inside = _inside_of(frame)
        shares = inside.weights.float().mean(dim=(1, 2)).cpu().numpy()  # (n,)
        offsets = [index - frame.index for index in inside.references]
        self._reach = max(self._reach, *(abs(offset) for offset in offsets))
        # Twice the share of each where all have the same, or more: at the ends of a video the first or last frame also
        # has the shares of those that are missing
        full = max(2 / (2 * self._reach + 1), float(shares.max()))
        strip = np.full((*size_hw, 3), _DARK, np.uint8)
        rows, slot = size_hw[0] * 2 // 3, size_hw[1] / (2 * self._reach + 1)
        for offset, share in zip(offsets, shares, strict=True):
            left, right = (round((offset + self._reach + part) * slot) for part in (0.15, 0.85))
            top = round((rows - 4) * (1 - float(share) / full)) + 4
            cv2.rectangle(strip, (left, top), (right, rows), _OWN if offset == 0 else _BAR, cv2.FILLED)
        first, last = min(inside.references), max(inside.references)
        which = f"frames {first} to {last}" if first < last else f"frame {first}"
        text = f"share of {which} in the average (own: orange), full height {100 * full:.0f} %"
        return draw_caption(strip, text)


def _inside_of(frame: Frame) -> Inside:
    if frame.inside is None:
        raise ValueError(f"frame {frame.index} has nothing inside: detect with inside=True")
    return frame.inside


def _principal_axes(features: np.ndarray) -> tuple[np.ndarray, ...]:
    """Mean (C,), three directions (C, 3) of largest variance, lowest and highest value (3,) of (cells, C)."""
    mean = features.mean(axis=0)
    centred = torch.from_numpy(features - mean)
    _, vectors = torch.linalg.eigh(centred.T @ centred)  # in order of growing variance
    directions = vectors[:, -3:].flip(1).numpy()  # (C, 3), fewer with fewer channels
    directions = np.pad(directions, ((0, 0), (0, 3 - directions.shape[1])))
    low, high = np.quantile((features - mean) @ directions, (0.01, 0.99), axis=0)
    return mean, directions, low, np.maximum(high, low + 1e-6)


def _enlarge(cells: np.ndarray, frame: Frame, size_hw: tuple[int, int]) -> np.ndarray:
    """A map (h, w, 3) as a picture of `size_hw`: what lies beyond the frame's right and lower edge is cut off."""
    height, width = (int(side) for side in frame.im_info[:2])
    whole = np.repeat(np.repeat(cells, _STRIDE, axis=0), _STRIDE, axis=1)[:height, :width]
    interpolation = cv2.INTER_AREA if size_hw[0] < height else cv2.INTER_NEAREST
    return fit(cv2.resize(whole, size_hw[::-1], interpolation=interpolation), size_hw)
