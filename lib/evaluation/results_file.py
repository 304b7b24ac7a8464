"""Results files: text, one detection per line, `frame_id class score x1 y1 x2 y2` (docs/rules.md, section 6).

Frame ids and classes count from 1, scores have 4 decimals, coordinates 2, in pixels of the original frame. AP is
computed from these rounded numbers, as the originals do.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO, TYPE_CHECKING

import numpy as np

from lib.errors import InputError
from lib.evaluation.compiled import load_compiled
from lib.files import check_output, hold_file, output_errors, write_text

if TYPE_CHECKING:
    from lib.structures import Detections

_results_text = load_compiled("_results_text", __name__)

DETECTIONS = "detections.txt"  # of a test, in its folder
RAW_DETECTIONS = "raw_detections.txt"  # of a test that leaves NMS and Seq-NMS for later
TIMING = "timing.json"  # beside them: milliseconds a frame
COLUMNS = ("frame_id", "class", "score", "x1", "y1", "x2", "y2")
DECIMALS = (4, 2)  # of scores and coordinates in the originals' files
RAW_DECIMALS = (8, 4)  # for what Seq-NMS is yet to work on: rounding is to come last
_BLOCK = 1 << 23  # bytes parsed together


class ResultsError(InputError):
    """A results file that cannot be used; the message names the file, the line and what to do."""


@dataclass
class DetectionTable:
    """Detections of an image set as columns, one row per box.

    frames: (n,) int32, 0-based (the results file's frame_id - 1). labels: (n,) int16, from 1.
    scores: (n,) float64. boxes: (n, 4) float64, pixels of the original frame.
    """

    frames: np.ndarray
    labels: np.ndarray
    scores: np.ndarray
    boxes: np.ndarray

    def __len__(self) -> int:
        return len(self.frames)

    def __getitem__(self, rows) -> DetectionTable:
        """The rows that `rows` (a mask, an index array or a slice) selects."""
        return DetectionTable(self.frames[rows], self.labels[rows], self.scores[rows], self.boxes[rows])

    def sorted_by_frame(self) -> DetectionTable:
        """The same rows by ascending frame, those of a frame in their order; itself where they are so already."""
        if (self.frames[1:] >= self.frames[:-1]).all():
            return self
        return self[np.argsort(self.frames, kind="stable")]

    @staticmethod
    def of_frame(frame_id: int, detections: Detections) -> DetectionTable:
        """The detections of one frame; frame_id: 1-based and cumulative over the image set."""
        labels = detections.labels.cpu().numpy().astype(np.int16)
        frames = np.full(len(labels), frame_id - 1, np.int32)
        scores, boxes = (x.cpu().numpy().astype(np.float64) for x in (detections.scores, detections.boxes))
        return DetectionTable(frames, labels, scores, boxes)

    @staticmethod
    def cat(parts: Sequence[DetectionTable]) -> DetectionTable:
        """Concatenate `parts`; none give an empty table."""
        parts = [_table(np.zeros((0, 7))), *parts]
        return DetectionTable(
            np.concatenate([p.frames for p in parts]),
            np.concatenate([p.labels for p in parts]),
            np.concatenate([p.scores for p in parts]),
            np.concatenate([p.boxes for p in parts]),
        )


class ResultsWriter:
    """Writes a results file in pieces; use it in a `with` statement.

    Lines are written to `<path>.part`, which is renamed when the block succeeds. `checkpoint(done)` records the
    progress of the run; a later writer of the same path and `run` keeps what was written up to the last checkpoint, and
    its `done` says how much that is. Other files of an interrupted run are replaced.

    run: identifies runs whose results must not be mixed, such as a digest of weights and configuration.
    decimals: of scores and of coordinates; the originals', or `RAW_DECIMALS`.
    Raises OutputError where the file cannot be written, FileInUseError where another run is writing it.
    """

    def __init__(self, path: str | os.PathLike, run: str = "", decimals: tuple[int, int] = DECIMALS) -> None:
        self.path, self.run = check_output(path), run
        self.part, self.progress = _unfinished_files(self.path)
        self.done = 0  # what `checkpoint` was last given
        self.ends: list[int] = []  # bytes written at each checkpoint
        self._file: IO[bytes] | None = None
        self._stack = ExitStack()
        score, place = (f"%.{number}f" for number in decimals)
        self._line = f"%d %d {score} {place} {place} {place} {place}\n"

    def __enter__(self) -> ResultsWriter:
        with ExitStack() as stack:
            file = stack.enter_context(hold_file(self.part))
            self.done, self.ends = self._interrupted(file)
            size = self.ends[-1] if self.ends else 0
            with output_errors(self.part):
                file.truncate(size)
                file.seek(size)
            stack.push(self._finish)
            self._file, self._stack = file, stack.pop_all()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None):
        self._stack.__exit__(kind, error, trace)

    def _finish(self, kind: type[BaseException] | None, *_: object) -> None:
        """Give the file its final name, unless the block ended with an error."""
        if kind is None:
            with output_errors(self.path):
                self._file.flush()
                os.fsync(self._file.fileno())
                if os.name == "nt":  # which renames no open file; elsewhere nobody can take it in between
                    self._file.close()
                os.replace(self.part, self.path)
                self.progress.unlink(missing_ok=True)

    def checkpoint(self, done: int) -> None:
        """Record that the results so far are complete up to `done`, a count from which the caller can continue."""
        with output_errors(self.path):
            self._file.flush()
            os.fsync(self._file.fileno())
        self.ends.append(self._file.tell())
        note = {"run": self.run, "done": done, "size": self.ends[-1], "ends": self.ends}
        write_text(self.progress, json.dumps(note))
        self.done = done

    def _interrupted(self, file: IO[bytes]) -> tuple[int, list[int]]:
        """What an interrupted writer of this run has done, and the bytes at each checkpoint; 0 and [] without one."""
        try:
            noted = json.loads(self.progress.read_text(encoding="utf-8"))
            ends = [int(end) for end in noted["ends"]]
            if noted["run"] == self.run and os.fstat(file.fileno()).st_size >= ends[-1]:
                return int(noted["done"]), ends
        except (OSError, ValueError, KeyError, TypeError, IndexError):
            pass  # no note, or one that cannot be used: the run begins anew
        return 0, []

    def add(self, frame_id: int, detections: Detections) -> None:
        """Append the detections of one frame. frame_id: 1-based and cumulative over the image set."""
        self.add_table(DetectionTable.of_frame(frame_id, detections))

    def add_table(self, table: DetectionTable) -> None:
        """Append the rows of `table` in their order."""
        frame_ids = (table.frames + 1).tolist()
        columns = [frame_ids, table.labels.tolist(), table.scores.tolist(), *table.boxes.T.tolist()]
        lines = "".join(self._line % row for row in zip(*columns, strict=True))
        with output_errors(self.path):
            self._file.write(lines.encode("ascii"))


def _unfinished_files(path: Path) -> tuple[Path, Path]:
    """The files of an unfinished run that writes `path`: its lines so far, and the note on its progress."""
    return path.with_name(f"{path.name}.part"), path.with_name(f"{path.name}.progress")


@dataclass(frozen=True)
class Unfinished(os.PathLike):
    """The results of a run that is still going, or was interrupted, up to its last checkpoint.

    path: what has been written so far. size: bytes of it that are complete. done: what the run's `checkpoint` was
    given; for the test scripts, how many videos are done, in the order of the image set.
    """

    path: Path
    size: int
    done: int

    def __fspath__(self) -> str:
        return os.fspath(self.path)


def find_results(path: str | os.PathLike) -> Path | Unfinished:
    """The file at `path`; where a run is yet to finish it, or `path` names its `.part`, what that run has so far.

    Raises ResultsError where there is neither, and for a run without a checkpoint.
    """
    path = Path(path)
    if path.is_dir():
        raise ResultsError(f"{path}: is a folder; give a results file, such as {DETECTIONS} in it")
    unfinished = path.suffix == ".part"
    final = path.with_suffix("") if unfinished else path
    if path.is_file() and not unfinished:
        return path
    part, progress = _unfinished_files(Path(os.path.realpath(final)))
    if not part.is_file():
        if unfinished and final.is_file():  # the run ended a moment ago
            return final
        raise ResultsError(f"{path}: there is no such results file, and no run that is writing it ({part.name})")
    try:
        noted = json.loads(progress.read_text(encoding="utf-8"))
        found = Unfinished(part, int(noted["size"]), int(noted["done"]))
    except FileNotFoundError as error:
        raise ResultsError(f"{part}: its run has not finished a video yet; try again later") from error
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ResultsError(
            f"{progress}: not the note of a run on how far it is ({error}); run the test anew"
        ) from error
    if part.stat().st_size < found.size:
        raise ResultsError(f"{part}: shorter than the {found.size} bytes that {progress.name} says; try again")
    return found


def read_results(
    paths: Sequence[str | os.PathLike] | str | os.PathLike, num_frames: int, num_classes: int
) -> DetectionTable:
    """The detections in `paths`, the parts of one run or a single file; an empty file is a run that found nothing.

    paths: may be `Unfinished`. num_frames: F, of the image set. num_classes: K, without the background.
    Raises ResultsError for a line that is not seven numbers, a frame id outside 1..F, a class outside 1..K, and for
    frames that two of the files contain.
    """
    paths = [paths] if isinstance(paths, (str, os.PathLike)) else paths
    parts: list[DetectionTable] = []
    file_of_frame = np.zeros(num_frames, np.int32)  # 1-based number of the file that has it; 0: none so far
    for number, path in enumerate(paths, 1):
        blocks = DetectionTable.cat(list(read_blocks(path, num_frames, num_classes)))
        taken = file_of_frame[blocks.frames]
        if taken.any():
            row = int(taken.argmax())
            raise ResultsError(
                f"{os.fspath(path)}: frame {blocks.frames[row] + 1} is in {os.fspath(paths[taken[row] - 1])} too; "
                "files that are read together must be parts of one run"
            )
        file_of_frame[blocks.frames] = number
        parts.append(blocks)
    return parts[0] if len(parts) == 1 else DetectionTable.cat(parts)


def read_blocks(path: str | os.PathLike, num_frames: int, num_classes: int) -> Iterator[DetectionTable]:
    """The detections of one file piece by piece, in its order; as for `read_results`."""
    for rows in _checked(path, num_frames, num_classes):
        yield _table(rows)


def _table(rows: np.ndarray) -> DetectionTable:
    """(n, 7) as in the file -> columns."""
    return DetectionTable(
        (rows[:, 0] - 1).astype(np.int32), rows[:, 1].astype(np.int16), rows[:, 2].copy(), rows[:, 3:].copy()
    )


def _checked(path: str | os.PathLike, num_frames: int, num_classes: int) -> Iterator[np.ndarray]:
    """Blocks of rows (n, 7) float64 of one file, with every value checked."""
    limits = ((0, num_frames, "frame_id", "frames"), (1, num_classes, "class", "classes"))
    blocks = _blocks(path)
    path = os.fspath(path)
    for rows, lines in blocks:
        bad = ~np.isfinite(rows).all(axis=1)
        if bad.any():
            raise ResultsError(f"{path}:{lines[bad.argmax()]}: a number that is not finite; write the results anew")
        for column, count, name, things in limits:
            values = rows[:, column]
            bad = (values < 1) | (values > count) | (values != np.floor(values))
            if bad.any():
                row = int(bad.argmax())
                raise ResultsError(
                    f"{path}:{lines[row]}: {name} {values[row]:g} is not a whole number from 1 to {count}; "
                    f"the image set has {count} {things}: are these its results, and its class list?"
                )
        yield rows


def _blocks(path: str | os.PathLike) -> Iterator[tuple[np.ndarray, Sequence[int]]]:
    """Rows (n, 7) float64 of a file, block by block, and their line numbers."""
    line = 1
    left = path.size if isinstance(path, Unfinished) else sys.maxsize
    path = os.fspath(path)
    try:
        with open(path, "rb") as file:
            rest, mark = b"", b"\xef\xbb\xbf"  # UTF-8's byte-order mark, which editors put first
            while block := file.read(min(_BLOCK, left)):
                left -= len(block)
                block, mark = block.removeprefix(mark), b""
                text, newline, rest = (rest + block).rpartition(b"\n")
                yield _parse(path, text + newline, line)
                line += text.count(b"\n") + len(newline)
            yield _parse(path, rest, line)
    except OSError as error:
        raise ResultsError(f"{path}: cannot be read ({error.strerror})") from error


def _parse(path: str | os.PathLike, text: bytes, first_line: int) -> tuple[np.ndarray, Sequence[int]]:
    """Rows of whole lines of text. The fast way is for the form that we write; anything else is read line by line."""
    text += b"" if text.endswith(b"\n") else b"\n"
    characters = np.frombuffer(text, np.uint8)
    rows = np.empty((text.count(b"\n"), len(COLUMNS)))
    if _results_text.parse(characters.ctypes.data, len(characters), rows.ctypes.data):
        return rows, range(first_line, first_line + len(rows))
    rows, lines = [], []
    for number, line in enumerate(text.split(b"\n"), first_line):
        fields = line.split()
        if not fields:
            continue
        try:
            rows.append([float(field) for field in fields])
        except ValueError:
            raise ResultsError(f"{path}:{number}: not a number among {line.decode('ascii', 'replace')!r}") from None
        if len(fields) != len(COLUMNS):
            raise ResultsError(f"{path}:{number}: {len(fields)} columns; a line is '{' '.join(COLUMNS)}'")
        lines.append(number)
    return np.array(rows, np.float64).reshape(-1, 7), lines
