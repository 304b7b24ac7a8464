"""Read and write files safely: outputs are written whole or not at all, and folders and files are locked by one run."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import logging
import os
import re
import secrets
import socket
import stat
import time
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from lib.errors import InputError

_log = logging.getLogger(__name__)
_MACHINE = f"{zlib.crc32(socket.gethostname().encode()):08x}"
_MARK = re.compile(r"\.([0-9a-f]{8})-([0-9]{1,10})-[0-9a-f]{8}\.")
_LEFT = re.compile(_MARK.pattern + r"part(\.\w{1,15})?$")
_swept: set[Path] = set()


class OutputError(InputError):
    """A file or folder that cannot be written; the message names it, the reason and what to do."""


class FolderInUseError(InputError):
    """A folder that another run is writing to; the message names the folder and that run."""


class FileInUseError(InputError):
    """A file that another run is writing; the message names it."""


def check_output(path: str | os.PathLike) -> Path:
    """Create the folder of `path` and check that a file can be written there; call it before the work begins.

    Returns the path with links resolved, so that a link is kept and the file that it points to is replaced.
    Raises OutputError for a folder, a device, a pipe, a socket or a write-protected file at `path`, and for a folder
    that cannot be created or written to.
    """
    path = _resolved(path)
    with output_errors(path):
        try:
            mode = path.stat().st_mode
        except FileNotFoundError:
            path.parent.mkdir(parents=True, exist_ok=True)
        else:
            if not stat.S_ISREG(mode):
                raise OutputError(f"{path}: is {_kind(mode)}, not a file that can be replaced; give another name")
            if not os.access(path, os.W_OK):
                raise OutputError(f"{path}: is write-protected; give another name")
        if not os.access(path.parent, os.W_OK | os.X_OK):
            raise OutputError(f"{path}: cannot be written (no write permission for {path.parent}); give another name")
    _sweep(path.parent)
    return path


def _resolved(path: str | os.PathLike) -> Path:
    """`path` with links resolved. Raises OutputError."""
    try:
        return Path(os.path.realpath(path))
    except (OSError, ValueError) as error:  # a NUL in the name
        raise OutputError(f"{os.fspath(path)!r}: cannot be written ({error}); give another name") from error


def _kind(mode: int) -> str:
    """A description of what is not a regular file."""
    return "a folder" if stat.S_ISDIR(mode) else "a device, pipe or socket"


@contextlib.contextmanager
def output_errors(path: str | os.PathLike) -> Iterator[None]:
    """Turn an OSError inside the block into an OutputError that names `path`."""
    try:
        yield
    except OSError as error:
        raise _output_error(path, error) from error


def _output_error(path: str | os.PathLike, error: OSError) -> OutputError:
    if isinstance(error, FileExistsError):
        return OutputError(f"{path}: cannot be written ({error.filename} is a file, not a folder); give another name")
    cure = "free some space" if error.errno in (errno.ENOSPC, errno.EDQUOT) else "give another name"
    return OutputError(f"{path}: cannot be written ({error.strerror or error}); {cure}")


@contextlib.contextmanager
def replacing(path: str | os.PathLike) -> Iterator[Path]:
    """The name of a temporary file beside `path` with the same suffix; it is renamed to `path` when the block succeeds.

    For libraries that open a file by its name. After an error in the block, the file at `path` is unchanged and the
    temporary file removed. Raises OutputError if `path` cannot be written; an OSError in the block that names another
    file is not changed.
    """
    path = check_output(path)
    temporary = _temporary(path)
    try:
        yield temporary
        file = os.open(temporary, os.O_RDWR)  # Windows can only sync a file that is open for writing
        try:
            os.fsync(file)
        finally:
            os.close(file)
        os.replace(temporary, path)
    except BrokenPipeError:  # of standard output: a regular file has no reader
        raise
    except OSError as error:
        if error.filename not in (None, str(temporary)):
            raise
        raise _output_error(path, error) from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


def unique_mark() -> str:
    """A part of a file name that no other file has; it says which process of which machine made it."""
    return f"{_MACHINE}-{os.getpid()}-{secrets.token_hex(4)}"


def made_by_dead_process(name: str) -> bool:
    """Whether a file of this name (`unique_mark`) was left behind by a process of this machine that was killed."""
    found = _MARK.search(name)
    return bool(found) and found[1] == _MACHINE and not _is_alive(int(found[2]))


def _is_alive(process: int) -> bool:
    if os.name == "nt":
        return True  # os.kill would end it
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except (OSError, OverflowError):
        pass
    return True


def _sweep(folder: Path) -> None:
    """Remove the temporary files that killed processes left in `folder`; looked for once in a process."""
    if folder in _swept:
        return
    _swept.add(folder)
    with contextlib.suppress(OSError):
        for entry in os.scandir(folder):
            is_ours = entry.name.startswith(".") and _LEFT.search(entry.name) and entry.is_file(follow_symlinks=False)
            if is_ours and made_by_dead_process(entry.name):
                os.unlink(entry.path)
                _log.info("%s: removed; a process that was killed had left it", entry.path)


def _temporary(path: Path) -> Path:
    """A new hidden name in the folder of `path` with its ending; file systems take names of 255 bytes."""
    unique = f"{unique_mark()}.part"
    suffix = path.suffix if len(path.suffix.encode(errors="surrogateescape")) <= 16 else ""
    stem = path.stem.encode(errors="surrogateescape")[:150].decode(errors="ignore")
    return path.with_name(f".{stem}.{unique}{suffix}")


@contextlib.contextmanager
def writing(path: str | os.PathLike, *, text: bool = False) -> Iterator[IO]:
    """An open file that is renamed to `path` when the block succeeds; see `replacing`.

    text: open for text in UTF-8 with line feeds on every system; otherwise for bytes. File names that are not UTF-8 are
    written as \\udcXX, which JSON reads back.
    """
    how = {"encoding": "utf-8", "errors": "backslashreplace", "newline": "\n"} if text else {}
    with replacing(path) as temporary, open(temporary, "w" if text else "wb", **how) as file:
        yield file


def write_text(path: str | os.PathLike, text: str) -> None:
    """Write `text` to `path`, whole or not at all; creates the folder. Raises OutputError."""
    with writing(path, text=True) as file:
        file.write(text)


def write_json(path: str | os.PathLike, content: Any) -> None:
    """Write `content` to `path` as JSON, whole or not at all; creates the folder. Raises OutputError.

    NaN and infinity, which JSON does not have, raise ValueError.
    """
    write_text(path, json.dumps(content, indent=1, allow_nan=False, ensure_ascii=False) + "\n")


def read_bytes(path: str | os.PathLike, error: type[InputError], what_to_do: str, most: int = 1 << 30) -> bytes:
    """The content of a regular file of at most `most` bytes. Raises `error`, whose message ends with `what_to_do`."""
    try:
        # Without O_NONBLOCK, opening a pipe would wait for a writer
        flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
        with open(os.open(path, flags), "rb") as file:
            status = os.fstat(file.fileno())
            if not stat.S_ISREG(status.st_mode):
                raise error(f"{path}: is {_kind(status.st_mode)}, not a file; {what_to_do}")
            content = file.read() if status.st_size <= most else None
    except OSError as reason:
        if os.path.isdir(path):
            raise error(f"{path}: is a folder, not a file; {what_to_do}") from reason
        raise error(f"{path}: cannot be read ({reason.strerror or reason}); {what_to_do}") from reason
    except ValueError as reason:
        if isinstance(reason, InputError):
            raise
        raise error(f"{os.fspath(path)!r}: cannot be read ({reason}); {what_to_do}") from reason  # a NUL in the name
    if content is None:
        raise error(f"{path}: has more than {most} bytes; {what_to_do}")
    return content


def read_text(path: str | os.PathLike, error: type[InputError], what_to_do: str, most: int = 1 << 30) -> str:
    """The text of a UTF-8 file of at most `most` bytes; a byte-order mark is removed, line ends become line feeds.

    Raises `error`, whose message ends with `what_to_do`.
    """
    return decode_text(read_bytes(path, error, what_to_do, most), path, error, what_to_do)


def decode_text(content: bytes, path: str | os.PathLike, error: type[InputError], what_to_do: str) -> str:
    """Decode `content`, which was read from `path`, as `read_text` does."""
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as reason:
        raise error(f"{path}: not a text file in UTF-8; {what_to_do}") from reason
    if "\0" in text:  # UTF-16 without a byte-order mark, or no text at all
        raise error(f"{path}: not a text file in UTF-8; {what_to_do}")
    return text.replace("\r\n", "\n").replace("\r", "\n")


def read_json(path: str | os.PathLike, error: type[InputError], what_to_do: str, most: int = 1 << 30) -> Any:
    """The content of a JSON file of at most `most` bytes. Raises `error`, whose message ends with `what_to_do`."""
    text = read_text(path, error, what_to_do, most)
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as reason:
        raise error(f"{path}: not valid JSON ({reason}); {what_to_do}") from reason


def sha256_of(path: str | os.PathLike) -> str:
    """The SHA-256 of a file's bytes, as 64 hexadecimal digits."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


