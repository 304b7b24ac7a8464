"""tools/gpu_check.py: its stages are commands that exist, a failure is reported and the rest goes on."""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path

import pytest

import tools.gpu_check as tool
from lib.engine.device import DeviceError
from tools import benchmark, benchmark_ops, check_parity, profile_frame
from tools.gpu_check import ROOT, Stage, parse_arguments, run_stage, stages
from tools.gpu_check_results import markdown, parity_result, training_result


def python(code: str) -> tuple[str, ...]:
    return sys.executable, "-c", code


def listed(*arguments: str) -> dict[str, Stage]:
    return {stage.name: stage for stage in stages(parse_arguments(list(arguments)), Path("/out"))}


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_commands_of_the_stages_are_understood(device):
    found = listed("--device", device, "--golden", "/golden")
    assert sum(stage.limit for stage in found.values() if not stage.skip) > 0
    for stage in found.values():
        script, *rest = stage.command[1:]
        if script == "-m":
            continue
        assert (ROOT / script).is_file()
        if script == "tools/benchmark.py":
            args = benchmark.parse_arguments(rest)
            assert (args.device, args.mode, args.precision) == (device, *stage.name.split("_")[1:3])
            assert (stage.name.partition("_compile_")[2] or "off") == benchmark.config_of(args, "dff", []).COMPILE
            assert args.json == Path(f"/out/{stage.name}.json")
        elif script == "tools/check_parity.py":
            args = check_parity.parse_arguments(rest)
            assert (args.device, args.precision) == (device, stage.name.partition("_")[2])
        elif script == "tools/profile_frame.py":
            args = profile_frame.parse_arguments(rest)[1]
            assert (args.device, args.precision) == (device, "bfloat16")
        elif script == "tools/benchmark_ops.py":
            args = benchmark_ops.parse_arguments(rest)
            assert (args.device, args.json) == (device, "/out/operators.json")


def test_what_needs_a_gpu_is_skipped_on_the_cpu_with_the_reason():
    on_cpu, on_gpu = listed("--device", "cpu"), listed("--device", "cuda", "--golden", "/golden")
    assert {name for name, stage in on_gpu.items() if stage.skip} == set()
    needs_gpu = {name for name, stage in on_cpu.items() if stage.skip == "needs a GPU"}
    assert needs_gpu == {"parity_tf32", "benchmark_stream_bfloat16_compile_graphs"}
    assert on_cpu["parity_float32"].skip == "--golden was not given"
    assert on_gpu["build"].environment == {"FORCE_CUDA": "1"}
    assert {"benchmark_stream_tf32", "benchmark_segment_tf32"} == set(on_gpu) - set(on_cpu)


def test_a_failing_and_a_slow_stage_are_reported_and_the_rest_runs(tmp_path, monkeypatch, capsys):
    late = tmp_path / "late"
    slow = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {wait_and_write(late)!r}])"
    made = [
        Stage("broken", python("print('said this'); raise SystemExit(3)"), 30),
        Stage("slow", python(slow), 1),
        Stage("missing", python(""), 30, skip="needs a GPU"),
        Stage("last", python("import os; print(os.environ['MARK'])"), 30, {"MARK": "reached"}),
    ]
    monkeypatch.setattr(tool, "stages", lambda args, out: made)
    out = tmp_path / "out"
    assert tool.main(["--device", "cpu", "--out", str(out)]) == 1
    summary = json.loads((out / "summary.json").read_text())
    found = {stage["stage"]: (stage["status"], stage["why"]) for stage in summary["stages"]}
    assert found == {
        "broken": ("failed", "exit status 3"),
        "slow": ("failed", "took more than 1 s"),
        "missing": ("skipped", "needs a GPU"),
        "last": ("ok", ""),
    }
    assert (out / "broken.log").read_text() == "said this\n"
    assert (out / "last.log").read_text() == "reached\n"
    text = (out / "summary.md").read_text()
    assert "| broken | failed |" in text
    assert "| last | ok |" in text
    assert len(capsys.readouterr().out.splitlines()) == 5
    time.sleep(2.5)
    assert not late.exists(), "what the slow stage had started must have ended with it"


