"""The annotated picture of a frame, as the demos write and show it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from lib.structures import Detections, Frame
from lib.visualize.draw import draw_detections
from lib.visualize.inside import InsidePanels

_LONG_SIDE = (640, 1280)  # of the annotated frame: small ones are enlarged for their labels' sake, large ones shrunk


class Annotator:
    """Draws the frames of one video.

    class_names: of labels 1, 2, ... min_score: weaker detections are not drawn. show: see `InsidePanels`; () for none.
    """

    def __init__(self, class_names: Sequence[str], min_score: float, show: tuple[str, ...] = ()) -> None:
        self.class_names, self.min_score = class_names, min_score
        self._panels = InsidePanels(show) if show else None

    def __call__(self, frame: Frame, detections: Detections) -> np.ndarray:
        """The next frame, which has its `pixels`, as a picture (H, W, 3) uint8 BGR."""
        scale = display_scale(frame.pixels)
        drawn = draw_detections(frame.pixels, detections, self.class_names, self.min_score, scale=scale)
        return drawn if self._panels is None else self._panels.compose(drawn, frame)


def display_scale(image: np.ndarray) -> float:
    """How many times as large as `image` its annotated picture is: long side at least 640 and at most 1280 pixels.

    Small frames are enlarged a whole number of times, which keeps their pixels even.
    """
    longest = max(image.shape[:2])
    smallest, largest = _LONG_SIDE
    if longest > largest:
        return largest / longest
    return float(min(-(-smallest // longest), max(1, largest // longest)))
