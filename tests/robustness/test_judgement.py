"""The judge of hostile inputs sees every way in which one can go wrong."""

from __future__ import annotations

import mmap
import time
from pathlib import Path

import pytest

from lib.errors import InputError
from tools import fuzz
from tools.fuzzing import attempts, runner
from tools.fuzzing.attempts import ERROR, FAILURE, RECOVERY, Input, WrongError, attempt
from tools.fuzzing.runner import Tally


def raises(error):
    def run(folder):
        raise error

    return run


def takes_memory(folder):
    with mmap.mmap(-1, (2 << 30) + (64 << 20)) as memory:
        for place in range(0, len(memory), mmap.PAGESIZE):
            memory[place] = 1


@pytest.mark.parametrize(
    ("run", "failure"),
    [
        (raises(KeyError("a")), "traceback: KeyError at test_judgement.py:"),
        (raises(MemoryError()), "traceback: MemoryError"),
        (raises(SystemExit(1)), "ended with SystemExit 1"),
        (raises(WrongError("5 for 6")), "wrong: 5 for 6"),
        (raises(InputError("something is wrong")), "a message that does not name 'a.txt'"),
        (raises(InputError("")), "an empty message"),
        (raises(InputError("a.txt: " + "\n" * 50)), "a message that is too long"),
        (raises(InputError('a.txt: Traceback (most recent call last): File "x", line 1, in y')), "a traceback in"),
        (lambda folder: (folder / "a.txt").write_text("other"), "changed: a.txt"),
        (lambda folder: (folder / "a.txt").unlink(), "removed: a.txt"),
        (lambda folder: (folder / "more").mkdir(), "left behind: more"),
        (lambda folder: (folder / "made" / ".b.1.part").write_text(""), "left behind: made/.b.1.part"),
        (lambda folder: Path(attempts.canary_command()).write_text(""), "code in the input was executed"),
        (takes_memory, "MiB of memory"),
    ],
)
def test_what_goes_wrong_is_a_failure(tmp_path, run, failure):
    case = Input("a", run, {"a.txt": b"a", "made/x": b""}, names="a.txt", makes=("made/[a-z]*",))
    kind, text = attempt(case, tmp_path / "folder")
    assert kind == FAILURE
    assert failure in text


def test_a_hang_is_a_failure(tmp_path, monkeypatch):
    monkeypatch.setattr(attempts, "SECONDS", 1)
    assert attempt(Input("a", lambda folder: time.sleep(30)), tmp_path / "folder").kind == FAILURE


def test_good_ends(tmp_path):
    made = Input("a", lambda folder: (folder / "made").mkdir(), {"a.txt": b"a"}, makes=("made",))
    assert attempt(made, tmp_path / "1").kind == RECOVERY
    assert attempt(Input("a", raises(InputError("a.txt:5: bad")), names="a.txt"), tmp_path / "2") == (
        ERROR,
        "a.txt:5: bad",
    )


def test_a_process_that_crashes_is_a_failure_and_the_next_input_is_tried(monkeypatch):
    with runner.Worker("key", 0) as worker:
        assert worker.attempt(0)[0].kind in (ERROR, RECOVERY)
        worker._process.kill()
        worker._process.wait()
        outcome, _ = worker.attempt(1)
        assert (outcome.kind, "ended with status -9" in outcome.text) == (FAILURE, True)
        assert worker.attempt(2)[0].kind in (ERROR, RECOVERY)


def test_the_tool_keeps_what_fails_and_ends_with_status_1(tmp_path, monkeypatch, capsys):
    def fails(kind, seed, numbers, tally, going_on=None):
        tally.outcomes[FAILURE] = 1
        tally.failures.append((0, "good XML", "wrong: 5"))
        return False

    monkeypatch.setattr(fuzz, "run", fails)
    assert fuzz.main(["--kind", "annotation", "--minutes", "1", "--keep", str(tmp_path / "kept")]) == 1
    printed = capsys.readouterr().out
    assert (tmp_path / "kept" / "annotation_0_0" / "a.xml").read_text().startswith("<annotation>")
    assert "python tools/fuzz.py --kind annotation --seed 0 --number 0" in printed
    assert printed.splitlines()[-1].split() == ["all", "1", "0", "0", "1"]


def test_inputs_of_a_seed_are_always_the_same():
    kind = runner.KINDS["annotation"]
    known = runner.fixed_count("annotation")
    for number in (0, known, known + 1):
        assert kind.input(number, 3).files == kind.input(number, 3).files
    assert kind.input(known, 3).files != kind.input(known, 4).files


def test_the_tool_tries_inputs(capsys):
    assert fuzz.main(["--kind", "motion", "--number", "0"]) == 0
    assert capsys.readouterr().out.splitlines()[1].split() == ["motion", "1", "0", "1", "0"]
    assert Tally("a").inputs == 0
