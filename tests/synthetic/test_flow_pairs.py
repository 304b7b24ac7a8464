"""Pairs of frames with flow: their flow against what the pictures show, cells against a slow loop, batches."""

import itertools

import cv2
import numpy as np
import pytest
import torch

from lib.data.image_sets import DatasetError
from lib.ops import flow_warp
from lib.pretraining.flow_loader import FlowLoader, FlowPairs, batch_of
from lib.synthetic.casting import Settings, make_clip
from lib.synthetic.cutouts import Cutouts
from lib.synthetic.flow_pairs import (
    LIFE,
    ClipPairs,
    FlowPair,
    flow_in_cells,
    held_out_pairs,
    in_use,
    things_in_cells,
    varied,
)

SETTINGS = Settings(classes=3, width=128, height=96, frames=12, seed=5)


def randomness(seed=0):
    return np.random.default_rng(seed)


def read(pair):
    """The reference frame where the flow points to."""
    y, x = np.mgrid[0 : pair.flow.shape[1], 0 : pair.flow.shape[2]].astype(np.float32)
    return cv2.remap(pair.reference, x + pair.flow[0], y + pair.flow[1], cv2.INTER_LINEAR).astype(np.float32)


@pytest.fixture
def shifted():
    """Noise 64 x 96 that moves by (-16, 32) pixels, a whole number of cells; what comes in from outside is black."""
    reference = randomness().integers(1, 255, (64, 96, 3), dtype=np.uint8)
    current = np.zeros_like(reference)
    current[:-32, 16:] = reference[32:, :-16]
    flow = np.empty((2, 64, 96), np.float32)
    flow[0], flow[1] = -16, 32
    return FlowPair(current, reference, flow, np.zeros((64, 96), np.int16))


