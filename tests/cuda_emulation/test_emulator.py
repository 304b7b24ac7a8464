"""The emulation itself: kernels without a fault give the right results in every order, planted faults are found."""

from __future__ import annotations

import ctypes
import re
import shutil

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from tests.cuda_emulation.build import build, planted_sources
from tests.cuda_emulation.emulator import ORDERS, Emulator

pytestmark = pytest.mark.skipif(shutil.which("g++") is None, reason="needs g++ to compile the kernels")

RACES = {
    "missing_barrier": r"shared memory 'values', byte \d+ is read at .*faulty.cu:11 and no thread .* has written it",
    "missing_second_barrier": "data race on shared memory 'values'",
    "missing_warp_barrier": "data race on shared memory 'values'",
    "lost_update": "data race on global memory: read at .*faulty.cu:33, after a write at .*faulty.cu:33 by thread",
    "racing_blocks": r"data race on global memory: write .* of block \(., 0, 0\), in thread .* of block \(1, 0, 0\)",
    "unwritten_shared": "no thread of the block has written it",
    "misaligned": "misaligned write of 8 bytes at .*faulty.cu:84",
    "beyond_shared": "write at .*faulty.cu:89, 0 bytes beyond the end of the dynamic shared memory of 252 bytes",
}
WAITING = {
    "two_barriers": r"wait at different barriers: __syncthreads \(.*faulty.cu:51\) .* __syncthreads \(.*faulty.cu:53\)",
    "half_a_warp": r"deadlock: .* waits at __syncwarp \(.*faulty.cu:59\); .* waits at __syncthreads \(.*faulty.cu:61\)",
    "foreign_mask": "is called by a lane that is not in its mask",
}
LAUNCHES = {
    "no_blocks": "a grid of 0 x 1 x 1 blocks is not allowed",
    "too_many_threads": "a block of 32 x 33 x 1 threads is not allowed",
    "too_much_shared_memory": "50176 bytes of dynamic shared memory are more than the 49152 allowed",
    "default_stream": "launched on the default stream",
    "unchecked_launch": "the launch of plain_kernel was not checked before the next one",
}
# The results of these depend on the order; the race, where there is one, is found in each order.
DEPENDING_ON_ORDER = (
    "missing_barrier", "missing_second_barrier", "racing_blocks", "unwritten_shared", "order_of_arrival", "absent_lane"
)  # fmt: skip


@pytest.fixture(scope="module")
def planted() -> Emulator:
    return Emulator(build(planted_sources()))


@pytest.fixture(params=ORDERS)
def run(request, planted):
    """Calls a planted function in one of the orders; a fault in it fails the test."""
    planted.configure(request.param, seed=3)

    def call(name: str, *arguments: Tensor | int) -> None:
        assert error_of(planted, name, *arguments) == ""

    return call


def error_of(emulator: Emulator, name: str, *arguments: Tensor | int) -> str:
    emulator.take_unchecked()
    given = [ctypes.c_void_p(a.data_ptr()) if isinstance(a, Tensor) else ctypes.c_int(a) for a in arguments]
    getattr(emulator.library, name)(*given)
    return emulator.take_error()


def faulty(emulator: Emulator, name: str, order: str, check_races: bool) -> tuple[str, list[int]]:
    """The error and the result of a planted fault."""
    emulator.configure(order, seed=3, check_races=check_races)
    out = torch.zeros(64, dtype=torch.int32)
    error = error_of(emulator, name, torch.arange(1, 65, dtype=torch.int32), out)
    return error, out.tolist()


def test_sums_of_blocks_by_shuffles(run):
    values = torch.arange(300.0)
    out = torch.zeros(3)
    run("sums", values, out, 300)
    assert out.tolist() == [values[:128].sum(), values[128:256].sum(), values[256:].sum()]


def test_returned_threads_are_not_waited_for(run):
    values, out = torch.arange(100, dtype=torch.int32), torch.zeros(100, dtype=torch.int32)
    run("reversed", values, out, 100)
    assert torch.equal(out, values.flip(0))


def test_three_dimensions(run):
    out = torch.zeros(3 * 2 * 4 * 5 * 2 * 3, dtype=torch.int64)
    run("numbers", out)
    assert torch.equal(out, torch.arange(len(out)))


