"""Signals at random moments of real trainings with reader processes: a checkpoint is saved, and one line says so."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from lib.engine.checkpoint import load_checkpoint
from tests.engine import signalled_trainings

ROOT = Path(__file__).resolve().parents[2]


def signalled(folder, number):
    """(exit status, lines printed, checkpoint said to be saved, updates said to be done) of each training."""
    done = subprocess.run(
        [sys.executable, "-m", signalled_trainings.__name__, str(folder), str(int(number))],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=signalled_trainings.SECONDS + 200,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    statuses = json.loads(done.stdout.splitlines()[-1])
    assert len(statuses) == signalled_trainings.TRAININGS
    for i, status in enumerate(statuses):
        printed = (folder / str(i) / "output.txt").read_text()
        said = re.search(r"stopped by .* after (\d+) updates \(.*\), saved (\S+\.pth); to go on, run .*", printed)
        assert said, printed
        lines = [line for line in re.split(r"[\r\n]+", printed) if line.strip()]
        yield status, lines, Path(said[2]), int(said[1])


def assert_one_plain_end(lines, checkpoint, updates):
    printed = "\n".join(lines)
    for word in ("Traceback", "DataLoader", "Terminated", "Error"):
        assert word not in printed
    assert load_checkpoint(checkpoint)["iteration"] == updates > 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_to_the_whole_group_saves_a_checkpoint(tmp_path, number):
    for status, lines, checkpoint, updates in signalled(tmp_path, number):
        assert lines[-1].startswith(f"stopped by {number.name} after "), lines[-3:]
        assert status == 128 + number
        assert_one_plain_end(lines, checkpoint, updates)


def test_a_reader_that_is_killed_ends_the_training_with_one_line_and_a_checkpoint(tmp_path):
    for status, lines, checkpoint, updates in signalled(tmp_path, signal.SIGKILL):
        wanted = r"error: process \d+, which read training samples, died \(SIGKILL\); where memory ran out, lower .*"
        assert re.fullmatch(wanted, lines[-1]), lines[-3:]
        assert sum("which read training samples" in line for line in lines) == 1
        assert status == 2
        assert_one_plain_end(lines, checkpoint, updates)