def wait_and_write(path: Path) -> str:
    return f"import time, pathlib; time.sleep(3); pathlib.Path({str(path)!r}).touch()"


def test_an_exit_status_of_1_may_be_a_result(tmp_path):
    found = {}
    for status in (0, 1, 2):
        stage = Stage("parity_tf32", python(f"raise SystemExit({status})"), 30, outcome="some arrays differ")
        result = run_stage(stage, tmp_path, 30)
        found[status] = (result["status"], result["why"])
    assert found == {0: ("ok", ""), 1: ("ok", "some arrays differ"), 2: ("failed", "exit status 2")}
    stages_of_a_gpu = listed("--device", "cuda", "--golden", "/golden")
    assert [name for name, stage in stages_of_a_gpu.items() if stage.outcome] == ["parity_tf32"]


def test_modules_that_the_caller_finds_are_found_by_the_stages(tmp_path, monkeypatch):
    (tmp_path / "only_here.py").touch()
    monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=os.pathsep)
    assert run_stage(Stage("imports", python("import only_here, tools.gpu_check"), 60), tmp_path, 60)["status"] == "ok"


def test_stages_after_the_time_is_up_are_skipped(tmp_path):
    result = run_stage(Stage("late", python(""), 30), tmp_path, 0.0)
    assert (result["status"], result["why"]) == ("skipped", "no time was left")


def test_all_well_ends_with_status_0(tmp_path, monkeypatch):
    monkeypatch.setattr(tool, "stages", lambda args, out: [Stage("fine", python(""), 30)])
    assert tool.main(["--device", "cpu", "--out", str(tmp_path / "out")]) == 0


def test_rows_of_an_earlier_run_are_not_taken_for_new_ones(tmp_path, monkeypatch):
    (tmp_path / "benchmark_stream_float32.json").write_text("[]")
    stage = Stage("benchmark_stream_float32", python("raise SystemExit(1)"), 30)
    monkeypatch.setattr(tool, "stages", lambda args, out: [stage])
    tool.main(["--device", "cpu", "--out", str(tmp_path)])
    assert json.loads((tmp_path / "summary.json").read_text())["benchmark"] == []


def test_parity_of_rows_by_hand():
    def row(name, array, error, tolerance, passed=True, measure="abs"):
        found = {"max_abs": error, "max_rel": error, "tolerance": tolerance, "measure": measure, "note": ""}
        return {"set": name, "array": array, "pass": passed, **found}

    rows = [
        row("net_a", "small", 1e-6, 1e-5),
        row("net_a", "large", 3e-5, 1e-5, passed=False),
        row("net_a", "exact", 0.0, 0.0),
        row("net_a", "lost", None, 0.0, passed=False),
        row("layers_b", "other", 1.0, 2.0),
    ]
    found = parity_result(rows)
    assert (found["arrays"], found["failed"]) == (5, 2)
    assert list(found["networks"]) == ["net_a"]
    net = found["networks"]["net_a"]
    assert (net["arrays"], net["failed"], net["array"], net["share"]) == (4, 2, "large", pytest.approx(3))


def test_training_of_lines_by_hand():
    lines = [
        {
            "update": 10,
            "compute_seconds": 0.2,
            "memory_gib": 1.0,
            "rpn_cls_loss": 1.0,
            "rcnn_cls_loss": 2.0,
            "acc": 9.0,
        },
        {"update": 10, "validation_map": 0.5},
        {
            "update": 20,
            "compute_seconds": 0.1,
            "memory_gib": 2.0,
            "rpn_cls_loss": 0.5,
            "rcnn_cls_loss": None,
            "acc": 9.0,
        },
    ]
    found = training_result("\n".join(map(json.dumps, lines)))
    assert found["losses"] == [3.0, 0.5]
    assert (found["updates"], found["finite"], found["memory_gib"]) == (20, False, 2.0)
    assert found["compute_ms"] == pytest.approx(200)
    assert training_result("")["updates"] == 0


