"""Training samples and batches: pixels, boxes, order, and that nothing but (seed, epoch, entry) decides them."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
import torch

from lib.config import default_config
from lib.data.classes import IMAGENET_VID
from lib.data.image_sets import DatasetError
from lib.data.loader import ReadingRule, TrainingLoader, TrainingSet, build_training_set, collate
from lib.data.roidb import load_roidb
from lib.data.sampling import no_references, one_reference, two_references
from lib.data.transforms import ImageError, Preprocessing
from tests.data.toy_vid import AIRPLANE, write_frame, write_list

MEANS = (10.0, 20.0, 30.0)


def _training_set(toy, choose=two_references, sets="DET_train+VID_train", **options):
    roidb = load_roidb(toy, sets, IMAGENET_VID, toy / "cache")
    return TrainingSet(roidb, Preprocessing(36, 100, MEANS), choose, **options)


def training_loader(training_set, epoch, start_batch=0, workers=0, **rule):
    return TrainingLoader(training_set, ReadingRule(workers, **rule))(epoch, start_batch)


def _network_input(path, flipped, short_side=36):
    """An independent reading of docs/rules.md, section 3."""
    image = cv2.imread(str(path))
    if flipped:
        image = np.ascontiguousarray(image[:, ::-1])
    scale = short_side / min(image.shape[:2])
    image = cv2.resize(image, None, None, fx=scale, fy=scale, interpolation=cv2.INTER_LINEAR)
    return (image[:, :, ::-1].astype(np.float64) - MEANS[::-1]).transpose(2, 0, 1).astype(np.float32), scale


@pytest.mark.parametrize("method", ["dff", "fgfa"])
def test_boxes_are_scaled_as_the_originals(recorded_vid, tmp_path, method):
    recorded, root = recorded_vid(method)
    roidb = load_roidb(root, "DET_train_30classes+VID_train_15frames", IMAGENET_VID, tmp_path)
    last = len(roidb) - 1
    for choose, snap, key in ((no_references, True, "getimage"), (one_reference, False, "getpair")):
        sample = TrainingSet(roidb, Preprocessing(48, 80, MEANS), choose, snap)[0, last]
        assert (sample.boxes[0].numpy() == recorded[f"{key}_boxes"]).all()
        assert (sample.im_info[0].numpy() == recorded["getimage_im_info"]).all()


def test_a_sample_holds_the_frame_and_its_references(toy):
    chosen = {}

    def choose(frame, length, rng):
        chosen[frame, length] = references = [min(frame + 1, length - 1), frame, 0]
        return references

    training_set = _training_set(toy, choose, round_boxes=False)
    for entry in range(len(training_set)):
        roidb = training_set.roidb
        sample = training_set[0, entry]
        current, length = roidb.position(entry)
        numbers = [current, *chosen[current, length]]
        assert sample.frames.shape[:3] == (1, 4, 3)
        for number, frame in zip(numbers, sample.frames[0], strict=True):
            expected, scale = _network_input(roidb.image_path(entry, number), roidb.flipped[entry])
            assert (frame.numpy() == expected).all()
        assert sample.im_info.tolist() == [[*sample.frames.shape[3:], pytest.approx(scale)]]
        assert sample.same_frame.tolist() == [[number == current for number in numbers[1:]]]
        np.testing.assert_allclose(sample.boxes[0], roidb.objects(entry)[0] * scale, rtol=1e-6)
        assert sample.labels[0].tolist() == roidb.objects(entry)[1].tolist()
        assert sample.boxes[0].dtype == torch.float32
        assert sample.labels[0].dtype == torch.int64
    assert len(chosen) == 5, "four frames of a video, and one case for all stills"


def test_a_single_frame_has_no_references(toy):
    sample = _training_set(toy, no_references)[0, 0]
    assert sample.frames.shape == (1, 1, 3, 54, 36)
    assert sample.same_frame.shape == (1, 0)
    assert sample.same_frame.dtype == torch.bool
    assert sample.boxes[0].tolist() == [[1, 2, 27, 36]], "1, 2, 30, 40 times 0.9, rounded"


def test_a_still_is_its_own_reference(toy):
    sample = _training_set(toy)[3, 1]
    assert sample.same_frame.tolist() == [[True, True]]
    assert (sample.frames[0, 1:] == sample.frames[0, 0]).all()


def test_batches_are_padded_at_the_right_and_bottom(toy):
    training_set = _training_set(toy, no_references)
    portrait, landscape = training_set[0, 0], training_set[0, 1]
    batch = collate([portrait, landscape])
    assert batch.frames.shape == (2, 1, 3, 54, 48)
    assert (batch.frames[0, :, :, :, :36] == portrait.frames[0]).all()
    assert (batch.frames[0, :, :, :, 36:] == 0).all()
    assert (batch.frames[1, :, :, :36] == landscape.frames[0]).all()
    assert (batch.frames[1, :, :, 36:] == 0).all()
    assert batch.im_info.tolist() == [[54, 36, pytest.approx(0.9)], [36, 48, 0.75]]
    assert [boxes.tolist() for boxes in batch.boxes] == [portrait.boxes[0].tolist(), landscape.boxes[0].tolist()]
    assert [labels.tolist() for labels in batch.labels] == [[1], [5]]
    assert len(batch) == 2


def _same(batch, other):
    fields = ("frames", "im_info", "same_frame")
    equal = all(torch.equal(getattr(batch, name), getattr(other, name)) for name in fields)
    lists = zip(batch.boxes + batch.labels, other.boxes + other.labels, strict=True)
    return equal and all(torch.equal(mine, theirs) for mine, theirs in lists)


def test_worker_processes_and_global_seeds_change_nothing(toy):
    training_set = _training_set(toy, batch_images=2)
    alone = list(TrainingLoader(training_set, ReadingRule())(1))
    np.random.seed(99)
    torch.manual_seed(99)
    state = torch.get_rng_state()
    for workers in (1, 2):
        batches = list(TrainingLoader(training_set, ReadingRule(workers))(1))
        assert len(batches) == len(alone) == training_set.batches_per_epoch == 6
        assert all(_same(*pair) for pair in zip(batches, alone, strict=True))
    assert torch.equal(torch.get_rng_state(), state), "reading draws nothing from the global generator"
    again = list(TrainingLoader(_training_set(toy, batch_images=2), ReadingRule())(1))
    assert all(_same(*pair) for pair in zip(again, alone, strict=True))


def test_an_epoch_goes_on_from_any_batch(toy):
    training_set = _training_set(toy, batch_images=2)
    whole = list(TrainingLoader(training_set, ReadingRule())(0))
    for start in (0, 1, 5, 6):
        rest = list(TrainingLoader(training_set, ReadingRule(start % 2))(0, start))
        assert len(rest) == 6 - start
        assert all(_same(*pair) for pair in zip(rest, whole[start:], strict=True))


def test_epochs_and_seeds_differ_in_order_and_references(toy):
    first, other = _training_set(toy), _training_set(toy, seed=1)
    orders = {tuple(training_set.batches(epoch).ravel()) for training_set in (first, other) for epoch in (0, 1)}
    assert len(orders) == 4
    assert all(sorted(order) == list(range(12)) for order in orders)
    draws = []
    spying = _training_set(toy, lambda frame, length, rng: draws.append(rng.randint(1 << 30)) or [frame])
    for key in ((0, 3), (1, 3), (0, 4), (0, 3)):
        spying[key]
    assert len(set(draws[:3])) == 3
    assert draws[3] == draws[0]


def test_what_does_not_fill_an_update_is_left_out(toy):
    training_set = _training_set(toy, batch_images=1, update_batches=5)
    assert len(training_set) == 12
    assert training_set.batches_per_epoch == 10
    assert training_set.batches(0).shape == (10, 1)
    assert len({int(entry) for entry in training_set.batches(0).ravel()}) == 10
    assert _training_set(toy, batch_images=5, update_batches=2).batches(0).shape == (2, 5)
    assert _training_set(toy, shuffle=False).batches(7).ravel().tolist() == list(range(12))
    with pytest.raises(DatasetError, match=r"12 training entries are fewer than one update takes \(4 batches of 4\)"):
        _training_set(toy, batch_images=4, update_batches=4)


@pytest.mark.parametrize("workers", [0, 1])
def test_unreadable_image_is_one_plain_error(toy, workers):
    training_set = _training_set(toy, no_references)
    (toy / "Data/DET/train/s/two.JPEG").write_bytes(b"rubbish")
    with pytest.raises(ImageError) as caught:
        list(TrainingLoader(training_set, ReadingRule(workers))(0))
    assert str(caught.value) == f"{toy}/Data/DET/train/s/two.JPEG: not a readable image (7 bytes); replace the file"


def test_a_frame_of_another_size_than_its_annotation_is_an_error(toy):
    """Its boxes would be mirrored in the wrong width."""
    path = toy / "Data/VID/train/a/000002.JPEG"
    height, width = cv2.imread(str(path)).shape[:2]
    cv2.imwrite(str(path), np.zeros((height, width - 1, 3), np.uint8))
    training_set = _training_set(toy, no_references, sets="VID_train")
    samples = (lambda: training_set[0, 1], lambda: list(TrainingLoader(training_set, ReadingRule(1))(0)))
    for read in samples:
        with pytest.raises(ImageError) as caught:
            read()
        assert f"{path}: has {width - 1} x {height} pixels, but its annotation says {width} x {height}" in str(
            caught.value
        )


def test_a_reference_of_another_size_is_an_error(toy):
    write_frame(toy, "VID/train/a/000001", [(AIRPLANE, (1, 1, 5, 5))], (40, 64))
    training_set = _training_set(toy, lambda frame, length, rng: [1], sets="VID_train")
    with pytest.raises(ImageError, match=r"000001\.JPEG: its size is not that of frame 0; all frames of a video"):
        training_set[0, 0]


def test_the_configuration_reaches_the_training_set(toy):
    cfg = default_config()
    cfg.SCALES, cfg.network.PIXEL_MEANS = [[36, 100]], list(MEANS)
    cfg.dataset.update(dataset_path=str(toy), root_path=str(toy / "elsewhere"), image_set="VID_train")
    cfg.TRAIN.update(BATCH_IMAGES=2, BATCHES_PER_UPDATE=2, SEED=3, FLIP=False, SHUFFLE=True)
    training_set = build_training_set(cfg, IMAGENET_VID, no_references, round_boxes=True)
    assert len(training_set) == 4
    assert training_set.batches_per_epoch == 2
    assert (toy / "elsewhere" / "cache").is_dir()
    assert training_set.round_boxes
    assert not build_training_set(cfg, IMAGENET_VID, one_reference, round_boxes=False).round_boxes
    expected = _training_set(toy, no_references, "VID_train", batch_images=2)
    assert _same(training_set[0, 2], expected[0, 2])


def test_two_column_sets_train_too(toy):
    write_list(toy, "VID_x", ["val/b/000001 2", "train/a/000004 9"])
    sample = _training_set(toy, sets="VID_x")[0, 1]
    assert sample.same_frame.all()
    assert sample.labels[0].tolist() == [1]
