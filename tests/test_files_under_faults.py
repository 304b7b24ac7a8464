"""Outputs under faults: full disks, writers that meet, closed pipes, threads; test_files.py has the rest."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from lib.files import (
    FolderInUseError,
    OutputError,
    hold_folder,
    write_text,
    writing,
)

ROOT = Path(__file__).resolve().parents[1]
AS_ROOT = hasattr(os, "geteuid") and os.geteuid() == 0


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_two_writers_of_one_file_do_not_meet(tmp_path):
    path = tmp_path / "a.txt"
    with writing(path, text=True) as first, writing(path, text=True) as second:
        first.write("first" * 1000)
        second.write("second")
    assert path.read_text() == "first" * 1000  # whose block ended last
    assert names(tmp_path) == ["a.txt"]


@pytest.mark.parametrize(
    ("number", "cure"),
    [(errno.ENOSPC, "free some space"), (errno.EDQUOT, "free some space"), (errno.EIO, "another name")],
)
def test_a_full_disk_that_shows_when_all_is_written(tmp_path, monkeypatch, number, cure):
    def fails(_):
        raise OSError(number, os.strerror(number))

    (tmp_path / "a.txt").write_text("old")
    monkeypatch.setattr(os, "fsync", fails)
    with pytest.raises(OutputError, match=rf"a\.txt: cannot be written \({os.strerror(number)}\); .*{cure}"):
        write_text(tmp_path / "a.txt", "new")
    assert (tmp_path / "a.txt").read_text() == "old"
    assert names(tmp_path) == ["a.txt"]


FULL = """
import resource, sys, torch
from lib.engine.checkpoint import save_tensors
from lib.files import OutputError, write_text, writing

resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000))

def in_pieces(path):
    with writing(path) as file:
        for _ in range(100):
            file.write(b"x" * 1000)

for write in (
    lambda: write_text(sys.argv[1], "x" * 100_000),
    lambda: in_pieces(sys.argv[1]),
    lambda: save_tensors({"a": torch.zeros(100_000)}, sys.argv[1]),
):
    try:
        write()
    except OutputError as error:
        print(error)
"""


def test_a_disk_that_is_full_halfway(tmp_path):
    """The limit on the size of a file is a disk that is full."""
    path = tmp_path / "a.txt"
    path.write_text("old")
    done = subprocess.run(
        [sys.executable, "-c", FULL, str(path)], cwd=ROOT, capture_output=True, text=True, timeout=300, check=False
    )
    lines = done.stdout.splitlines()
    assert len(lines) == 3, done.stderr
    assert all(line.startswith(f"{path}: cannot be written (") for line in lines)
    assert path.read_text() == "old"
    assert names(tmp_path) == ["a.txt"]


def test_a_closed_pipe_is_not_taken_for_a_full_disk(tmp_path):
    """What is printed while a file is open may meet a reader that has gone."""
    with pytest.raises(BrokenPipeError), writing(tmp_path / "a.txt"):
        raise BrokenPipeError
    assert names(tmp_path) == []


def test_this_process_holds_a_folder_once(tmp_path):
    """In other threads too; and an attempt does not make it let go."""
    failed = []

    def attempt():
        held = pytest.raises(FolderInUseError, match="this process is writing to this folder already")
        with held, hold_folder(tmp_path):
            pass
        failed.append(True)

    with hold_folder(tmp_path):
        attempt()
        thread = threading.Thread(target=attempt)
        thread.start()
        thread.join()
        assert len(failed) == 2
        probe = "import sys\nfrom lib.files import hold_folder\nwith hold_folder(sys.argv[1]): pass"
        done = subprocess.run([sys.executable, "-c", probe, str(tmp_path)], cwd=ROOT, capture_output=True, check=False)
        assert b"FolderInUseError" in done.stderr
    with hold_folder(tmp_path):
        pass
