from __future__ import annotations

import json

import pytest
import torch
from torch.testing import assert_close

from lib.ops import flow_warp
from tools.benchmark_ops import grid_sample_warp, main


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
    assert [row["operator"] for row in rows] == ["psroi_pool", "psroi_pool + backward"]
    for row in rows:
        assert row["threads"] == 1
        assert set(row["milliseconds"]) == {"compiled", "reference"}
        assert all(0 < ms < float("inf") for ms in row["milliseconds"].values())
        assert row["operator"] in printed
    assert [path.name for path in tmp_path.iterdir()] == ["ops.json"]


def test_grid_sample_is_a_fair_opponent():
    """It computes the same thing."""
    generator = torch.Generator().manual_seed(0)
    feature, scale = (torch.randn(2, 3, 6, 8, generator=generator, dtype=torch.float64) for _ in range(2))
    flow = 3 * torch.randn(2, 2, 6, 8, generator=generator, dtype=torch.float64)
    assert_close(grid_sample_warp(feature, flow, scale), flow_warp(feature, flow, scale))
    assert_close(grid_sample_warp(feature[:1], flow, None), flow_warp(feature[:1], flow))
