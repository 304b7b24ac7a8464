"""Outputs appear whole or not at all and replace nothing but files; one run at a time holds a folder."""

from __future__ import annotations

import errno
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from lib.errors import InputError
from lib.files import (
    FolderInUseError,
    OutputError,
    check_output,
    hold_folder,
    read_text,
    replacing,
    sha256_of,
    write_json,
    write_text,
    writing,
)

ROOT = Path(__file__).resolve().parents[1]
AS_ROOT = hasattr(os, "geteuid") and os.geteuid() == 0


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_nothing_is_seen_before_the_block_ends_well(tmp_path):
    path = tmp_path / "new" / "folder" / "a.txt"
    with writing(path, text=True) as file:
        file.write("some")
        file.flush()
        assert not path.exists()
        assert all(name.startswith(".") for name in names(path.parent)), "hidden from patterns such as *.txt"
    assert path.read_text(encoding="utf-8") == "some"
    assert names(path.parent) == ["a.txt"]


@pytest.mark.parametrize("error", [KeyError("x"), KeyboardInterrupt(), SystemExit(3)])
def test_an_error_leaves_what_was_there(tmp_path, error):
    path = tmp_path / "a.bin"
    path.write_bytes(b"old")

    def half():
        with writing(path) as file:
            file.write(b"half of the new")
            raise error

    with pytest.raises(type(error)):
        half()
    assert path.read_bytes() == b"old"
    assert names(tmp_path) == ["a.bin"]


def test_libraries_that_open_by_name_see_the_right_ending(tmp_path):
    with replacing(tmp_path / "picture.png") as temporary:
        assert temporary.suffix == ".png"
        assert temporary.parent == tmp_path
        temporary.write_bytes(b"content")
    assert (tmp_path / "picture.png").read_bytes() == b"content"
    assert names(tmp_path) == ["picture.png"]


def test_two_writers_of_one_file_do_not_meet(tmp_path):
    path = tmp_path / "a.txt"
    with writing(path, text=True) as first, writing(path, text=True) as second:
        first.write("first" * 1000)
        second.write("second")
    assert path.read_text() == "first" * 1000  # whose block ended last
    assert names(tmp_path) == ["a.txt"]


def test_text_and_json(tmp_path):
    write_text(tmp_path / "a.txt", "grün\n")
    assert (tmp_path / "a.txt").read_bytes() == "grün\n".encode()
    write_json(tmp_path / "a.json", {"ü": [1, 2.5, None]})
    assert json.loads((tmp_path / "a.json").read_text(encoding="utf-8")) == {"ü": [1, 2.5, None]}
    with pytest.raises(ValueError, match="JSON"):
        write_json(tmp_path / "a.json", [float("nan")])
    assert json.loads((tmp_path / "a.json").read_text(encoding="utf-8")) == {"ü": [1, 2.5, None]}
    assert names(tmp_path) == ["a.json", "a.txt"]


def special(tmp_path, kind):
    """Something at `<tmp_path>/x` that is no regular file, and what it is called."""
    path = tmp_path / "x"
    if kind == "folder":
        path.mkdir()
        return path, "a folder"
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "socket":
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(str(path))
        listener.close()
    else:
        path.symlink_to("/dev/null")
    return path, "a device, pipe or socket"


@pytest.mark.parametrize("kind", ["folder", "pipe", "socket", "device"])
def test_only_files_are_replaced(tmp_path, kind, monkeypatch):
    monkeypatch.chdir(tmp_path)  # the path of a socket must be short
    path, called = special(Path(), kind)
    before = path.lstat()
    for write in (lambda: write_text(path, "x"), lambda: check_output(path)):
        with pytest.raises(OutputError, match=rf": is {called}, not a file that can be replaced; give another name"):
            write()
    assert path.lstat() == before
    assert names(tmp_path) == ["x"]


