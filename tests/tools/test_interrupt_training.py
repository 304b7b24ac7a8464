"""The tool that kills trainings: two kills are survived, and it sees what differs."""

from __future__ import annotations

import json

import pytest
import torch

from lib.engine.checkpoint import save_tensors
from tools import interrupt_training as tool


def test_a_training_survives_two_kills(tmp_path, capsys):
    assert tool.main(["--kills", "2", "--seed", "3", "--work-dir", str(tmp_path)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(" (")[0] for line in lines[:2]] == ["kill  1 of 2", "kill  2 of 2"]
    assert lines[-1].endswith("the same, bit for bit")
    assert not list(tmp_path.iterdir()), "the work folder is left clean"


def write_run(folder, weight=1.0, loss=0.5, more=()):
    state = dict.fromkeys(("optimizer", "epoch", "batch", "iteration", "config"), 1)
    save_tensors({"model": {"w": torch.tensor([weight])}, **state, "commit": str(folder)}, folder / "tiny-0001.pth")
    lines = [{"update": 1, "loss": loss, "seconds_left": weight}]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    for name in more:
        (folder / name).write_text("")
    return folder


@pytest.mark.parametrize(
    ("other", "said"),
    [
        ({}, []),
        ({"weight": 1.0000001}, ["tiny-0001.pth/model/w: the tensors differ"]),
        ({"loss": 0.50000001}, ["metrics.jsonl/0/loss: 0.5 and 0.50000001"]),
        ({"more": [".tiny-0002.1-00000000.part.pth"]}, ["left over: .tiny-0002.1-00000000.part.pth"]),
        ({"more": ["tiny-latest.pth"]}, ["checkpoints ['tiny-0001.pth'] and ['tiny-0001.pth', 'tiny-latest.pth']"]),
    ],
)
def test_differences_are_named(tmp_path, other, said):
    one = write_run(tmp_path / "one")
    assert tool.compare_trainings(one, write_run(tmp_path / "other", **other)) == said


def test_different_detections_are_named(tmp_path):
    for name, text in (("one", "1 1 0.5 0 0 9 9\n"), ("other", "1 1 0.6 0 0 9 9\n")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "detections.txt").write_text(text)
    assert tool.compare_tests(tmp_path / "one", tmp_path / "one") == []
    assert tool.compare_tests(tmp_path / "one", tmp_path / "other") == ["detections.txt differ"]


def test_the_moments_follow_from_the_seed_and_leave_time_for_the_last_kill():
    args = tool.parse_arguments(["--kills", "20", "--seed", "1"])
    found = list(tool.moments(60, args))
    assert found == list(tool.moments(60, args))
    assert {kind for kind, _ in found} == set(tool.MOMENTS)
    steps = [step for _, step in found]
    assert steps == sorted(steps)
    assert steps[-1] < 58
