"""From an image file to network input: read, mirror, resize, subtract the means, exactly as the originals do, and
divide by standard deviations, which they do not.

See docs/rules.md, section 3. Images are (h, w, 3) uint8 in OpenCV's B, G, R order until `to_tensor`.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import torch
from torch import Tensor

from lib.config import Config
from lib.data.image_file import JPEG_END, claimed_size, lacks_end, tiff_pixel_type
from lib.errors import InputError
from lib.files import read_bytes
from lib.structures import Frame

_MOST_PIXELS = 1 << 28  # 0.8 GB as decoded
_UNREAD_PIXELS = ("float16", "float32", "float64", "int32", "uint32", "int64", "uint64")  # of a TIFF file


class ImageError(InputError):
    """An image that cannot be read; the message names its file."""


def read_image(path: str | os.PathLike) -> np.ndarray:
    """The image at `path` as (h, w, 3) uint8, B, G, R; an EXIF orientation is ignored, as the boxes ignore it.

    Of 16 bits the upper eight are taken, whatever values the image holds.
    Raises ImageError for a file that is missing, no image that OpenCV can read, cut off, or larger than 2^28 pixels.
    """
    what_to_do = "replace the file"
    try:
        data = read_bytes(path, ImageError, what_to_do)
    except ImageError as error:
        if isinstance(error.__cause__, FileNotFoundError):
            raise ImageError(f"{path}: no such image file") from None
        raise
    width, height = claimed_size(data) or (0, 0)
    if width * height > _MOST_PIXELS:
        raise ImageError(f"{path}: claims to have {width} x {height} pixels, which no frame has; {what_to_do}")
    cut = lacks_end(data)
    image = _decode(data + JPEG_END if cut else data)
    if image is None:
        pixels = tiff_pixel_type(data)
        if pixels in _UNREAD_PIXELS:
            raise ImageError(
                f"{path}: its pixels are {pixels}, and only integers of 8 or 16 bits are read; convert the file"
            )
        raise ImageError(f"{path}: not a readable image ({len(data)} bytes); {what_to_do}")
    # A file may lack nothing but the marker of its end. Then what follows the data changes no pixel.
    if cut and not np.array_equal(image, _decode(data + b"\x5a" * 1000 + JPEG_END)):
        raise ImageError(f"{path}: the image is cut off after {len(data)} bytes; {what_to_do}")
    return image


def _decode(data: bytes) -> np.ndarray | None:
    """The image that OpenCV makes of a file's bytes; None where it cannot. The pixels are those of cv2.imread."""
    try:
        return cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION)
    except cv2.error:  # nothing to decode, or more than OpenCV takes
        return None


def require_size(image: np.ndarray, height: int, width: int, path: str | os.PathLike) -> None:
    """Raise ImageError, which names `path`, unless `image` (h, w, 3) has the size that its annotation gives.

    With another size the boxes would not lie on their objects, and mirrored ones might not even lie in the image.
    """
    if image.shape[:2] != (height, width):
        raise ImageError(
            f"{path}: has {image.shape[1]} x {image.shape[0]} pixels, but its annotation says {width} x {height}; "
            "correct one of the two (tools/check_dataset.py --images finds all such images)"
        )


def resize(image: np.ndarray, short_side: int, longest: int, stride: int = 0) -> tuple[np.ndarray, float]:
    """`image` with its short side made `short_side`, unless the long side would then exceed `longest` pixels.

    With a `stride`, black pixels at the right and bottom fill both sides up to a multiple of it.
    Returns the (H, W, 3) image and the scale, in new pixels per pixel of `image`.
    """
    sides = image.shape[:2]
    scale = short_side / min(sides)
    if np.round(scale * max(sides)) > longest:
        scale = longest / max(sides)
    if scale * min(sides) > 0.5:
        resized = cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_LINEAR)
    else:  # a line of pixels, of which OpenCV would leave nothing
        height, width = (max(1, round(scale * side)) for side in sides)
        resized = cv2.resize(image, (width, height), interpolation=cv2.INTER_LINEAR)
    if stride:
        bottom, right = (-side % stride for side in resized.shape[:2])
        resized = cv2.copyMakeBorder(resized, 0, bottom, 0, right, cv2.BORDER_CONSTANT)
    return resized, scale


def to_tensor(
    image: np.ndarray,
    means_bgr: tuple[float, ...],
    stds_bgr: tuple[float, ...] = (1.0, 1.0, 1.0),
    pin: bool = False,
) -> Tensor:
    """(h, w, 3) uint8 B, G, R -> (3, h, w) float32 R, G, B: (colour - mean) / standard deviation of its channel.

    pin: in page-locked memory, from which a GPU fetches it while the CPU goes on.
    """
    tensor = torch.empty(3, *image.shape[:2], pin_memory=pin)
    values_of = tensor.numpy()
    for channel in range(3):
        # The originals subtract in float64 and then round to float32; a table of the 256 results does both at once.
        values = (np.arange(256) - float(means_bgr[2 - channel])) / float(stds_bgr[2 - channel])
        table = values.astype(np.float32)
        cv2.LUT(np.ascontiguousarray(image[:, :, 2 - channel]), table, dst=values_of[channel])
    return tensor


@dataclass(frozen=True)
class Preprocessing:
    """Conversion of frames to network input: the pair of SCALES, PIXEL_MEANS and PIXEL_STDS (B, G, R), IMAGE_STRIDE.

    pin: the image is made in page-locked memory (`to_tensor`).
    """

    short_side: int
    longest: int
    means_bgr: tuple[float, float, float]
    stride: int = 0
    stds_bgr: tuple[float, float, float] = (1.0, 1.0, 1.0)
    pin: bool = False

    @staticmethod
    def from_config(cfg: Config, device: torch.device | None = None) -> Preprocessing:
        """The conversion that a configuration describes, for a network on `device`."""
        (short_side, longest), network = cfg.SCALES[0], cfg.network
        means, stds = tuple(network.PIXEL_MEANS), tuple(network.PIXEL_STDS)
        pin = device is not None and device.type == "cuda"
        return Preprocessing(short_side, longest, means, network.IMAGE_STRIDE, stds, pin)

    def __call__(self, image: np.ndarray, **known: Any) -> Frame:
        """A `Frame` of the (h, w, 3) uint8 B, G, R `image`; known: its other fields, such as frame_id."""
        resized, scale = resize(image, self.short_side, self.longest, self.stride)
        return Frame(to_tensor(resized, self.means_bgr, self.stds_bgr, self.pin), scale, **known)


def scale_boxes(boxes: np.ndarray, scale: float, height: int, width: int, snap: bool) -> np.ndarray:
    """Boxes (n, 4) in original pixels -> (n, 4) float32 in pixels of a network input of `height` x `width`.

    snap: round to whole pixels (half to even) and clip to the input, as the originals do for R-FCN only; for DFF and
    FGFA the scaled boxes stay as they are.
    """
    scaled = boxes.astype(np.float64) * scale
    if snap:
        scaled = np.clip(np.round(scaled), 0, [width - 1, height - 1, width - 1, height - 1])
    return scaled.astype(np.float32)


def flip_boxes(boxes: np.ndarray, width: int | np.ndarray) -> np.ndarray:
    """Boxes (n, 4) of images `width` pixels wide (one number, or (n,)), mirrored left to right; the dtype is kept."""
    return np.stack((width - boxes[:, 2] - 1, boxes[:, 1], width - boxes[:, 0] - 1, boxes[:, 3]), axis=1).astype(
        boxes.dtype
    )
