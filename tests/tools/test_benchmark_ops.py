from __future__ import annotations

import json
import time

import pytest
import torch
from torch.testing import assert_close

import tools.benchmark_ops as tool
from lib.ops import flow_warp
from tests.simulated_gpu import simulated_gpu
from tools.benchmark_ops import Case, grid_sample_warp, main, moved_bytes, parse_arguments, row_of


@pytest.fixture(autouse=True)
def _threads_as_before():
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def test_prints_a_table_and_writes_json(tmp_path, capsys):
    target = tmp_path / "ops.json"
    main(["--device", "cpu", "--threads", "1", "--seconds", "0", "--only", "psroi", "--json", str(target)])
    printed = capsys.readouterr().out
    rows = json.loads(target.read_text())
    assert [row["operator"] for row in rows] == ["psroi_pool", "psroi_pool + backward", "psroi_vote"]
    for row in rows:
        assert row["threads"] == 1
        assert row["kernel_milliseconds"] is None
        assert (row["floor_share"] is None) == row["operator"].endswith("backward")
        assert set(row["milliseconds"]) == {"compiled", "reference"}
        assert all(0 < ms < float("inf") for ms in row["milliseconds"].values())
        assert row["operator"] in printed
    assert [path.name for path in tmp_path.iterdir()] == ["ops.json"]


def test_the_floor_is_what_a_copy_of_the_same_bytes_takes():
    """By hand: 4000 + 8 bytes read, 400 written, at 2000 bytes a millisecond, against a call of 4 ms on the GPU."""

    class Fake:
        def bandwidth(self):
            return 2000.0

        def kernel_milliseconds(self, run):
            return 4.0

    inputs = torch.zeros(1000), torch.zeros(1, dtype=torch.int64)
    moved = moved_bytes(lambda: (torch.zeros(50), torch.zeros(50)), *inputs, None)
    assert moved == 4408
    args = parse_arguments(["--seconds", "0"])
    row = row_of("some", Case({"compiled": lambda: None}, moved), args, torch.device("cpu"), Fake())
    assert row["floor_milliseconds"] == pytest.approx(2.204)
    assert row["kernel_milliseconds"] is None
    with simulated_gpu():
        row = row_of("some", Case({"compiled": lambda: None}, moved), args, torch.device("cuda"), Fake())
    assert row["kernel_milliseconds"] == 4.0
    assert row["floor_share"] == pytest.approx(0.551)


def test_on_a_gpu_all_tensors_are_there(monkeypatch, capsys):
    """Every operator is called, by a simulated GPU that refuses an operation on tensors of both devices."""

    class Event:
        def __init__(self, enable_timing):
            self.milliseconds = 0.0

        def record(self, stream):
            self.milliseconds = 1000 * time.perf_counter()

        def elapsed_time(self, end):
            return end.milliseconds - self.milliseconds

    for name, value in {"HEIGHT": 5, "WIDTH": 6, "WINDOW": 2, "CANDIDATES": 40, "ROIS": 3, "_COPIED": 64}.items():
        monkeypatch.setattr(tool, name, value)
    monkeypatch.setattr(torch.cuda, "Event", Event)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: None)
    with simulated_gpu():
        tool.main(["--device", "cuda", "--seconds", "0", "--threads", "1"])
    lines = capsys.readouterr().out.splitlines()[1:]
    assert len(lines) == 11
    assert sum("%" in line for line in lines) == 5


def test_grid_sample_is_a_fair_opponent():
    """It computes the same thing."""
    generator = torch.Generator().manual_seed(0)
    feature, scale = (torch.randn(2, 3, 6, 8, generator=generator, dtype=torch.float64) for _ in range(2))
    flow = 3 * torch.randn(2, 2, 6, 8, generator=generator, dtype=torch.float64)
    assert_close(grid_sample_warp(feature, flow, scale), flow_warp(feature, flow, scale))
    assert_close(grid_sample_warp(feature[:1], flow, None), flow_warp(feature[:1], flow))
