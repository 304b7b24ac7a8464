"""A data set of a few tiny frames in the layout of ILSVRC2015, written where a test asks for it."""

from __future__ import annotations

import zlib
from pathlib import Path

import cv2
import numpy as np

AIRPLANE, BIRD = "n02691156", "n01503061"  # labels 1 and 5 of ImageNet VID


def xml(objects=(), size_hw=(48, 64)) -> str:
    """An annotation file; each object is (name, (x1, y1, x2, y2)) or (name, box, extra elements as text)."""
    items = "".join(
        f"<object><name>{name}</name><bndbox><xmax>{x2}</xmax><xmin>{x1}</xmin><ymax>{y2}</ymax><ymin>{y1}</ymin>"
        f"</bndbox>{''.join(more)}</object>"
        for name, (x1, y1, x2, y2), *more in objects
    )
    return f"<annotation><size><width>{size_hw[1]}</width><height>{size_hw[0]}</height></size>{items}</annotation>"


def picture(stem: str, size_hw=(48, 64)) -> np.ndarray:
    """The pixels of a frame, (h, w, 3) uint8: smooth, not symmetrical, of its own for each path."""
    rng = np.random.RandomState(zlib.crc32(stem.encode()))
    return cv2.resize(rng.randint(0, 256, (4, 5, 3)).astype(np.uint8), size_hw[::-1], interpolation=cv2.INTER_CUBIC)


def write_frame(root: Path, stem: str, objects=(), size_hw=(48, 64)) -> None:
    """Annotation and image of `stem`, such as `VID/train/a/000000`."""
    annotation, image = root / "Annotations" / f"{stem}.xml", root / "Data" / f"{stem}.JPEG"
    for path in (annotation, image):
        path.parent.mkdir(parents=True, exist_ok=True)
    annotation.write_text(xml(objects, size_hw))
    image.write_bytes(cv2.imencode(".jpg", picture(stem, size_hw))[1].tobytes())


def write_list(root: Path, name: str, lines: list[str]) -> Path:
    path = root / "ImageSets" / f"{name}.txt"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{line}\n" for line in lines))
    return path


def write_toy(root: Path) -> Path:
    """Two stills (one portrait), a training video of 6 frames (one list line each for 4 of them), two test videos."""
    write_frame(root, "DET/train/s/one", [(AIRPLANE, (1, 2, 30, 40))], (60, 40))
    write_frame(root, "DET/train/s/two", [(BIRD, (5, 6, 20, 21)), ("unknown", (0, 0, 9, 9))])
    for i in range(6):
        write_frame(root, f"VID/train/a/{i:06d}", [(AIRPLANE, (i, 3, 20 + i, 33), "<trackid>7</trackid>")])
    for video, length in (("b", 3), ("c", 2)):
        for i in range(length):
            objects = [(BIRD, (i, i, 9 + i, 9 + i), f"<trackid>{i}</trackid>"), (AIRPLANE, (2, 2, 70, 50))]
            write_frame(root, f"VID/val/{video}/{i:06d}", objects[: 2 - i])
    write_list(root, "DET_train", ["train/s/one 1", "train/s/two 1"])
    write_list(root, "VID_train", [f"train/a 1 {i} 6" for i in (0, 2, 3, 5)])
    write_list(root, "VID_val_videos", ["val/b 1 0 3", "val/c 4 0 2"])
    write_list(root, "VID_val_frames", [f"val/{v}/{i:06d} {n}" for n, (v, i) in enumerate(_FRAMES, 1)])
    return root


_FRAMES = [("b", 0), ("b", 1), ("b", 2), ("c", 0), ("c", 1)]


def write_clip(path: Path, values: list[int], size_hw=(48, 64)) -> None:
    """A video file of one grey frame for each of `values`, 10 a second."""
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"mp4v"), 10, size_hw[::-1])
    for value in values:
        writer.write(np.full((*size_hw, 3), value, np.uint8))
    writer.release()
