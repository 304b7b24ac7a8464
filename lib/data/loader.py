"""Training samples and batches: which pixels and boxes a network sees at step k of epoch e.

Everything follows from (seed, epoch, entry): the number of reader processes changes nothing, and a run can go on from
any batch of any epoch.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from lib.config import Config
from lib.data.classes import Classes
from lib.data.frame_files import FrameFilesError
from lib.data.image_sets import DatasetError
from lib.data.roidb import Roidb, load_roidb
from lib.data.sampling import ChooseReferences, epoch_order, no_references
from lib.data.transforms import ImageError, Preprocessing, read_image, require_size, scale_boxes
from lib.data.workers import samples_of, start_worker
from lib.errors import InputError
from lib.structures import Frame, TrainingBatch

_LOGGER = logging.getLogger(__name__)
_MOST_SKIPPED = 100  # images in a row that may be left out


class FrameCache:
    """Decoded images of at most `megabytes` (of a million bytes) in all: the first ones that are put into it.

    None is replaced: an epoch reads every image once, in an order of its own, and the image that was not read for the
    longest time is as likely to come next as any other.
    """

    def __init__(self, megabytes: float) -> None:
        self._room = int(megabytes * 1e6)  # bytes
        self._images: dict[str, np.ndarray] = {}

    def get(self, path: str) -> np.ndarray | None:
        """The (H, W, 3) uint8 BGR image of the file at `path`, None if it is not kept."""
        return self._images.get(path)

    def put(self, path: str, image: np.ndarray) -> None:
        """Keep `image` where there is room for it."""
        if path not in self._images and image.nbytes <= self._room:
            self._room -= image.nbytes
            self._images[path] = image


class TrainingSet(Dataset):
    """Training samples, each a `TrainingBatch` of one; item `(epoch, entry)`.

    roidb: the entries. choose_references: the method's rule for reference frames (`lib.data.sampling`).
    round_boxes: round and clip the scaled boxes: the originals load a single image by another function than a pair or a
    triple, and only that one rounds. batch_images: samples of a batch.
    update_batches: batches of one update; the order of an epoch is made for whole updates, as the originals' was
    for all GPUs together.
    """

    def __init__(
        self,
        roidb: Roidb,
        preprocessing: Preprocessing,
        choose_references: ChooseReferences = no_references,
        round_boxes: bool = True,
        batch_images: int = 1,
        update_batches: int = 1,
        shuffle: bool = True,
        aspect_grouping: bool = True,
        seed: int = 0,
    ) -> None:
        if len(roidb) < batch_images * update_batches:
            raise DatasetError(
                f"{len(roidb)} training entries are fewer than one update takes "
                f"({update_batches} batches of {batch_images}); lower TRAIN.BATCH_IMAGES or TRAIN.BATCHES_PER_UPDATE"
            )
        self.roidb = roidb
        self.preprocessing = preprocessing
        self.choose_references = choose_references
        self.round_boxes = round_boxes
        self.batch_images = batch_images
        self.update_batches = update_batches
        self.shuffle = shuffle
        self.aspect_grouping = aspect_grouping
        self.seed = seed
        self.cache = FrameCache(0.0)

    def __len__(self) -> int:
        """Number of entries, mirrored copies included."""
        return len(self.roidb)

    @property
    def batches_per_epoch(self) -> int:
        """Batches of one epoch; entries that do not fill an update are left out of it."""
        return len(self) // (self.batch_images * self.update_batches) * self.update_batches

    def batches(self, epoch: int) -> np.ndarray:
        """The entries of every batch of `epoch`: (batches_per_epoch, batch_images) int64."""
        update = self.batch_images * self.update_batches
        rng = np.random.RandomState([self.seed, epoch])
        order = epoch_order(self.roidb.widths, self.roidb.heights, update, rng, self.shuffle, self.aspect_grouping)
        return order[: self.batches_per_epoch * self.batch_images].reshape(-1, self.batch_images)

    def __getitem__(self, key: tuple[int, int]) -> TrainingBatch:
        """Sample `(epoch, entry)`: frames (1, T, 3, H, W). Raises ImageError naming an image that cannot be used."""
        epoch, entry = key
        rng = np.random.RandomState([self.seed, epoch, entry])
        current, length = self.roidb.position(entry)
        references = self.choose_references(current, length, rng)
        read = {number: self._frame(entry, number) for number in {current, *references}}
        frame = read[current]
        for number in references:
            if read[number].image.shape != frame.image.shape:
                raise ImageError(
                    f"{self.roidb.image_path(entry, number)}: its size is not that of frame {current}; "
                    "all frames of a video must have one size"
                )
        boxes, labels = self.roidb.objects(entry)
        height, width = frame.image.shape[1:]
        return TrainingBatch(
            frames=torch.stack([read[number].image for number in (current, *references)])[None],
            im_info=frame.im_info[None],
            boxes=[torch.from_numpy(scale_boxes(boxes, frame.scale, height, width, self.round_boxes))],
            labels=[torch.from_numpy(labels.copy())],
            same_frame=torch.tensor([[number == current for number in references]], dtype=torch.bool).reshape(1, -1),
        )

    def _frame(self, entry: int, number: int) -> Frame:
        path = self.roidb.image_path(entry, number)
        image = self.cache.get(path)
        if image is None:
            image = read_image(path)
            if number == self.roidb.position(entry)[0]:  # the size in the annotation is of this frame
                require_size(image, self.roidb.heights[entry], self.roidb.widths[entry], path)
            self.cache.put(path, image)
        return self.preprocessing(cv2.flip(image, 1) if self.roidb.flipped[entry] else image)


def build_training_set(
    cfg: Config, classes: Classes, choose_references: ChooseReferences, round_boxes: bool
) -> TrainingSet:
    """The training set that `cfg` describes, for a method whose reference frames `choose_references` picks.

    round_boxes: see `TrainingSet`.
    """
    roidb = load_roidb(
        cfg.dataset.dataset_path,
        cfg.dataset.image_set,
        classes,
        os.path.join(cfg.dataset.root_path, "cache"),
        cfg.TRAIN.FLIP,
    )
    return TrainingSet(
        roidb,
        Preprocessing.from_config(cfg),
        choose_references,
        round_boxes,
        batch_images=cfg.TRAIN.BATCH_IMAGES,
        update_batches=cfg.TRAIN.BATCHES_PER_UPDATE,
        shuffle=cfg.TRAIN.SHUFFLE,
        aspect_grouping=cfg.TRAIN.ASPECT_GROUPING,
        seed=cfg.TRAIN.SEED,
    )


def collate(samples: Sequence[TrainingBatch]) -> TrainingBatch:
    """One batch of several; frames get zeros at the right and bottom up to the largest height and width."""
    height, width = (max(sample.frames.shape[axis] for sample in samples) for axis in (3, 4))
    frames = samples[0].frames.new_zeros((len(samples), *samples[0].frames.shape[1:3], height, width))
    for padded, sample in zip(frames, samples, strict=True):
        padded[..., : sample.frames.shape[3], : sample.frames.shape[4]] = sample.frames[0]
    return TrainingBatch(
        frames=frames,
        im_info=torch.cat([sample.im_info for sample in samples]),
        boxes=[boxes for sample in samples for boxes in sample.boxes],
        labels=[labels for sample in samples for labels in sample.labels],
        same_frame=torch.cat([sample.same_frame for sample in samples]),
    )


@dataclass
class ReadingRule:
    """How samples are read.

    workers: processes that read; 0: this process does. prefetch: batches that each of them reads ahead. pin: put
    batches into pinned memory, from where a GPU fetches them without waiting. skip_corrupt: an image that cannot be
    read is replaced by the next training entry and counted, instead of raising ImageError. cache_mb: megabytes of
    decoded frames that each process keeps.
    """

    workers: int = 0
    prefetch: int = 2
    pin: bool = False
    skip_corrupt: bool = False
    cache_mb: float = 0.0

    @staticmethod
    def from_config(cfg: Config, pin: bool) -> ReadingRule:
        train = cfg.TRAIN
        return ReadingRule(train.WORKERS, train.PREFETCH, pin, train.CORRUPT_IMAGES == "skip", train.CACHE_MB)


class TrainingLoader:
    """Calling it with (epoch, first batch) gives the rest of that epoch's batches, in order.

    The reader processes stay from one epoch to the next. share: (rank, size), of several processes that train together:
    of the batches of each update, this one gets the rank-th of `size` equal parts; the first batch is counted over all.
    `skipped` counts the images that could not be read (`ReadingRule.skip_corrupt`).
    Raises ImageError for the first image that cannot be used, ReaderError where a reader process dies.
    """

    def __init__(self, training_set: TrainingSet, rule: ReadingRule, share: tuple[int, int] = (0, 1)) -> None:
        training_set.cache = FrameCache(rule.cache_mb)
        self.training_set, self.share, self.skipped = training_set, share, 0
        self._batches = _Batches()
        self._loader = DataLoader(
            _Samples(training_set, rule.skip_corrupt),
            batch_sampler=self._batches,
            num_workers=rule.workers,
            persistent_workers=rule.workers > 0,
            prefetch_factor=rule.prefetch if rule.workers else None,
            pin_memory=rule.pin,
            collate_fn=_collate_or_error,
            worker_init_fn=start_worker,
            generator=torch.Generator(),  # of its own, so that reading draws nothing from torch's global one
        )

    def __call__(self, epoch: int, start_batch: int = 0) -> Iterator[TrainingBatch]:
        rank, size = self.share
        update = self.training_set.update_batches
        each = update // size
        batches = self.training_set.batches(epoch)[start_batch:]
        mine = batches.reshape(-1, update, self.training_set.batch_images)[:, rank * each : (rank + 1) * each]
        self._batches.listed = [[(epoch, int(entry)) for entry in batch] for updates in mine for batch in updates]
        for batch, skipped in samples_of(self._loader):
            for problem in skipped:
                self.skipped += 1
                _LOGGER.warning("%s; left out (%d so far)", problem, self.skipped)
            yield batch


class _Batches:
    """The entries of each batch that is still to come; set anew for every epoch."""

    def __init__(self) -> None:
        self.listed: list[list[tuple[int, int]]] = []

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        return iter(self.listed)

    def __len__(self) -> int:
        return len(self.listed)


Sample = tuple[TrainingBatch | InputError, list[str]]  # with what was left out for it


class _Samples(Dataset):
    """`training_set`, with errors as values: one raised in a reader process would arrive wrapped in a traceback."""

    def __init__(self, training_set: TrainingSet, skip_corrupt: bool) -> None:
        self.training_set, self.skip_corrupt = training_set, skip_corrupt

    def __getitem__(self, key: tuple[int, int]) -> Sample:
        epoch, entry = key
        skipped: list[str] = []
        while True:
            try:
                return self.training_set[epoch, entry], skipped
            except (ImageError, FrameFilesError) as error:
                if not self.skip_corrupt or len(skipped) == _MOST_SKIPPED:
                    return error, skipped
                skipped.append(str(error))
                entry = (entry + 1) % len(self.training_set)


def _collate_or_error(samples: Sequence[Sample]) -> Sample | InputError:
    skipped = [problem for _, problems in samples for problem in problems]
    errors = [sample for sample, _ in samples if isinstance(sample, InputError)]
    return errors[0] if errors else (collate([sample for sample, _ in samples]), skipped)