_held: set[Path] = set()  # folders and files that this process has locked: the system's locks are per process


@contextlib.contextmanager
def hold_folder(folder: str | os.PathLike) -> Iterator[Path]:
    """Create `folder` and lock it against other runs during the block; the lock ends with the process at the latest.

    The lock is on the file `.lock` in it, which names the run that holds it. Raises FolderInUseError if another run
    holds it, OutputError if the folder cannot be written. On a file system without locks it logs a warning.
    """
    folder = _resolved(folder)
    if folder in _held:  # checked before the file is opened, because closing it would release the lock
        raise FolderInUseError(f"{folder}: this process is writing to this folder already; give another output_path")
    with output_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        file = os.open(folder / ".lock", os.O_RDWR | os.O_CREAT, 0o644)
    _sweep(folder)
    try:
        with output_errors(folder):
            if not _lock(file):
                holder = os.read(file, 200).decode("utf-8", "replace").strip() or "another run"
                raise FolderInUseError(
                    f"{folder}: {holder} is writing to this folder; wait for it to end, or give another output_path"
                )
            os.ftruncate(file, 0)
            os.write(file, f"process {os.getpid()} on {socket.gethostname()}, started {time.asctime()},".encode())
        _held.add(folder)
        yield folder
    finally:
        _held.discard(folder)
        os.close(file)


