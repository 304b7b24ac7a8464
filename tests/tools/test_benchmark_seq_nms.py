"""The benchmark of Seq-NMS runs, compares the two versions, and writes its figures."""

import json

import pytest

from tools import benchmark_seq_nms


def run(tmp_path, *arguments):
    out = tmp_path / "figures.json"
    size = ["--boxes", "20", "--classes", "3", "--frames", "4", "--side-by-side-frames", "3", "5"]
    benchmark_seq_nms.main([*size, "--json", str(out), *arguments])
    return json.loads(out.read_text())


def test_figures_are_of_the_sizes_that_were_asked_for(tmp_path, capsys):
    figures = run(tmp_path, "--videos", "2", "--workers", "1", "2")
    assert [row["frames"] for row in figures["side_by_side"]] == [3, 5]
    assert [row["workers"] for row in figures["whole"]] == [1, 2]
    for row in figures["whole"]:
        assert row["of"] == 2 * 4 * 3 * 20
        assert 0 < row["kept"] < row["of"]
    assert capsys.readouterr().out.count("same result") == 2


def test_versions_that_disagree_end_it(monkeypatch, tmp_path):
    def other_scores(boxes, scores):
        return [list(range(len(s))) for s in scores], scores

    monkeypatch.setattr(benchmark_seq_nms, "seq_nms_reference", other_scores)
    with pytest.raises(SystemExit, match="disagree on 3 frames of 20 boxes"):
        run(tmp_path)
