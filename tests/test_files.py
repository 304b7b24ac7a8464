"""Outputs appear whole or not at all, and nothing else is touched; inputs are read once it is clear what they are."""

from __future__ import annotations

import errno
import hashlib
import json
import logging
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from lib.errors import InputError
from lib.files import (
    FolderInUseError,
    OutputError,
    check_output,
    hold_folder,
    read_bytes,
    read_text,
    replacing,
    sha256_of,
    write_json,
    write_text,
    writing,
)

ROOT = Path(__file__).resolve().parents[1]


def files_in(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_a_file_appears_with_its_folder_when_the_block_ends(tmp_path):
    path = tmp_path / "a" / "b" / "out.txt"
    with writing(path, text=True) as file:
        file.write("one\n")
        file.flush()
        assert not path.exists()
        (temporary,) = path.parent.iterdir()
        assert temporary.name.startswith(".out.")
        assert temporary.suffix == ".txt"
    assert path.read_bytes() == b"one\n"
    assert files_in(path.parent) == {"out.txt"}


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt, SystemExit, InputError])
@pytest.mark.parametrize("before", [None, b"old"])
def test_an_error_in_the_block_leaves_what_was_there(tmp_path, error, before):
    path = tmp_path / "out.bin"
    if before is not None:
        path.write_bytes(before)

    def write() -> None:
        with writing(path) as file:
            file.write(b"new")
            raise error("stop")

    with pytest.raises(error):
        write()
    assert files_in(tmp_path) == (set() if before is None else {"out.bin"})
    assert before is None or path.read_bytes() == before


def test_a_file_beside_it_of_a_like_name_is_left_alone(tmp_path):
    for name in ("out.part", ".out.part", "out.txt.part", ".out.txt.part"):
        (tmp_path / name).write_text(name)
    write_text(tmp_path / "out.txt", "new")
    assert {name: (tmp_path / name).read_text() for name in files_in(tmp_path)} == {
        **{name: name for name in ("out.part", ".out.part", "out.txt.part", ".out.txt.part")},
        "out.txt": "new",
    }


def test_a_link_stays_a_link(tmp_path):
    target, link = tmp_path / "deep" / "target.txt", tmp_path / "link.txt"
    link.symlink_to(target)  # to nothing yet
    write_text(link, "one")
    write_text(link, "two")
    assert link.is_symlink()
    assert target.read_text() == "two"


@pytest.mark.parametrize("length", [10, 200, 240, 251, 255])
@pytest.mark.parametrize("letter", ["x", "ä"])
def test_names_as_long_as_the_file_system_takes(tmp_path, length, letter):
    stem = letter * ((length - 4) // len(letter.encode()))
    path = tmp_path / f"{stem}.txt"
    write_text(path, "content")
    assert files_in(tmp_path) == {path.name}
    path = tmp_path / ("a." + stem)
    write_text(path, "content")
    assert path.read_text() == "content"


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda folder: folder, "is a folder, not a file that can be replaced; give another name"),
        (lambda folder: folder / "fifo", "is a device, pipe or socket"),
        (lambda folder: "/dev/null", "is a device, pipe or socket"),
        (lambda folder: folder / "to_folder", "is a folder"),
        (lambda folder: folder / "to_null", "is a device, pipe or socket"),
        (lambda folder: folder / "file" / "out.txt", "cannot be written .Not a directory.; give another name"),
        (lambda folder: folder / "file" / "more" / "out.txt", "cannot be written"),
        (lambda folder: folder / "loop" / "out.txt", "cannot be written"),
        (lambda folder: folder / ("x" * 256), "cannot be written .File name too long"),
        (lambda folder: folder / ("x" * 300) / "out.txt", "cannot be written .File name too long"),
        (lambda folder: "a" + "/x" * 3000, "cannot be written .File name too long"),
        (lambda folder: "nul\0.txt", r"'nul\\x00.txt': cannot be written .*embedded null"),
        (lambda folder: "/proc/nothing/out.txt", "cannot be written"),
        (lambda folder: "", "is a folder"),
        (lambda folder: "/", "is a folder"),
    ],
)
def test_what_cannot_be_written_is_named_before_the_work_begins(tmp_path, make, message):
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "file").write_text("content")
    (tmp_path / "to_null").symlink_to("/dev/null")
    (tmp_path / "to_folder").symlink_to(tmp_path)
    (tmp_path / "loop").symlink_to("loop")
    before = files_in(tmp_path)
    for attempt in (check_output, lambda path: write_text(path, "text"), lambda path: write_json(path, {})):
        with pytest.raises(OutputError, match=message):
            attempt(make(tmp_path))
    assert files_in(tmp_path) == before
    assert (tmp_path / "file").read_text() == "content"