def test_markdown_has_every_part():
    row = dict.fromkeys(benchmark.JSON_KEYS) | {"method": "dff", "mode": "stream", "precision": "tf32", "compile": "on"}
    row |= {"ms_per_frame": 4.0, "gflops_per_s": 50.0, "matmul_peak_gflops_per_s": 200.0, "speedup_over_rfcn": 5.0}
    summary = {
        "device": "cuda",
        "commit": "abc",
        "seconds": 3.0,
        "machine": {"gpu": "A GPU", "packages": {"torch": "2"}},
        "stages": [{"stage": "build", "status": "ok", "seconds": 1.0, "why": ""}],
        "benchmark": [row],
        "parity": {"tf32": {"arrays": 1, "failed": 1, "networks": {}}},
        "training": {"bfloat16": training_result("")},
        "operators": [
            {
                "operator": "aggregate",
                "milliseconds": {"compiled": 0.5, "reference": 9.0},
                "kernel_milliseconds": 0.2,
                "floor_milliseconds": 0.15,
                "floor_share": 0.75,
            },
        ],
        "profile": {
            "rfcn": {
                "ms": 4.0,
                "device_ms": 3.0,
                "convolutions_ms": 2.5,
                "operations": [{"name": "aten::mm", "ms": 1.0, "calls": 2}],
            }
        },
    }
    text = markdown(summary)
    assert "A GPU" in text
    assert "| dff | stream | tf32 | on | 4.00 | 250.0 | - | - | 5.00 | - | 50 | 25% | - |" in text
    assert "tf32: 1 of 1 arrays fail" in text
    assert "| bfloat16 | 0 |" in text
    assert "| aggregate | 0.500 | 9.000 | 0.200 | 0.150 | 75% |" in text
    assert "4.00 ms; the device computes for 3.00 ms, of which convolutions take 2.50 ms." in text
    assert "| aten::mm | 1.00 | 2 |" in text


def test_profile_tells_key_frames_from_the_others(tmp_path):
    small = [*tool._SMALL_NETWORK, "--size", "64", "96", "--interval", "2", "--device", "cpu"]
    found = profile_frame.main([*small, "--out", str(tmp_path), "--methods", "rfcn", "dff"])
    assert list(found) == ["rfcn", "dff_key", "dff"]
    names = {frame: {operation["name"] for operation in row["operations"]} for frame, row in found.items()}
    assert "vod::flow_warp" in names["dff"]
    assert "vod::flow_warp" not in names["dff_key"] | names["rfcn"]
    assert json.loads((tmp_path / "profile.json").read_text()) == found
    for row in found.values():
        assert 0 < row["convolutions_ms"] < row["device_ms"]
        assert row["ms"] > 0
    assert "vod::psroi_vote" in (tmp_path / "profile_dff.txt").read_text()


def test_a_profile_of_key_frames_alone_and_none_of_segments(tmp_path, capsys):
    small = [*tool._SMALL_NETWORK, "--size", "64", "96", "--device", "cpu", "--methods", "dff", "--out", str(tmp_path)]
    assert list(profile_frame.main([*small, "--interval", "1"])) == ["dff_key"]
    with pytest.raises(SystemExit):
        profile_frame.main([*small, "--mode", "segment"])
    assert "frames are profiled one at a time" in capsys.readouterr().err


def test_an_unknown_device_is_refused_before_anything_is_written(tmp_path):
    with pytest.raises(DeviceError, match="no such device"):
        tool.main(["--device", "tpu:x", "--out", str(tmp_path / "out")])
    assert not (tmp_path / "out").exists()
