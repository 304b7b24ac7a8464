"""Labelled crops to pre-train a backbone on: the objects of a detection data set, or a folder of images per class."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from lib.data.image_sets import DatasetError
from lib.data.roidb import Roidb
from lib.data.transforms import ImageError, read_image, to_tensor
from lib.data.workers import samples_of, start_worker

_SMALLEST = 16  # pixels; a box with a shorter side shows too little to learn a class from
_MARGIN = 1.2  # side of the square around an object, in its longer sides
_WHOLE = (-1.0, -1.0, -1.0, -1.0)  # stands for the whole image, whose size is known when it is read


@dataclass(frozen=True)
class Regions:
    """N places to learn a class from, each in one image.

    paths: the image files. boxes: (N, 4) float64, original pixels, inclusive corners; all -1 is the whole image.
    labels: (N,) int64 from 0. groups: (N,) int64, equal where images are of one video. names: of the labels.
    """

    paths: list[str]
    boxes: np.ndarray
    labels: np.ndarray
    groups: np.ndarray
    names: list[str]

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, rows: np.ndarray) -> Regions:
        """The regions that the mask `rows` selects."""
        paths = [path for path, wanted in zip(self.paths, rows, strict=True) if wanted]
        return Regions(paths, self.boxes[rows], self.labels[rows], self.groups[rows], self.names)


def regions_of_objects(roidb: Roidb, names: Sequence[str]) -> Regions:
    """The objects of an unmirrored `roidb` that are not tiny; `names` of its labels, from 1 on."""
    entries = np.repeat(np.arange(len(roidb)), np.diff(roidb.offsets))
    sides = roidb.boxes[:, 2:] - roidb.boxes[:, :2] + 1
    large = sides.min(axis=1) >= _SMALLEST
    paths = [roidb.image_path(entry, roidb.position(entry)[0]) for entry in range(len(roidb))]
    groups = np.unique(roidb.paths, return_inverse=True)[1].astype(np.int64)
    return Regions(
        [paths[entry] for entry in entries[large]],
        roidb.boxes[large].astype(np.float64),
        roidb.labels[large] - 1,
        groups[entries[large]],
        list(names),
    )


def regions_of_folder(root: str | os.PathLike) -> Regions:
    """The images of `root/<class>/...`, each as a whole. Raises DatasetError for a folder without such images."""
    from torchvision.datasets import ImageFolder  # slow to import, and only this needs it

    if not Path(root).is_dir():
        raise DatasetError(f"{root}: no such folder; give a data set or a folder with one folder of images per class")
    try:
        folder = ImageFolder(os.fspath(root))
    except FileNotFoundError as error:
        raise DatasetError(f"{root}: needs one folder of images for each class ({error})") from error
    paths = [path for path, _ in folder.samples]
    labels = np.array([label for _, label in folder.samples], np.int64)
    return Regions(paths, np.tile(_WHOLE, (len(paths), 1)), labels, np.arange(len(paths)), folder.classes)


def split(regions: Regions, every: int = 10) -> tuple[Regions, Regions]:
    """Training and held-out regions: of every `every` groups one is held out, and never part of a group.

    Raises DatasetError where there are fewer than two groups.
    """
    groups = np.unique(regions.groups)
    if len(groups) < 2:
        raise DatasetError(f"{len(regions)} crops of {len(groups)} images or videos: too few to hold some out")
    order = np.random.RandomState(0).permutation(len(groups))
    held_out = np.isin(regions.groups, groups[order[::every]] if len(groups) > every else groups[order[:1]])
    return regions[~held_out], regions[held_out]


@dataclass
class LabelledImages:
    """images: (B, 3, S, S) float32, R, G, B with the means subtracted. labels: (B,) int64 from 0."""

    images: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)

    def to(self, device: torch.device | str) -> LabelledImages:
        return replace(self, images=self.images.to(device), labels=self.labels.to(device))


class Crops(Dataset):
    """Square crops of `regions`; item `(epoch, index)` is an image (3, size, size) float32 and its label.

    With `augment`, place, shape, mirroring and colours are drawn from (seed, epoch, index); without, the crop is the
    region itself. means_bgr: subtracted, as in the detectors.
    """

    def __init__(
        self, regions: Regions, size: int, means_bgr: Sequence[float], augment: bool = False, seed: int = 0
    ) -> None:
        self.regions = regions
        self.size = size
        self.means_bgr = tuple(means_bgr)
        self.augment = augment
        self.seed = seed

    def __len__(self) -> int:
        return len(self.regions)

    def __getitem__(self, key: tuple[int, int]) -> tuple[Tensor, int] | ImageError:
        """An unreadable image is returned as its error: raised in a reader process it would arrive as a traceback."""
        epoch, index = key
        try:
            image = read_image(self.regions.paths[index])
        except ImageError as error:
            return error
        box = _square_around(self.regions.boxes[index], *image.shape[:2])
        rng = np.random.RandomState([self.seed, epoch, index])
        patch = _cut(image, _part_of(box, rng) if self.augment else box, self.size)
        if self.augment:
            patch = _recoloured(patch[:, ::-1] if rng.rand() < 0.5 else patch, rng)
        return to_tensor(patch, self.means_bgr), int(self.regions.labels[index])


def _square_around(box: np.ndarray, height: int, width: int) -> np.ndarray:
    """A square with a margin around `box`, clipped to the image; the image itself for a whole one. x1, y1, x2, y2,
    pixels, the last corner NOT inclusive."""
    if tuple(box) == _WHOLE:
        return np.array([0.0, 0.0, width, height])
    centre = (box[:2] + box[2:] + 1) / 2
    half = (box[2:] - box[:2] + 1).max() * _MARGIN / 2
    return np.concatenate((np.maximum(centre - half, 0), np.minimum(centre + half, (width, height))))


def _part_of(box: np.ndarray, rng: np.random.RandomState) -> np.ndarray:
    """A random part of `box`: 35% to 100% of its area, sides in proportions from 3:4 to 4:3 of its own."""
    area, stretch = rng.uniform(0.35, 1.0), np.exp(rng.uniform(-1, 1) * np.log(4 / 3) / 2)
    shares = np.minimum(np.sqrt(area) * np.array([stretch, 1 / stretch]), 1.0)
    sides = shares * (box[2:] - box[:2])
    corner = box[:2] + rng.rand(2) * (box[2:] - box[:2] - sides)
    return np.concatenate((corner, corner + sides))


def _cut(image: np.ndarray, box: np.ndarray, size: int) -> np.ndarray:
    """`box` of `image` (h, w, 3) resized to (size, size, 3)."""
    x1, y1 = np.floor(box[:2]).astype(int)
    x2, y2 = np.maximum(np.ceil(box[2:]).astype(int), (x1 + 1, y1 + 1))
    patch = image[y1:y2, x1:x2]
    shrinks = min(patch.shape[:2]) > size
    return cv2.resize(patch, (size, size), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)


def _recoloured(patch: np.ndarray, rng: np.random.RandomState) -> np.ndarray:
    """Brightness, contrast and saturation each times 0.6 to 1.4."""
    brightness, contrast, saturation = rng.uniform(0.6, 1.4, 3)
    colours = patch.astype(np.float32) * brightness
    colours = (colours - colours.mean()) * contrast + colours.mean()
    grey = colours.mean(axis=2, keepdims=True)
    return np.clip(np.rint((colours - grey) * saturation + grey), 0, 255).astype(np.uint8)


def _collate(items: list[tuple[Tensor, int] | ImageError]) -> LabelledImages | ImageError:
    errors = [item for item in items if isinstance(item, ImageError)]
    if errors:
        return errors[0]
    images, labels = zip(*items, strict=True)
    return LabelledImages(torch.stack(images), torch.tensor(labels))


def crop_loader(
    crops: Crops, epoch: int, batch: int, start_batch: int = 0, workers: int = 0, shuffle: bool = True
) -> Iterator[LabelledImages]:
    """The batches of `epoch` from batch `start_batch` on, in an order that (seed, epoch) fixes; the last may be short.

    Raises ImageError for the first image that cannot be used, ReaderError for a process that died.
    """
    order = np.random.RandomState([crops.seed, epoch]).permutation(len(crops)) if shuffle else np.arange(len(crops))
    starts = range(start_batch * batch, len(order), batch)
    loader = DataLoader(
        crops,
        batch_sampler=[[(epoch, int(index)) for index in order[start : start + batch]] for start in starts],
        num_workers=workers,
        collate_fn=_collate,
        worker_init_fn=start_worker,
    )
    return samples_of(loader)
