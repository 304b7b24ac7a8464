"""The loops that are compiled for several instruction sets give the same bits on each of them."""

from __future__ import annotations

import ctypes
import platform
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

CSRC = Path(__file__).resolve().parents[2] / "csrc"
FLAGS = ("-std=c++20", "-O3", "-shared", "-fPIC", "-fno-trapping-math", "-fno-math-errno", f"-I{CSRC}")
SETS = {"scalar": ("-fno-tree-vectorize",), "sse2": (), "avx2": ("-mavx2",), "avx512f": ("-mavx512f",)}
COUNTS = (1, 15, 16, 17, 64, 99, 512, 1000)  # of channels: with and without a rest after groups of 16
DRIVER = """
#include "cpu/aggregate_loops.h"
#include "cpu/psroi_vote_loops.h"
#include "cpu/quantize_loops.h"
#include <vector>
extern "C" void run(const {type}* cells, const {type}* weights, const {type}* other, long count, {type}* out) {{
  vod::Sample<{type}, {type}> sample;
  for (int k = 0; k < 4; ++k) {{ sample.cell[k] = cells + k * count; sample.weight[k] = weights[k]; }}
  vod::Lanes<{type}> lanes, squares;
  vod::add_products(sample, other, count, lanes);
  vod::add_squares(other, count, squares);
  out[0] = vod::sum_of_lanes(lanes.dot);
  out[1] = vod::sum_of_lanes(lanes.square);
  out[2] = vod::sum_of_lanes(squares.square);
  vod::read_sample(sample, count, out + 3);
  std::copy(other, other + count, out + 3 + count);
  vod::add_weighted(sample, weights[1], count, out + 3 + count);
  vod::read_scaled_sample(sample, other, count, out + 3 + 2 * count);
  std::copy(other, other + count, out + 3 + 3 * count);
  {type}* work = out + 3 + 4 * count;
  vod::add_means(vod::Cells<{type}>{{cells, 2, 2, 2 * count, count}}, count, work, out + 3 + 3 * count);
  const auto* words = reinterpret_cast<const uint16_t*>(cells);
  std::vector<uint8_t> rounded(count);
  vod::divide_and_round(words, count, 0.37f, 0.f, rounded.data());
  std::copy(rounded.begin(), rounded.end(), out + 3 + 5 * count);
  out[3 + 6 * count] = vod::largest_magnitude(words, count);
}}
"""

pytestmark = pytest.mark.skipif(
    shutil.which("g++") is None or platform.machine() != "x86_64", reason="needs g++ on an x86-64 processor"
)


@pytest.fixture(scope="module")
def run_loops(tmp_path_factory):
    folder = tmp_path_factory.mktemp("loops")

    def results(dtype: str, flags: tuple[str, ...]) -> list[np.ndarray]:
        kind = {"float32": "float", "float64": "double"}[dtype]
        library = folder / f"{'_'.join((kind, *flags))}.so"
        source = library.with_suffix(".cpp")
        source.write_text(DRIVER.format(type=kind))
        subprocess.run(["g++", *FLAGS, *flags, str(source), "-o", str(library)], check=True)
        run, random, out = ctypes.CDLL(str(library)).run, np.random.RandomState(0), []
        for count in COUNTS:
            arrays = [random.standard_normal(n).astype(dtype) for n in (4 * count, 4, count)]
            out.append(np.zeros(4 + 6 * count, dtype))
            pointers = [array.ctypes.data_as(ctypes.c_void_p) for array in (*arrays, out[-1])]
            run(*pointers[:3], ctypes.c_long(count), pointers[3])
        return out

    return results


def processor_has(*names: str) -> bool:
    flags = Path("/proc/cpuinfo").read_text().split()
    return all(name in flags for name in names)


def same(first: list[np.ndarray], second: list[np.ndarray]) -> bool:
    return all(a.tobytes() == b.tobytes() for a, b in zip(first, second, strict=True))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", ["sse2", "avx2", "avx512f"])
def test_same_bits_as_scalar_code(run_loops, dtype, name):
    if not processor_has(name):
        pytest.skip(f"this processor has no {name}")
    one = ("-DVOD_INSTRUCTION_SETS=", "-ffp-contract=off")
    assert same(run_loops(dtype, (*one, *SETS[name])), run_loops(dtype, (*one, *SETS["scalar"])))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_same_bits_where_the_loader_chooses(run_loops, dtype):
    one = ("-DVOD_INSTRUCTION_SETS=", "-ffp-contract=off", *SETS["scalar"])
    assert same(run_loops(dtype, ("-ffp-contract=off",)), run_loops(dtype, one))


def test_fused_multiply_adds_would_show(run_loops):
    """That the comparison can fail."""
    if not processor_has("avx2", "fma"):
        pytest.skip("this processor has no fused multiply-adds")
    one = ("-DVOD_INSTRUCTION_SETS=", "-mavx2", "-mfma")
    assert not same(
        run_loops("float32", (*one, "-ffp-contract=fast")), run_loops("float32", (*one, "-ffp-contract=off"))
    )


def test_equals_numpy(run_loops):
    results = run_loops("float64", ("-ffp-contract=off",))
    random = np.random.RandomState(0)
    for count, out in zip(COUNTS, results, strict=True):
        cells, weights, other = (random.standard_normal(n) for n in (4 * count, 4, count))
        vector = weights @ cells.reshape(4, count)
        np.testing.assert_allclose(out[:3], [vector @ other, vector @ vector, other @ other], rtol=1e-9, atol=1e-12)
        np.testing.assert_allclose(out[3 : 3 + count], vector, rtol=1e-9, atol=1e-12)
        added, scaled, means, _, rounded = out[3 + count : -1].reshape(5, count)
        np.testing.assert_allclose(added, other + weights[1] * vector, rtol=1e-9, atol=1e-12)
        np.testing.assert_allclose(scaled, other * vector, rtol=1e-9, atol=1e-12)
        np.testing.assert_allclose(means, other + cells.reshape(4, count).mean(0), rtol=1e-9, atol=1e-12)
        words = cells.view(np.uint16)[:count]
        values = (words.astype(np.uint32) << 16).view(np.float32)  # those of bfloat16
        with np.errstate(over="ignore"):
            expected = np.floor(np.nan_to_num(values * np.float32(0.37), nan=0, posinf=1e9, neginf=0) + np.float32(0.5))
        np.testing.assert_array_equal(rounded, expected.clip(0, 255))
        assert out[-1] == (words & 0x7FFF).max()
