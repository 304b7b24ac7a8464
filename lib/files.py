"""Read and write files safely: outputs appear whole or not at all, and one run at a time holds a folder."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import secrets
import socket
import stat
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from lib.errors import InputError


class OutputError(InputError):
    """A file or folder that cannot be written; the message names it, the reason and what to do."""


class FolderInUseError(InputError):
    """A folder that another run is writing to; the message names the folder and that run."""


def check_output(path: str | os.PathLike) -> Path:
    """Make the folder of `path` and check that a file can be written there; call it before the work begins.

    Returns the path with links followed, so that a link is kept and the file that it points to is replaced.
    Raises OutputError: for a folder, a device, a pipe or a socket at `path`, for a folder that cannot be made or
    written to.
    """
    path = Path(os.path.realpath(path))
    with output_errors(path):
        kind = _kind(path)
        if kind is not None:
            raise OutputError(f"{path}: is {kind}, not a file that can be replaced; give another name")
        path.parent.mkdir(parents=True, exist_ok=True)
        if not os.access(path.parent, os.W_OK | os.X_OK):
            raise OutputError(f"{path}: cannot be written (no write permission for {path.parent}); give another name")
    return path


def _kind(path: Path) -> str | None:
    """What lies at `path` that must not be replaced, in words; None for nothing or a regular file."""
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        return None
    if stat.S_ISREG(mode):
        return None
    return "a folder" if stat.S_ISDIR(mode) else "a device, pipe or socket"


@contextlib.contextmanager
def output_errors(path: str | os.PathLike) -> Iterator[None]:
    """Turn an OSError inside the block into an OutputError that names `path`."""
    try:
        yield
    except OSError as error:
        if isinstance(error, (InputError, BrokenPipeError)):  # a pipe: of standard output, not of this file
            raise
        reason = error.strerror or str(error)
        cure = "free some space" if error.errno in (errno.ENOSPC, errno.EDQUOT) else "give another name"
        raise OutputError(f"{path}: cannot be written ({reason}); {cure}") from error


@contextlib.contextmanager
def replacing(path: str | os.PathLike) -> Iterator[Path]:
    """The name of a temporary file beside `path`, of the same ending; it takes the name `path` when the block ends
    well.

    For libraries that open a file by its name. An error in the block leaves what was at `path`, and no temporary file.
    Raises OutputError where `path` cannot be written.
    """
    path = check_output(path)
    temporary = path.with_name(f".{path.stem}.{os.getpid()}-{secrets.token_hex(4)}.part{path.suffix}")
    try:
        with output_errors(path):
            yield temporary
            with open(temporary, "rb") as file:
                os.fsync(file.fileno())
            os.replace(temporary, path)
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def writing(path: str | os.PathLike, *, text: bool = False) -> Iterator[IO]:
    """An open file whose content takes the name `path` when the block ends well; see `replacing`.

    text: open for text in UTF-8; otherwise for bytes.
    """
    mode, encoding = ("w", "utf-8") if text else ("wb", None)
    with replacing(path) as temporary, open(temporary, mode, encoding=encoding) as file:
        yield file
        file.flush()


def write_text(path: str | os.PathLike, text: str) -> None:
    """Write `text` to `path`, whole or not at all; the folder is made. Raises OutputError."""
    with writing(path, text=True) as file:
        file.write(text)


def write_json(path: str | os.PathLike, content: Any) -> None:
    """Write `content` to `path` as JSON, whole or not at all; the folder is made. Raises OutputError.

    A NaN or an infinity raises ValueError: JSON has none.
    """
    write_text(path, json.dumps(content, indent=1, allow_nan=False, ensure_ascii=False) + "\n")


def read_text(path: str | os.PathLike, error: type[InputError], what_to_do: str) -> str:
    """The text of a UTF-8 file, without a byte-order mark. Raises `error`, whose message ends with `what_to_do`."""
    try:
        if _kind(Path(path)) is not None:
            raise error(f"{path}: is {_kind(Path(path))}, not a text file; {what_to_do}")
        return Path(path).read_text(encoding="utf-8-sig")
    except OSError as reason:
        raise error(f"{path}: cannot be read ({reason.strerror or reason}); {what_to_do}") from reason
    except ValueError as reason:  # not UTF-8, or a NUL in the name
        if isinstance(reason, InputError):
            raise
        raise error(f"{path}: not a text file in UTF-8; {what_to_do}") from reason


def sha256_of(path: str | os.PathLike) -> str:
    """The SHA-256 of a file's bytes, as 64 hexadecimal digits."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


_held: set[Path] = set()  # folders that this process holds: the system's locks are per process


@contextlib.contextmanager
def hold_folder(folder: str | os.PathLike) -> Iterator[Path]:
    """Make `folder` and keep other runs out of it during the block; the system lets go when the process ends.

    The lock is on the file `.lock` in it, which says who holds it. Raises FolderInUseError where another run does,
    OutputError where the folder cannot be written.
    """
    folder = Path(os.path.realpath(folder))
    if folder in _held:  # before the file is opened: closing it again would let go of the lock
        raise FolderInUseError(f"{folder}: this process is writing to this folder already; give another output_path")
    with output_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        file = os.open(folder / ".lock", os.O_RDWR | os.O_CREAT, 0o644)
    try:
        if not _lock(file):
            holder = os.read(file, 200).decode("utf-8", "replace").strip() or "another run"
            raise FolderInUseError(
                f"{folder}: {holder} is writing to this folder; wait for it to end, or give another output_path"
            )
        _held.add(folder)
        os.ftruncate(file, 0)
        os.write(file, f"process {os.getpid()} on {socket.gethostname()}, started {time.asctime()},".encode())
        yield folder
    finally:
        _held.discard(folder)
        os.close(file)


def _lock(file: int) -> bool:
    """Take the lock on an open file without waiting; False where another process has it."""
    try:
        import fcntl
    except ImportError:  # Windows
        import msvcrt

        try:
            os.lseek(file, 1 << 30, os.SEEK_SET)  # beyond the text, which others may still read
            msvcrt.locking(file, msvcrt.LK_NBLCK, 1)
        except OSError:
            return False
        finally:
            os.lseek(file, 0, os.SEEK_SET)
        return True
    try:
        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in (errno.EACCES, errno.EAGAIN):
            return False
        raise
    return True
