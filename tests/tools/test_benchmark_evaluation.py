"""The benchmark of evaluation runs, compares the two versions, makes data of the right kind, and writes its figures."""

import json

import numpy as np
import pytest

from lib.evaluation.motion import motion_of
from lib.evaluation.results_file import read_results
from tools import benchmark_evaluation as tool

SMALL = ["--frames", "60", "--side-by-side-frames", "40", "--per-frame", "12", "--classes", "3"]


def run(tmp_path, *arguments):
    out = tmp_path / "figures.json"
    tool.main([*SMALL, "--folder", str(tmp_path), "--json", str(out), *arguments])
    assert [path.name for path in tmp_path.iterdir()] == ["figures.json"], "the results files are removed"
    return json.loads(out.read_text())


def test_figures_are_of_the_sizes_that_were_asked_for(tmp_path, capsys):
    figures = run(tmp_path, "--ties", "--ties-decimals", "4", "1")
    pair, whole = figures["side_by_side"], figures["whole"]
    assert (pair["frames"], pair["detections"]) == (40, 480)
    assert pair["largest_difference"] <= 1e-9
    assert (whole["frames"], whole["detections"]) == (60, 720)
    assert len(whole["mean_ap"]) == 4
    assert [row["decimals"] for row in figures["ties"]] == [4, 1]
    assert figures["ties"][1]["distinct_scores"] <= 11
    printed = capsys.readouterr().out
    assert "times as fast" in printed
    assert "on one core, peak memory" in printed


def test_ours_alone_can_be_left_out(tmp_path):
    assert "whole" not in run(tmp_path, "--frames", "0")


def test_versions_that_disagree_end_it(tmp_path, monkeypatch):
    plain = tool.mean_ap_reference
    monkeypatch.setattr(tool, "mean_ap_reference", lambda *given, **more: plain(*given, **more) + 1e-8)
    with pytest.raises(SystemExit, match="disagree by 1e-08 on 40 frames"):
        run(tmp_path)


def test_the_data_are_like_those_of_imagenet_vid(tmp_path):
    truth = tool.make_truth(30000, 30, 0)
    assert len(truth.labels) / truth.num_frames == pytest.approx(273505 / 176126, rel=0.1)
    assert (np.diff(truth.offsets) == 0).mean() == pytest.approx(4046 / 176126, abs=0.015)
    assert len(np.unique(truth.videos)) == round(30000 * 555 / 176126)
    motion = motion_of(truth)
    for ends, share in (((0, 0.7), 0.272), ((0.7, 0.9), 0.354), ((0.9, 1.1), 0.374)):
        assert motion.share(*ends) == pytest.approx(share, abs=0.15)
    assert (truth.boxes[:, :2] >= 0).all()
    assert (truth.boxes[:, 2:] < (tool.WIDTH, tool.HEIGHT)).all()


def test_the_same_seed_makes_the_same_results_with_ties(tmp_path):
    truth = tool.make_truth(200, 5, 3)
    for name in ("a.txt", "b.txt"):
        tool.write_detections(tmp_path / name, truth, 50, 3)
    assert (tmp_path / "a.txt").read_bytes() == (tmp_path / "b.txt").read_bytes()
    table = read_results(tmp_path / "a.txt", 200, 5)
    assert len(np.unique(table.scores)) < 0.8 * len(table)
    assert set(table.labels.tolist()) == {1, 2, 3, 4, 5}