@pytest.mark.parametrize("size", [(48, 64), (50, 61), (7, 9)])
def test_cells_follow_the_definition(size):
    height, width = size
    layers = np.kron(randomness(1).integers(0, 4, (-(-height // 5), -(-width // 5))), np.ones((5, 5), int))
    layers = layers[:height, :width]
    flow = randomness(2).normal(0, 20, (2, *size)).astype(np.float32)
    found = flow_in_cells(flow, layers)
    assert found.dtype == np.float32
    assert found.shape == (2, -(-height // 16), -(-width // 16))
    for row, column in itertools.product(*map(range, found.shape[1:])):
        block = slice(16 * row, 16 * row + 16), slice(16 * column, 16 * column + 16)
        counts = {n: (layers[block] == n).sum() * (1 if n == 0 else 2) for n in range(4)}
        thing = max(counts, key=counts.get)
        assert things_in_cells(layers)[row, column] == thing
        expected = [component[block][layers[block] == thing].astype(np.float64).mean() / 16 for component in flow]
        np.testing.assert_allclose(found[:, row, column], expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("rows", "wins"), [(5, False), (6, True), (16, True)])
def test_an_object_wins_in_a_cell_from_a_third_on(rows, wins):
    layers, flow = np.zeros((16, 16), np.int16), np.zeros((2, 16, 16), np.float32)
    layers[:rows], flow[:, :rows] = 3, 32.0
    assert flow_in_cells(flow, layers).flatten().tolist() == ([2.0, 2.0] if wins else [0.0, 0.0])


def test_without_layers_a_cell_does_what_most_of_its_pixels_do():
    flow = np.zeros((2, 20, 16), np.float32)
    flow[:, :9], flow[:, 16:] = 32.0, -16.0
    np.testing.assert_array_equal(flow_in_cells(flow, None)[:, :, 0], [[2.0, -1.0]] * 2)


def test_flow_in_cells_is_what_flow_warp_reads(shifted):
    batch = batch_of([shifted])
    images = batch.images[0].float()
    current, reference = torch.nn.functional.avg_pool2d(images, 16)[:, None]  # (1, 3, 4, 6)
    torch.testing.assert_close(flow_warp(reference, batch.flow_cells), current, rtol=1e-5, atol=1e-3)
    assert not batch.objects.any()


def test_pictures_arrive_red_first(shifted):
    current, reference = batch_of([shifted, shifted]).images[1].numpy()
    np.testing.assert_array_equal(current.transpose(1, 2, 0), cv2.cvtColor(shifted.current, cv2.COLOR_BGR2RGB))
    np.testing.assert_array_equal(reference.transpose(1, 2, 0), cv2.cvtColor(shifted.reference, cv2.COLOR_BGR2RGB))


def test_mirrored_pairs_keep_their_meaning(shifted):
    shifted.layers[:10, :20] = 7
    kinds = set()
    for seed in range(24):
        pair = varied(shifted, randomness(seed))
        kinds.add((float(pair.flow[0, 0, 0]), float(pair.flow[1, 0, 0])))
        np.testing.assert_array_equal(read(pair), pair.current)
        assert (pair.current[pair.layers == 7].astype(int).sum()) == shifted.current[:10, :20].astype(int).sum()
    assert kinds == set(itertools.product((-16.0, 16.0), (-32.0, 32.0)))


def test_items_of_a_pool_are_reused_and_are_never_in_two_slots():
    slots = 8
    seen: dict[int, list[int]] = {}
    for number in range(0, 4 * LIFE, 64):
        now = [in_use(slot, slots, number) for slot in range(slots)]
        assert len(set(now)) == slots
        for thing in now:
            seen.setdefault(thing, []).append(number)
    renewed = sorted(numbers[0] for numbers in seen.values())
    assert len(seen) == pytest.approx(5 * slots, abs=slots)
    assert np.bincount(np.array(renewed[slots:]) // 64).max() == 1  # one after the other
    assert all(numbers[-1] - numbers[0] < LIFE for numbers in seen.values())


def test_cutouts_read_along_their_flow_are_the_current_picture():
    worse, better, moving = [], [], []
    for number in range(8):
        pair = Cutouts(144, 192, seed=3).pair(number, randomness(number), clean=True)
        edges = cv2.dilate(cv2.morphologyEx(pair.layers, cv2.MORPH_GRADIENT, np.ones((3, 3))), np.ones((3, 3))) > 0
        inside = cv2.remap(
            np.ones((144, 192), np.uint8),
            *(np.mgrid[0:144, 0:192].astype(np.float32)[::-1] + pair.flow),
            cv2.INTER_NEAREST,
        )
        counted = (inside > 0) & ~edges
        assert np.isfinite(pair.flow).all()
        for numbers, picture in ((better, read(pair)), (worse, pair.reference.astype(np.float32))):
            numbers.append(np.abs(picture - pair.current)[counted].mean(axis=1))
        moving.append(np.hypot(*pair.flow)[counted])
        assert set(np.unique(pair.layers)) - {0}, "objects are to be seen"
    assert np.median(np.concatenate(better)) < 4  # grey values, of two interpolations of fine grain
    assert np.median(np.concatenate(better)) < 0.3 * np.median(np.concatenate(worse))
    assert np.mean(np.concatenate(moving) > 1) > 0.9


def test_objects_of_cutouts_move_against_the_background():
    ways = []
    for number in range(12):
        pair = Cutouts(144, 192, seed=3).pair(number, randomness(number))
        background = pair.flow[:, pair.layers == 0].mean(axis=1)
        for layer in set(np.unique(pair.layers)) - {0}:
            ways.append(np.linalg.norm(pair.flow[:, pair.layers == layer].mean(axis=1) - background))
    assert len(ways) > 24
    assert np.median(ways) > 6  # pixels of 144


def test_pairs_depend_on_seed_and_number_only():
    pairs = [
        Cutouts(64, 80, seed).pair(number, randomness(number)) for seed, number in ((0, 1), (0, 1), (1, 1), (0, 2))
    ]
    assert (pairs[0].current == pairs[1].current).all()
    assert (pairs[0].flow == pairs[1].flow).all()
    assert (pairs[0].current != pairs[2].current).any()
    assert (pairs[0].current != pairs[3].current).any()


def test_pairs_of_clips_are_frames_of_the_training_clips_at_most_nine_apart():
    clips = [make_clip(SETTINGS, "train", index) for index in range(2)]
    frames = [(c, t, clip.image(t)) for c, clip in enumerate(clips) for t in range(clip.frames)]
    apart = set()
    for number in range(40):
        pair = ClipPairs(SETTINGS, clips=2).pair(number, randomness(number))
        (c1, current), (c2, reference) = (
            next((c, t) for c, t, image in frames if (image == wanted).all())
            for wanted in (pair.current, pair.reference)
        )
        assert c1 == c2
        np.testing.assert_array_equal(pair.flow, clips[c1].flow(current, reference).flow)
        apart.add(reference - current)
    assert min(apart) < -5
    assert max(apart) > 5
    assert max(map(abs, apart)) <= 9


def test_held_out_pairs_are_of_other_clips_and_come_before():
    pairs = held_out_pairs(SETTINGS, 2, first=1, of_each=3)
    assert len(pairs) == 6
    for index, pair in enumerate(pairs):
        clip = make_clip(SETTINGS, "val", 1 + index // 3)
        flows = {(i, j): clip.flow(i, j).flow for i in range(12) for j in range(i)}
        assert any((pair.flow == flow).all() for flow in flows.values())
        assert np.abs(pair.current.astype(int) - pair.reference).max() > 0
    again = held_out_pairs(SETTINGS, 2, first=1, of_each=3)
    assert all((a.current == b.current).all() for a, b in zip(pairs, again, strict=True))


def test_batches_do_not_depend_on_workers_or_on_where_a_training_stopped():
    def loader(workers=0, seed=0):
        sources = [(Cutouts(64, 80, 0), 2.0), (ClipPairs(Settings(width=80, height=64, frames=4)), 1.0)]
        return FlowLoader(FlowPairs(sources, seed), batches=3, batch=2, workers=workers)

    whole = list(loader()(1))
    again = loader(workers=1)
    next(again(0))  # left there, as a training that is stopped leaves it
    later = list(again(1, 1))
    assert [len(batch) for batch in whole] == [2, 2, 2]
    assert [len(batch) for batch in later] == [2, 2]
    for a, b in zip(whole[1:], later, strict=True):
        assert all(torch.equal(x, y) for x, y in zip(vars(a).values(), vars(b).values(), strict=True))
    for other in (loader()(2), loader(seed=1)(1)):
        assert not torch.equal(whole[0].images, next(other).images)
    assert whole[0].images.shape == (2, 2, 3, 64, 80)
    assert whole[0].flow_cells.shape == (2, 2, 4, 5)


class _Sources:
    """Says by which of two sources a pair was made, and fails from some number on."""

    def __init__(self, value, fails_at=10**9):
        self.value, self.fails_at = value, fails_at

    def pair(self, number, vary):
        if number >= self.fails_at:
            raise DatasetError(f"some/file_{number}: damaged")
        image = np.full((16, 16, 3), self.value, np.uint8)
        return FlowPair(image, image, np.zeros((2, 16, 16), np.float32), None)


def test_sources_are_drawn_by_their_shares():
    pairs = FlowPairs([(_Sources(1), 3.0), (_Sources(2), 1.0)], seed=0)
    values = np.array([int(pairs[number].images[0, 0, 0, 0, 0]) for number in range(1200)])
    assert np.mean(values == 2) == pytest.approx(0.25, abs=0.05)


@pytest.mark.parametrize("workers", [0, 1])
def test_a_pair_that_cannot_be_made_is_named(workers):
    loader = FlowLoader(FlowPairs([(_Sources(1, fails_at=5), 1.0)], 0), batches=4, batch=2, workers=workers)
    with pytest.raises(DatasetError, match=r"^some/file_5: damaged$"):
        list(loader(0))
