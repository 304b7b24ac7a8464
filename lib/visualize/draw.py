"""Boxes and labels on a frame.

Images are (H, W, 3) uint8 in BGR order, as OpenCV reads them. Boxes follow `lib.boxes`: `(x1, y1, x2, y2)`, 0-based
pixels of the given image, inclusive corners. Nothing here changes its input: every function returns a new image.
"""

from __future__ import annotations

import colorsys
from collections.abc import Callable, Sequence

import cv2
import numpy as np

from lib.structures import Detections

_SHIFT = 3  # OpenCV takes coordinates as fixed-point numbers; 3 bits are eighths of a pixel
_WEIGHT = 600  # of the font: semi-bold, readable on a plate of any colour
_WHITE, _BLACK = (255, 255, 255), (24, 20, 18)


def class_colour(label: int) -> tuple[int, int, int]:
    """The (B, G, R) colour of class `label`: always the same one, and far from that of its neighbours.

    Hues advance by a noble fraction of the circle, so that any first n classes are spread over it; the second and third
    ten are darker and paler, so that hues that do come close still differ.
    """
    hue = (0.16 + 0.7236067977 * (label - 1)) % 1.0
    saturation, value = ((0.80, 1.0), (0.95, 0.8), (0.45, 1.0))[(label - 1) // 10 % 3]
    red, green, blue = colorsys.hsv_to_rgb(hue, saturation, value)
    return round(255 * blue), round(255 * green), round(255 * red)


def line_width(image: np.ndarray) -> int:
    """Width in pixels of a box's line on `image`: 1 at 240 lines, 2 at 480, 3 at 720, 4 at 1080."""
    return max(1, round(min(image.shape[:2]) / 270))


def draw_detections(
    image: np.ndarray,
    detections: Detections,
    class_names: Sequence[str],
    min_score: float = 0.0,
    ground_truth: np.ndarray | None = None,
    scale: float = 1.0,
    colour_of: Callable[[int], tuple[int, int, int]] = class_colour,
    width: int | None = None,
) -> np.ndarray:
    """`image` with the detections that score at least `min_score`, the highest-scoring on top, each with its name and
    score.

    image: (H, W, 3) uint8 BGR. detections: in pixels of `image`, on any device. class_names: of labels 1, 2, ...
    ground_truth: (n, 4) boxes in pixels of `image`, drawn dashed and white over the detections' lines, or None.
    scale: the returned image is (round(H * scale), round(W * scale), 3); lines and letters are as sharp as its pixels.
    colour_of: label -> (B, G, R). width: of the boxes' lines in pixels of the returned image; None: by its size.

    Raises ValueError for an image of another kind, or a label that has no name.
    """
    _check_image(image)
    canvas = _resized(image, scale)
    factors = np.array([canvas.shape[1] / image.shape[1], canvas.shape[0] / image.shape[0]] * 2)
    keep = detections.scores >= min_score
    shown = detections[keep].to("cpu")
    labels = [_name(class_names, int(label)) for label in shown.labels]
    boxes = _edges(shown.boxes.numpy(), factors)
    order = np.argsort(shown.scores.numpy(), kind="stable")
    for row in order:
        _draw_box(canvas, boxes[row], colour_of(int(shown.labels[row])), width or line_width(canvas))
    if ground_truth is not None:
        # Over the detections: where both agree, the colour still shows between the dashes.
        for box in _edges(ground_truth, factors):
            _draw_dashed(canvas, box)
    # Plates come after all the boxes: a line through a name makes it hard to read.
    for row in order:
        text = f"{labels[row]} {float(shown.scores[row]):.2f}"
        _draw_plate(canvas, boxes[row], text, colour_of(int(shown.labels[row])))
    return canvas


def draw_caption(image: np.ndarray, text: str) -> np.ndarray:
    """`image` with `text` on a dark band in its lower left corner."""
    _check_image(image)
    canvas = image.copy()
    size, width, height, baseline = _fit_text(canvas, text)
    pad = max(2, size // 3)
    top = max(0, canvas.shape[0] - height - 2 * pad)
    band = canvas[top:, : width + 2 * pad]
    band[:] = (band * 0.35).astype(np.uint8)
    _put_text(canvas, text, (pad, canvas.shape[0] - pad - (height - baseline)), _WHITE, size)
    return canvas


def _check_image(image: np.ndarray) -> None:
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or 0 in image.shape:
        raise ValueError(f"drawing wants a (H, W, 3) uint8 image, not {image.shape} of {image.dtype}")


def _resized(image: np.ndarray, scale: float) -> np.ndarray:
    """A copy of `image`, `scale` times as large."""
    if scale == 1.0:
        return image.copy()
    size = (max(1, round(image.shape[1] * scale)), max(1, round(image.shape[0] * scale)))
    return cv2.resize(image, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC)


def _edges(boxes: np.ndarray, factors: np.ndarray) -> np.ndarray:
    """(n, 4) boxes times `factors` (4,), as the centres of the outermost pixels that they cover, float64.

    Pixel x spans [x - 0.5, x + 0.5], so it is this span, not x itself, that grows with the image.
    """
    boxes = np.asarray(boxes, dtype=np.float64).reshape(-1, 4)
    outward = np.array([-0.5, -0.5, 0.5, 0.5])
    return (boxes + outward + 0.5) * factors - 0.5 - outward


def _name(class_names: Sequence[str], label: int) -> str:
    if not 1 <= label <= len(class_names):
        raise ValueError(f"label {label} has no name: there are {len(class_names)} classes, and label 1 is the first")
    return class_names[label - 1].replace("_", " ")


def _fixed_point(box: np.ndarray) -> tuple[tuple[int, int], tuple[int, int]]:
    # Far-away corners overflow OpenCV's 16-bit drawing, and nobody sees them.
    x1, y1, x2, y2 = (int(round(float(v) * (1 << _SHIFT))) for v in np.clip(np.nan_to_num(box), -4000, 16000))
    return (x1, y1), (x2, y2)


def _draw_box(canvas: np.ndarray, box: np.ndarray, colour: tuple[int, int, int], width: int) -> None:
    """An outline in `colour` with a thin dark rim, which keeps it visible on a background of the same colour."""
    corners = _fixed_point(box)
    cv2.rectangle(canvas, *corners, _BLACK, width + 2, cv2.LINE_AA, _SHIFT)
    cv2.rectangle(canvas, *corners, colour, width, cv2.LINE_AA, _SHIFT)


def _draw_dashed(canvas: np.ndarray, box: np.ndarray) -> None:
    width = line_width(canvas)
    x1, y1, x2, y2 = np.clip(np.nan_to_num(box), -4000, 16000)
    corners = np.array([(x1, y1), (x2, y1), (x2, y2), (x1, y2), (x1, y1)])
    for start, end in zip(corners[:-1], corners[1:], strict=True):
        length = float(np.abs(end - start).sum())
        dashes = max(1, round(length / max(8 * width, 12)))
        for dash in range(dashes):
            # The gap is split over both ends, so that the corners look alike.
            begin, stop = (dash + 0.2) / dashes, (dash + 0.8) / dashes
            points = [tuple(np.rint((start + (end - start) * t) * (1 << _SHIFT)).astype(int)) for t in (begin, stop)]
            line = [tuple(int(v) for v in point) for point in points]
            cv2.line(canvas, *line, _BLACK, width + 2, cv2.LINE_AA, _SHIFT)
            cv2.line(canvas, *line, _WHITE, width, cv2.LINE_AA, _SHIFT)


def _draw_plate(canvas: np.ndarray, box: np.ndarray, text: str, colour: tuple[int, int, int]) -> None:
    """`text` on a plate of `colour`: above the box where there is room, else inside its top, always in the frame."""
    rows, columns = canvas.shape[:2]
    size, width, height, baseline = _fit_text(canvas, text)
    pad, half_line = max(2, size // 4), (line_width(canvas) + 1) // 2
    plate_width, plate_height = width + 2 * pad, height + pad
    x1, y1 = (float(v) for v in np.clip(np.nan_to_num(box[:2]), -4000, 16000))
    left = int(np.clip(round(x1) - half_line, 0, max(0, columns - plate_width)))
    top = round(y1) - half_line - plate_height
    if top < 0:
        top = round(max(y1, 0)) + half_line + 1
    top = int(np.clip(top, 0, max(0, rows - plate_height)))
    canvas[top : top + plate_height, left : left + plate_width] = colour
    blue, green, red = colour
    luminance = 0.114 * blue + 0.587 * green + 0.299 * red
    ink = _BLACK if luminance > 120 else _WHITE
    _put_text(canvas, text, (left + pad, top + plate_height - pad // 2 - (height - baseline)), ink, size)


def _font() -> cv2.FontFace:
    return cv2.FontFace("sans")


def _fit_text(canvas: np.ndarray, text: str) -> tuple[int, int, int, int]:
    """Size, width, height and distance of the base line from the top, in pixels, of `text` as it fits `canvas`.

    The letters are about 1/40 of the frame's shorter side, at least 11 pixels, and smaller only when the text would be
    wider than the frame. Height is that of a line of text, so that plates are equally high whatever their letters.
    """
    size = max(11, round(min(canvas.shape[:2]) / 40))
    while True:
        width = _text_box(text, size)[2]
        if width <= canvas.shape[1] - size or size <= 6:
            break
        size -= 1
    _, top, _, height = _text_box("Ag", size)
    return size, width, height, -top


def _text_box(text: str, size: int) -> tuple[int, int, int, int]:
    """Left, top, width and height of `text` written at the origin, in pixels; the base line is row 0."""
    return cv2.getTextSize((0, 0), text, (0, 0), _font(), size, _WEIGHT)


def _put_text(canvas: np.ndarray, text: str, origin: tuple[int, int], ink: tuple[int, int, int], size: int) -> None:
    cv2.putText(canvas, text, origin, ink, _font(), size, _WEIGHT)
