"""Order of an epoch and choice of reference frames, against the originals' recorded draws."""

from __future__ import annotations

import numpy as np
import pytest

from lib.config import load_config
from lib.data.sampling import epoch_order, no_references, one_reference, training_offsets, two_references


def _sizes(n):
    """Widths and heights as in the recording: landscape and portrait by turns, the last of an odd number square."""
    even = np.arange(n) % 2 == 0
    widths, heights = np.where(even, 100, 50), np.where(even, 50, 100)
    if n % 2:
        widths[-1] = heights[-1] = 60
    return widths, heights


@pytest.mark.parametrize(("n", "batch"), [(11, 1), (8, 4), (10, 4)])
def test_order_is_the_originals(golden, n, batch):
    expected = golden("loops_dff_public")[f"order_n{n}_batch{batch}_seed5"]
    assert (epoch_order(*_sizes(n), batch, np.random.RandomState(5)) == expected).all()


def test_without_a_tail_all_landscape_comes_first():
    order = epoch_order(*_sizes(40), 4, np.random.RandomState(0))
    assert (order[:20] % 2 == 0).all()
    assert (order[20:] % 2 == 1).all()
    assert sorted(order) == list(range(40))
    assert (order[:20] != np.sort(order[:20])).any()


def test_with_a_tail_whole_batches_change_places():
    order = epoch_order(*_sizes(42), 4, np.random.RandomState(0))
    portrait = (order[:40] % 2).reshape(-1, 4)
    mixed = (portrait.min(axis=1) != portrait.max(axis=1)).sum()
    assert mixed <= 1, "21 landscape images leave at most one batch that mixes"
    assert (np.diff(portrait[:, 0]) < 0).any(), "some landscape batch comes after a portrait one"
    assert sorted(order) == list(range(42))


def test_plain_orders():
    widths, heights = _sizes(30)
    assert (epoch_order(widths, heights, 4, np.random.RandomState(0), shuffle=False) == np.arange(30)).all()
    order = epoch_order(widths, heights, 4, np.random.RandomState(0), aspect_grouping=False)
    assert sorted(order) == list(range(30))
    assert len(set((order[:15] % 2).tolist())) == 2


@pytest.mark.parametrize(("method", "choose"), [("dff", one_reference), ("fgfa", two_references)])
def test_references_are_the_originals(golden, method, choose):
    """The recorded passes draw from one generator; stills (frame -1 in the recording) draw nothing."""
    recorded = golden(f"loops_{method}_public")
    rng = np.random.RandomState(int(recorded["sampling_seed"][0]))
    compared = 0
    for row in recorded["sampling_after_numpy_seed"]:
        frame, length, _ = recorded["sampling_roidb_seg"][row[0]]
        if frame >= 0:
            assert row[2] == frame
            expected = [row[4]] if method == "dff" else [row[4], row[6]]
            assert choose(int(frame), int(length), rng) == expected
            compared += 1
    assert compared == 36


def test_references_reach_both_ends_of_their_range():
    rng = np.random.RandomState(0)
    assert {one_reference(50, 100, rng)[0] for _ in range(500)} == set(range(41, 51))
    pairs = [two_references(50, 100, rng) for _ in range(1000)]
    assert {frame for pair in pairs for frame in pair} == set(range(41, 60))
    assert all(before != after for before, after in pairs)


def test_a_still_is_its_own_reference():
    rng = np.random.RandomState(0)
    assert no_references(0, 1, rng) == []
    assert all(one_reference(0, 1, rng) == [0] and two_references(0, 1, rng) == [0, 0] for _ in range(20))


def test_offsets_follow_the_reach_in_testing_unless_the_configuration_has_its_own(caplog):
    assert training_offsets(load_config(None), (-4, 4)) == (-4, 4)
    own = load_config(None, ["TRAIN.MIN_OFFSET=-3", "TRAIN.MAX_OFFSET=0"])
    assert training_offsets(own, (-4, 4)) == (-3, 0)
    assert not caplog.records
    assert training_offsets(own, (-2, 0)) == (-3, 0)
    assert "KEY_FRAME_INTERVAL" in caplog.text
