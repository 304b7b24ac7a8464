"""How samples are read: images that cannot be, cached frames, processes that share a training, readers that stay."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import lib.data.loader
from lib.data.classes import IMAGENET_VID
from lib.data.loader import FrameCache, ReadingRule, TrainingLoader, TrainingSet
from lib.data.roidb import load_roidb
from lib.data.transforms import ImageError, Preprocessing

BROKEN = "Data/DET/train/s/two.JPEG"


def training_set(toy, **options):
    roidb = load_roidb(toy, "DET_train+VID_train", IMAGENET_VID, toy / "cache")
    return TrainingSet(roidb, Preprocessing(36, 100, (10.0, 20.0, 30.0)), **options)


def frames_of(batches):
    return [batch.frames for batch in batches]


@pytest.mark.parametrize("workers", [0, 1])
def test_a_corrupt_image_gives_its_place_to_the_next_entry_and_is_counted(toy, caplog, workers):
    data = training_set(toy)
    order = data.batches(0).ravel().tolist()
    (toy / BROKEN).write_bytes(b"rubbish")
    bad = [entry for entry in order if data.roidb.image_path(entry, 0) == str(toy / BROKEN)]
    assert len(bad) == 2, "the frame and its mirrored copy"
    loader = TrainingLoader(data, ReadingRule(workers, skip_corrupt=True))
    found = frames_of(loader(0))
    wanted = [data[0, (entry + 1) % len(data) if entry in bad else entry].frames for entry in order]
    assert all(torch.equal(*pair) for pair in zip(found, wanted, strict=True))
    assert loader.skipped == 2
    assert caplog.text.count("two.JPEG: not a readable image (7 bytes); replace the file; left out (") == 2


def test_a_set_of_corrupt_images_ends(toy, monkeypatch):
    """Instead of being looked through for one that can be read."""
    monkeypatch.setattr(lib.data.loader, "_MOST_SKIPPED", 5)
    data = training_set(toy)
    for path in (toy / "Data").rglob("*.JPEG"):
        path.write_bytes(b"rubbish")
    with pytest.raises(ImageError, match="not a readable image"):
        list(TrainingLoader(data, ReadingRule(skip_corrupt=True))(0))


def test_the_cache_keeps_the_first_frames_that_fit():
    images = [np.full((10, 10, 3), value, np.uint8) for value in range(3)]  # of 300 bytes
    cache = FrameCache(700 / 1e6)
    cache.put("large", np.zeros((20, 20, 3), np.uint8))
    for number in (0, 1, 1, 2):
        cache.put(str(number), images[number])
    assert cache.get("0") is images[0]
    assert cache.get("1") is images[1]
    assert cache.get("2") is cache.get("large") is None


def test_cached_frames_give_the_same_samples_and_are_read_once(toy, monkeypatch):
    data = training_set(toy)
    plain = [frames_of(TrainingLoader(data, ReadingRule())(epoch)) for epoch in (0, 1)]
    read, whole = [], lib.data.loader.read_image
    monkeypatch.setattr(lib.data.loader, "read_image", lambda path: read.append(path) or whole(path))
    loader = TrainingLoader(data, ReadingRule(cache_mb=10))
    for epoch in (0, 1):
        assert all(torch.equal(*pair) for pair in zip(frames_of(loader(epoch)), plain[epoch], strict=True))
    assert len(read) == len(set(read)) == 6, "two stills and four frames, each mirrored, in two epochs"


@pytest.mark.parametrize("size", [2, 4])
def test_processes_share_every_update_of_one(toy, size):
    """In order: an update's batches are those of process 0, then of process 1, and so on."""
    data = training_set(toy, update_batches=4)
    whole = frames_of(TrainingLoader(data, ReadingRule())(0))
    assert len(whole) == 12
    shares = [frames_of(TrainingLoader(data, ReadingRule(), (rank, size))(0)) for rank in range(size)]
    each = 4 // size
    for number, frames in enumerate(whole):
        update, place = divmod(number, 4)
        assert torch.equal(shares[place // each][update * each + place % each], frames)
    resumed = frames_of(TrainingLoader(data, ReadingRule(), (1, size))(0, 4))
    assert all(torch.equal(*pair) for pair in zip(resumed, shares[1][each:], strict=True))


def test_readers_stay_from_one_epoch_to_the_next(toy):
    loader = TrainingLoader(training_set(toy), ReadingRule(workers=2))
    processes = []
    for epoch in (0, 1):
        assert len(list(loader(epoch))) == 12
        processes.append([worker.pid for worker in loader._loader._iterator._workers])
    assert processes[0] == processes[1]