def test_a_write_protected_file_or_folder_is_refused(tmp_path, monkeypatch):
    """The superuser may write everywhere, so permissions are stood in for."""
    (tmp_path / "out.txt").write_text("old")
    denied = tmp_path / "out.txt"
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path) != denied)
    with pytest.raises(OutputError, match=r"out\.txt: is write-protected; give another name"):
        check_output(tmp_path / "out.txt")
    denied = tmp_path
    with pytest.raises(OutputError, match=rf"new\.txt: cannot be written \(no write permission for {tmp_path}\)"):
        check_output(tmp_path / "new.txt")


class Full:
    """A file on a disk without space."""

    def __init__(self, *_: object, **__: object) -> None: ...
    def __enter__(self) -> Full:
        return self

    def __exit__(self, *_: object) -> None: ...

    def write(self, _: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")


def test_a_full_disk_is_named_and_leaves_what_was_there(tmp_path, monkeypatch):
    path = tmp_path / "out.txt"
    path.write_text("old")
    monkeypatch.setattr("lib.files.open", Full, raising=False)
    with pytest.raises(OutputError, match=r"out\.txt: cannot be written \(No space left on device\); free some space"):
        write_text(path, "new")
    monkeypatch.undo()
    assert path.read_text() == "old"
    assert files_in(tmp_path) == {"out.txt"}


def test_errors_of_other_files_keep_their_own_name(tmp_path):
    def read_another() -> None:
        with writing(tmp_path / "out.txt", text=True):
            (tmp_path / "input.txt").read_text()

    with pytest.raises(FileNotFoundError, match=r"input\.txt"):
        read_another()

    def print_into_a_closed_pipe() -> None:
        with writing(tmp_path / "out.txt", text=True):
            raise BrokenPipeError(errno.EPIPE, "Broken pipe")

    with pytest.raises(BrokenPipeError):
        print_into_a_closed_pipe()
    assert files_in(tmp_path) == set()


def test_a_library_that_writes_nothing_or_elsewhere_is_an_error(tmp_path):
    with (
        pytest.raises(OutputError, match=r"out\.png: cannot be written \(No such file"),
        replacing(tmp_path / "out.png") as temporary,
    ):
        assert temporary.suffix == ".png"
    assert files_in(tmp_path) == set()


def test_text_is_utf8_with_line_feeds(tmp_path):
    write_text(tmp_path / "out.txt", "a\nä\r\nб\n")
    assert (tmp_path / "out.txt").read_bytes() == "a\nä\r\nб\n".encode()


def test_names_that_are_not_utf8_survive_json(tmp_path):
    content = {"name": os.fsdecode(b"fr\xe4me"), "other": "ä"}
    write_json(tmp_path / "out.json", content)
    assert json.loads((tmp_path / "out.json").read_text(encoding="utf-8")) == content
    assert "ä" in (tmp_path / "out.json").read_text(encoding="utf-8")


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_json_has_no_nan(tmp_path, value):
    with pytest.raises(ValueError, match="JSON compliant"):
        write_json(tmp_path / "out.json", {"a": [value]})
    assert files_in(tmp_path) == set()


def test_reading_text_and_bytes(tmp_path):
    path = tmp_path / "in.txt"
    for content, text in ((b"", ""), (b"\xef\xbb\xbfa", "a"), (b"a\r\nb\rc\n", "a\nb\nc\n"), ("ä".encode(), "ä")):
        path.write_bytes(content)
        assert read_text(path, InputError, "do") == text
        assert read_bytes(path, InputError, "do") == content
        assert sha256_of(path) == hashlib.sha256(content).hexdigest()
    path.write_bytes(b"12345")
    assert read_bytes(path, InputError, "do", most=5) == b"12345"
    with pytest.raises(InputError, match=r"in\.txt: has more than 4 bytes; do"):
        read_bytes(path, InputError, "do", most=4)
    for wrong, why in (
        (tmp_path / "b.txt", "cannot be read .No such file or directory.; do"),
        (tmp_path, "is a folder, not a file; do"),
        ("/dev/zero", "is a device, pipe or socket, not a file"),
        ("a\0b", "do"),
    ):
        with pytest.raises(InputError, match=why):
            read_text(wrong, InputError, "do")


@pytest.mark.parametrize("content", [b"\xff", b"a\0b", "a".encode("utf-16"), "a\nb".encode("utf-16-le"), b"\xc3("])
def test_what_is_no_text(tmp_path, content):
    (tmp_path / "in.txt").write_bytes(content)
    with pytest.raises(InputError, match=r"in\.txt: not a text file in UTF-8; do"):
        read_text(tmp_path / "in.txt", InputError, "do")


def test_messages_can_be_printed_whatever_the_name():
    message = str(InputError(os.fsdecode(b"/data/\xff/a: broken")))
    assert message == r"/data/\udcff/a: broken"
    message.encode()


def in_another_process(code: str) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(code)],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )


