"""The Flying Chairs data set, as its authors publish it: `00001_img1.ppm`, `00001_img2.ppm`, `00001_flow.flo`."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
from numpy.random import Generator

from lib.data.image_sets import DatasetError
from lib.data.transforms import read_image
from lib.synthetic.flow_pairs import FlowPair

_FLO_MAGIC = 202021.25  # the first four bytes of a .flo file, as a little-endian float
_EVERY = 20  # one pair of so many is held out


def read_flo(path: str | os.PathLike) -> np.ndarray:
    """The flow of a .flo file (Middlebury's format): (2, H, W) float32, pixels. Raises DatasetError naming the file."""
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        raise DatasetError(f"{path}: cannot be read ({error.strerror or error})") from error
    if len(data) < 12 or np.frombuffer(data, "<f4", 1)[0] != np.float32(_FLO_MAGIC):
        raise DatasetError(f"{path}: not a .flo file of optical flow")
    width, height = (int(side) for side in np.frombuffer(data, "<i4", 2, offset=4))
    if min(width, height) < 1 or len(data) != 12 + 8 * width * height:
        raise DatasetError(f"{path}: {len(data)} bytes are not those of a {width}x{height} flow; is the file complete?")
    values = np.frombuffer(data, "<f4", offset=12).reshape(height, width, 2)
    return np.ascontiguousarray(values.transpose(2, 0, 1)).astype(np.float32)


class FlyingChairs:
    """Pairs cut to height x width pixels from those in `folder`, or in its folder `data`; some are held out.

    Raises DatasetError for a folder without pairs, and in `pair` for one whose files are damaged or too small.
    """

    def __init__(self, folder: str | os.PathLike, height: int, width: int) -> None:
        folder = Path(folder)
        found = sorted(folder.glob("*_flow.flo")) or sorted((folder / "data").glob("*_flow.flo"))
        if len(found) < _EVERY:
            raise DatasetError(
                f"{folder}: {len(found)} files '*_flow.flo' there or in its folder 'data', and {_EVERY} are needed; "
                "give the folder of the unpacked Flying Chairs archive"
            )
        self.height, self.width = height, width
        self.held_out_flows = found[::_EVERY]
        self.flows = [path for number, path in enumerate(found) if number % _EVERY]

    def pair(self, number: int, vary: Generator) -> FlowPair:
        """A random one of those to learn from, cut at a random place; `number` does not matter."""
        return self._cut(self.flows[int(vary.integers(len(self.flows)))], vary.random(2))

    def held_out(self, most: int) -> list[FlowPair]:
        """The middles of up to `most` of the pairs that are held out."""
        return [self._cut(path, np.array((0.5, 0.5))) for path in self.held_out_flows[:most]]

    def _cut(self, path: Path, share: np.ndarray) -> FlowPair:
        """`share`: (row, column) of the part's corner, 0 for the first possible to 1 for the last."""
        flow = read_flo(path)
        stem = path.name.removesuffix("_flow.flo")
        images = [read_image(str(path.with_name(f"{stem}_img{i}.ppm"))) for i in (1, 2)]
        height, width = flow.shape[1:]
        if any(image.shape[:2] != (height, width) for image in images):
            raise DatasetError(f"{path}: of another size than its images")
        if height < self.height or width < self.width:
            raise DatasetError(f"{path}: {width}x{height}, smaller than the --size of {self.width}x{self.height}")
        rooms = np.array((height - self.height, width - self.width))
        top, left = (share * rooms).round().astype(int)
        rows, columns = slice(top, top + self.height), slice(left, left + self.width)
        return FlowPair(*(image[rows, columns] for image in images), flow[:, rows, columns], None)