@contextlib.contextmanager
def hold_file(path: str | os.PathLike) -> Iterator[IO[bytes]]:
    """Open the file at `path` for reading and writing, keeping its content, and lock it against other runs.

    Creates the file if it does not exist. The lock is on the file itself and ends with the block or the process, so the
    file may be renamed inside the block; another run can then lock a new file at `path`. Raises FileInUseError if
    another run holds the lock, OutputError if the file cannot be opened or, at the end of the block, written.
    """
    path = check_output(path)
    if path in _held:
        raise FileInUseError(f"{path}: this process is writing this file already; give another name")
    file = _open_locked(path)
    _held.add(path)
    try:
        yield file
        with output_errors(path):
            file.close()
    finally:
        _held.discard(path)
        with contextlib.suppress(OSError):  # an error in the block has reported the failure already
            file.close()


def _open_locked(path: Path) -> IO[bytes]:
    while True:
        with output_errors(path):
            flags = os.O_RDWR | os.O_CREAT | getattr(os, "O_BINARY", 0)
            file = os.fdopen(os.open(path, flags, 0o666), "r+b")
        if not _lock(file.fileno()):
            file.close()
            raise FileInUseError(f"{path}: another run is writing this file; wait for it to end, or give another name")
        with contextlib.suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(file.fileno()), os.stat(path)):
                return file
        file.close()  # the run that held the lock renamed the file between the opening and the lock


def _lock(file: int) -> bool:
    """Take the lock on an open file without waiting; False if another process has it."""
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
        # Unlike a lock of flock(), a POSIX lock is not inherited by the reader processes of a training: it is released
        # at once when the training itself is killed
        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in (errno.EACCES, errno.EAGAIN):
            return False
        if error.errno not in (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP):
            raise
        _log.warning("the file system has no locks (%s); start no second run with the same output", error.strerror)
    return True
