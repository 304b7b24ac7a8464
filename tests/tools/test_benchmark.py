"""The benchmark of the methods: its rows, its settings and what it times. Nothing here asserts a time."""

from __future__ import annotations

import json
from itertools import islice

import pytest
import torch

import tools.benchmark as benchmark
from lib.data.transforms import Preprocessing
from lib.engine.benchmarking import random_frames
from lib.engine.inference import detect_frames
from tests.models.small import assert_same_detections

KEYS = [
    "method",
    "device",
    "precision",
    "compile",
    "mode",
    "batch",
    "height",
    "width",
    "interval_or_window",
    "ms_per_frame",
    "key_ms",
    "nonkey_ms",
    "speedup_over_rfcn",
    "flop_bound_share",
    "gflops_per_s",
    "matmul_peak_gflops_per_s",
    "peak_memory_mb",
]
SMALL = [
    "network.DEPTH=18",
    "network.WIDTH=16",
    "network.FEAT_DIM=32",
    "network.FGFA_FEAT_DIM=48",
    "network.FLOW_WIDTH=0.125",
    "network.ANCHOR_RATIOS=[1]",
    "TEST.RPN_POST_NMS_TOP_N=20",
]
COMMON = [
    "--device",
    "cpu",
    "--size",
    "64",
    "96",
    "--rounds",
    "2",
    "--interval",
    "3",
    "--window",
    "5",
    "--classes",
    "4",
]


@pytest.fixture
def without_memory(monkeypatch):
    """The memory of a method is measured in a process of its own, which takes seconds to start."""
    monkeypatch.setattr(benchmark, "memory_alone", lambda argv, method, more: 100.0)


def run(*arguments: str) -> list[dict]:
    return benchmark.main([*SMALL, *COMMON, *arguments])


def test_a_process_that_dies_leaves_no_figure_and_is_not_waited_for(caplog):
    assert benchmark.memory_alone([*SMALL, *COMMON, "--cfg", "there-is-none.yaml"], "fgfa", []) is None
    assert "fgfa: the process that measures its memory ended with status 1" in caplog.text


@pytest.mark.parametrize("mode", ["stream", "segment"])
def test_rows(mode, without_memory, tmp_path, capsys):
    full = run("--mode", mode, "--json", str(tmp_path / "rows.json"))
    rows = json.loads((tmp_path / "rows.json").read_text())
    assert [row["method"] for row in rows] == ["rfcn", "dff", "fgfa"]
    assert [row["interval_or_window"] for row in rows] == [None, 3, 5]
    for row in rows:
        assert list(row) == KEYS
        assert (row["device"], row["precision"], row["mode"], row["peak_memory_mb"]) == ("cpu", "float32", mode, 100)
        assert (row["height"], row["width"]) == (64, 96)
        assert row["speedup_over_rfcn"] == pytest.approx(rows[0]["ms_per_frame"] / row["ms_per_frame"])
        assert row["gflops_per_s"] > 0
        assert row["matmul_peak_gflops_per_s"] == rows[0]["matmul_peak_gflops_per_s"] > 0
    # Only a stream answers key frames and the others apart
    assert [row["method"] for row in rows if row["key_ms"] or row["nonkey_ms"]] == (["dff"] if mode == "stream" else [])
    for row in full:
        # The parts are timed around the calls that they name; the rest is the loop's own
        assert 0 < row["net_ms"] + row["post_ms"] <= row["ms_range"][1]
        assert row["data_ms"] > 0
    table = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in table] == ["method", "rfcn", "dff", "fgfa"]


def test_share_of_the_bound_is_of_the_operations(without_memory):
    rows = {row["method"]: row for row in run()}
    args = benchmark.parse_arguments([*COMMON, *SMALL])
    flops = benchmark.contender(args, "fgfa", [], torch.device("cpu")).flops
    bound = (flops.features + flops.heads) / (flops.features + flops.heads + flops.embedding + 5 * flops.flow)
    assert rows["fgfa"]["flop_bound_share"] == pytest.approx(rows["fgfa"]["speedup_over_rfcn"] / bound)
    per_frame = bound * rows["fgfa"]["gflops_per_s"] * rows["fgfa"]["ms_per_frame"]
    assert per_frame == pytest.approx(rows["rfcn"]["gflops_per_s"] * rows["rfcn"]["ms_per_frame"])


def test_propagation_from_both_key_frames_counts_both_flows(without_memory):
    rows = run("--methods", "dff", "--versus", "TEST.PROPAGATE_FROM=both")
    args = benchmark.parse_arguments([*COMMON, *SMALL])
    flops = benchmark.contender(args, "dff", [], torch.device("cpu")).flops
    for row, flows in zip(rows, (2, 4), strict=True):  # of the two frames between key frames, at interval 3
        of_three = flops.features + 3 * flops.heads + flows * flops.flow
        assert row["gflops_per_s"] * row["ms_per_frame"] * 1e6 == pytest.approx(of_three / 3)


def test_two_settings_side_by_side(without_memory, tmp_path, capsys):
    run("--methods", "rfcn", "dff", "--versus", "PRECISION=bfloat16", "--json", str(tmp_path / "rows.json"))
    rows = json.loads((tmp_path / "rows.json").read_text())
    assert [(row["method"], row["precision"]) for row in rows] == [
        ("rfcn", "float32"),
        ("dff", "float32"),
        ("rfcn", "bfloat16"),
        ("dff", "bfloat16"),
    ]
    # Each setting is measured against R-FCN in the same setting
    for own, base in ((rows[1], rows[0]), (rows[3], rows[2])):
        assert own["speedup_over_rfcn"] == pytest.approx(base["ms_per_frame"] / own["ms_per_frame"])
    assert rows[0]["matmul_peak_gflops_per_s"] != rows[2]["matmul_peak_gflops_per_s"]
    last = capsys.readouterr().out.splitlines()[-2:]
    assert [line.split(":")[0] for line in last] == ["rfcn", "dff"]


def test_without_rfcn_there_is_no_speed_up(without_memory):
    (row,) = run("--methods", "dff")
    assert row["speedup_over_rfcn"] is row["flop_bound_share"] is None


@pytest.mark.parametrize("method", benchmark.METHODS)
def test_stream_and_segment_detect_the_same(method):
    found = []
    for mode in ("stream", "segment"):
        args = benchmark.parse_arguments([*COMMON, "--mode", mode, *SMALL])
        one = benchmark.contender(args, method, [], torch.device("cpu"))
        assert (one.batch_images > 1) == (mode == "segment")
        preprocess = Preprocessing.from_config(benchmark.config_of(args, method, []))
        pixels = islice(random_frames(64, 96), 14)  # no whole number of segments
        frames = [preprocess(image, frame_id=i + 1, first=i == 0, index=i) for i, image in enumerate(pixels)]
        answers = list(detect_frames(one.model, frames, one.postprocess, one.batch_images))
        assert [frame.index for frame, _ in answers] == list(range(14))
        found.append([detections for _, detections in answers])
    assert sum(len(one) for one in found[0]) > 0
    assert_same_detections(*found)


def test_memory_of_a_method_is_measured_in_a_process_of_its_own(tmp_path):
    (row,) = run("--methods", "rfcn", "--rounds", "1")
    assert 50 < row["peak_memory_mb"] < 4000


def test_even_window_is_refused(capsys):
    with pytest.raises(SystemExit):
        run("--window", "4")
    assert "give an odd number" in capsys.readouterr().err