def test_atomics(run):
    values = torch.randint(0, 100, (500,), generator=torch.Generator().manual_seed(0), dtype=torch.int32)
    counts, total = torch.zeros(8, dtype=torch.int32), torch.zeros(1)
    square, largest = torch.zeros(1, dtype=torch.float64), torch.zeros(1, dtype=torch.int64)
    run("counted", values, 500, counts, total, square, largest)
    assert torch.equal(counts, (values % 8).bincount(minlength=8).int())
    assert total.item() == values.sum()
    assert square.item() == (values.long() ** 2).sum()
    assert largest.item() == values.max()


def test_vectors_and_arithmetic(run):
    values = torch.randn(70, 4, generator=torch.Generator().manual_seed(0))
    out = torch.zeros_like(values)
    run("scaled", values, out, 70)
    x, y, z, w = values.unbind(1)
    expected = [x, 0.5 * y, torch.minimum(z.clamp(min=-1), w.clamp(max=1)), torch.exp(-w)]
    assert_close(out, torch.stack(expected, dim=1))


def test_lanes_of_a_warp(run):
    values = torch.randint(0, 100, (64,), generator=torch.Generator().manual_seed(0), dtype=torch.int32)
    scanned, summed, first, odd = (torch.zeros_like(values) for _ in range(4))
    run("lanes", values, scanned, summed, first, odd)
    assert torch.equal(scanned, values.view(8, 8).cumsum(1).int().flatten())
    warps = values.view(2, 32).long()
    assert torch.equal(summed, warps.sum(1).int().repeat_interleave(32))
    assert torch.equal(first, warps[:, 0].int().repeat_interleave(32))
    bits = ((warps & 1) << torch.arange(32)).sum(1)
    assert torch.equal(odd.long() & 0xFFFFFFFF, bits.repeat_interleave(32))


def test_halves_of_a_warp_vote_apart(run):
    out, agreed = torch.zeros(32, dtype=torch.int32), torch.zeros(32, dtype=torch.int32)
    run("halves", out, agreed)
    assert out.tolist() == [3] * 16 + [0] * 8 + [0] * 8
    assert agreed.tolist() == [112] * 24 + [0] * 8  # 12 odd threads, one is number 5, not all are below 23


def test_neighbours_by_shared_memory_of_a_warp(run):
    values, out = torch.arange(128, dtype=torch.int32), torch.zeros(128, dtype=torch.int32)
    run("neighbours", values, out)
    assert torch.equal(out, values ^ 1)


def test_block_that_comes_last(run):
    values, partial, done, out = torch.arange(5.0), torch.zeros(5), torch.zeros(1, dtype=torch.int32), torch.zeros(1)
    run("last_block", values, partial, done, out)
    assert out.item() == 10


def test_checked_launches(run):
    out = torch.tensor([7, 0, 0], dtype=torch.int32)
    run("two_checked_launches", out)
    assert out.tolist() == [7, 7, 7]


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("name", RACES)
def test_finds_the_race(planted, name, order):
    error, _ = faulty(planted, name, order, check_races=True)
    assert re.search(RACES[name], error), error


@pytest.mark.parametrize("name", DEPENDING_ON_ORDER)
def test_orders_disagree(planted, name):
    results = [faulty(planted, name, order, check_races=False) for order in ORDERS]
    assert [error for error, _ in results] == ["", "", ""]
    assert len({tuple(out) for _, out in results}) > 1


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("name", WAITING)
def test_reports_threads_that_wait_for_ever(planted, name, order):
    error, _ = faulty(planted, name, order, check_races=False)
    assert re.search(WAITING[name], error), error


def test_reports_a_block_that_waits_for_a_later_one(planted):
    error, _ = faulty(planted, "waiting_block", "forward", check_races=False)
    assert re.search("memory accesses without a barrier, the last at .*faulty.cu:78: it seems to wait", error), error


@pytest.mark.parametrize("name", LAUNCHES)
def test_refuses_the_launch(planted, name):
    error, _ = faulty(planted, name, "forward", check_races=False)
    assert re.search(LAUNCHES[name], error), error


def test_goes_on_after_an_error(planted):
    for _ in range(3):
        assert faulty(planted, "half_a_warp", "forward", check_races=True)[0]
        values, out = torch.arange(100, dtype=torch.int32), torch.zeros(100, dtype=torch.int32)
        assert error_of(planted, "reversed", values, out, 100) == ""
        assert torch.equal(out, values.flip(0))