def test_a_link_stays_and_its_file_is_replaced(tmp_path):
    (tmp_path / "far").mkdir()
    target = tmp_path / "far" / "real.txt"
    target.write_text("old")
    link = tmp_path / "link.txt"
    link.symlink_to(Path("far") / "real.txt")
    dangling = tmp_path / "dangling.txt"
    dangling.symlink_to(tmp_path / "far" / "later.txt")
    for path in (link, dangling):
        write_text(path, "new")
        assert path.is_symlink()
    assert target.read_text() == (tmp_path / "far" / "later.txt").read_text() == "new"
    assert names(tmp_path / "far") == ["later.txt", "real.txt"]


@pytest.mark.skipif(AS_ROOT, reason="the superuser may write anywhere")
def test_a_folder_without_permission_is_named_before_the_work(tmp_path):
    (tmp_path / "shut").mkdir(mode=0o500)
    with pytest.raises(OutputError, match=r"a\.txt: cannot be written \(no write permission for .*shut\)"):
        check_output(tmp_path / "shut" / "a.txt")


def test_a_folder_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match=r"a\.txt: cannot be written \(Not a directory\); give another name"):
        check_output(tmp_path / "file" / "a.txt")


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


def test_reading_text(tmp_path):
    class MineError(InputError):
        pass

    path = tmp_path / "a.txt"
    path.write_bytes("\ufeffgrün\n".encode())
    assert read_text(path, MineError, "do this") == "grün\n"
    path.write_bytes(b"gr\xfcn")
    with pytest.raises(MineError, match=r"a\.txt: not a text file in UTF-8; do this"):
        read_text(path, MineError, "do this")
    with pytest.raises(MineError, match=r"b\.txt: cannot be read \(No such file or directory\); do this"):
        read_text(tmp_path / "b.txt", MineError, "do this")
    with pytest.raises(MineError, match=r": is a folder, not a file; do this"):
        read_text(tmp_path, MineError, "do this")
    with pytest.raises(MineError, match=r"is a device, pipe or socket, not a file"):
        read_text("/dev/zero", MineError, "do this")
    with pytest.raises(MineError, match="do this"):
        read_text("a\0b", MineError, "do this")


def test_digest(tmp_path):
    (tmp_path / "a").write_bytes(b"abc")
    assert sha256_of(tmp_path / "a") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


HOLDER = """
import sys
from lib.files import hold_folder

with hold_folder(sys.argv[1]):
    print("held", flush=True)
    sys.stdin.readline()
"""


def holder(folder):
    """Another process that holds `folder` until it reads a line."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(folder)], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "held\n"
    return process


def test_a_folder_that_another_process_holds(tmp_path):
    folder = tmp_path / "runs" / "mine"
    process = holder(folder)
    try:
        with pytest.raises(FolderInUseError) as error, hold_folder(folder):
            pass
        who = rf"process {process.pid} on {re.escape(socket.gethostname())}, started [^\n]*,"
        cure = "wait for it to end, or give another output_path"
        assert re.fullmatch(rf"{folder}: {who} is writing to this folder; {cure}", str(error.value))
        with hold_folder(tmp_path / "runs" / "other"):
            pass
    finally:
        process.communicate("\n")
    with hold_folder(folder):
        pass


def test_a_link_to_a_held_folder_is_the_same_folder(tmp_path):
    (tmp_path / "link").symlink_to(tmp_path / "real")
    (tmp_path / "real").mkdir()
    process = holder(tmp_path / "real")
    try:
        with pytest.raises(FolderInUseError), hold_folder(tmp_path / "link"):
            pass
    finally:
        process.communicate("\n")


def test_a_process_that_is_killed_lets_go(tmp_path):
    process = holder(tmp_path)
    process.send_signal(signal.SIGKILL)
    process.wait()
    with hold_folder(tmp_path) as folder:
        assert folder == tmp_path


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


def test_a_folder_that_cannot_be_held_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    refused = pytest.raises(OutputError, match=r"file is a file, not a folder")
    with refused, hold_folder(tmp_path / "file"):
        pass