HOLD = """
from lib.files import hold_folder
with hold_folder({folder!r}):
    print("held", flush=True)
    input()
"""


def test_a_folder_is_held_against_other_processes_until_they_end(tmp_path):
    folder = tmp_path / "deep" / "run"
    other = in_another_process(HOLD.format(folder=str(folder)))
    assert other.stdout.readline() == "held\n"
    for _ in range(2):  # the refusal does not let go of the other's lock
        with (
            pytest.raises(
                FolderInUseError,
                match=rf"run: process {other.pid} on .*, started .*, is writing to this folder; wait for it",
            ),
            hold_folder(folder),
        ):
            pass
    other.kill()
    other.wait()
    with hold_folder(folder) as held:
        assert held == folder
        again = in_another_process(HOLD.format(folder=str(folder)))
        assert again.wait() != 0
    other.stdin.close(), other.stdout.close(), again.stdin.close(), again.stdout.close()


def test_a_folder_is_held_against_this_process_under_any_name(tmp_path):
    (tmp_path / "link").symlink_to(tmp_path / "run")
    with hold_folder(tmp_path / "run"):
        for name in ("run", "link", "run/../run"):
            with (
                pytest.raises(FolderInUseError, match="this process is writing to this folder already"),
                hold_folder(tmp_path / name),
            ):
                pass
        with hold_folder(tmp_path / "other"):
            pass
        with pytest.raises(FolderInUseError), hold_folder(tmp_path / "run"):
            pass
    with hold_folder(tmp_path / "run"):
        pass


def test_a_lock_is_not_inherited_by_reader_processes(tmp_path):
    """Reader processes are copies of the training; one that is left over must not keep the folder."""
    code = """
    import os, time
    from lib.files import hold_folder
    with hold_folder({folder!r}):
        if os.fork() == 0:
            time.sleep(60)
            os._exit(0)
        print("held", flush=True)
        os._exit(0)
    """
    other = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(code.format(folder=str(tmp_path)))],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        assert other.stdout.readline() == "held\n"
        other.wait()
        with hold_folder(tmp_path):
            pass
    finally:
        os.killpg(other.pid, 9)
        other.stdout.close()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda folder: folder / "file", "cannot be written .*file is a file, not a folder.; give another name"),
        (lambda folder: folder / "file" / "run", "cannot be written .Not a directory"),
        (lambda folder: folder / "locked", "cannot be written .Is a directory"),
        (lambda folder: folder / ("x" * 300), "cannot be written .File name too long"),
        (lambda folder: "/proc/run", "cannot be written"),
        (lambda folder: "nul\0", "embedded null"),
    ],
)
def test_a_folder_that_cannot_be_held_is_named(tmp_path, make, message):
    (tmp_path / "file").write_text("content")
    (tmp_path / "locked" / ".lock").mkdir(parents=True)
    with pytest.raises(OutputError, match=message), hold_folder(make(tmp_path)):
        pytest.fail("held")


def test_without_locks_a_run_goes_on_with_a_warning(tmp_path, monkeypatch, caplog):
    import fcntl

    def no_locks(*_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "lockf", no_locks)
    with caplog.at_level(logging.WARNING), hold_folder(tmp_path / "run"):
        pass
    assert "the file system has no locks (No locks available); start no second run with the same output" in caplog.text


class Windows:
    """The msvcrt of a system without fcntl: locks of bytes of open files, for the whole machine."""

    LK_NBLCK = 2

    def __init__(self) -> None:
        self.taken = False

    def locking(self, file: int, mode: int, count: int) -> None:
        assert (mode, count, os.lseek(file, 0, os.SEEK_CUR)) == (2, 1, 1 << 30)
        if self.taken:
            raise OSError(errno.EACCES, "Permission denied")
        self.taken = True


def test_folders_are_held_on_windows_too(tmp_path, monkeypatch):
    windows = Windows()
    monkeypatch.setitem(sys.modules, "fcntl", None)
    monkeypatch.setitem(sys.modules, "msvcrt", windows)
    with hold_folder(tmp_path):
        assert (tmp_path / ".lock").read_text().startswith(f"process {os.getpid()} on ")
    with pytest.raises(FolderInUseError, match=f"process {os.getpid()} on .* is writing"), hold_folder(tmp_path):
        pass
