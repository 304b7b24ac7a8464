"""Results of a test with several processes: each writes its own file, and the main process joins them in order."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from lib.evaluation.results_file import ResultsError
from lib.files import sha256_of, write_json, writing


def file_of_process(path: Path, rank: int, size: int) -> Path:
    """The file in which process `rank` of `size` writes its share of the results in `path`; `path` for one process."""
    return path if size == 1 else path.with_name(f"{path.stem}.process_{rank}_of_{size}.txt")


def _note(share: Path) -> Path:
    return share.with_suffix(".json")


def note_share(share: Path, fingerprint: str, videos: Sequence[int], ends: Sequence[int]) -> None:
    """Write a note beside a finished share that describes its contents.

    fingerprint: of the test. videos: the numbers of its videos, in order. ends: length of the file in bytes after each
    of them.
    """
    content = {"fingerprint": fingerprint, "videos": list(videos), "ends": list(ends), "results": sha256_of(share)}
    write_json(_note(share), content)


def is_finished_share(share: Path, fingerprint: str) -> bool:
    """Whether `share` exists, is complete, and belongs to the test with this fingerprint."""
    try:
        noted = json.loads(_note(share).read_text(encoding="utf-8"))
        return noted["fingerprint"] == fingerprint and noted["results"] == sha256_of(share)
    except (OSError, ValueError, KeyError, TypeError):
        return False


def join_shares(path: Path, shares: Sequence[Path], num_videos: int) -> None:
    """Write the results of all shares to `path`, video after video, and remove the shares. Raises ResultsError."""
    places: dict[int, tuple[Path, int, int]] = {}
    for share in shares:
        noted = json.loads(_note(share).read_text(encoding="utf-8"))
        for video, begin, end in zip(noted["videos"], [0, *noted["ends"]], noted["ends"], strict=False):
            places[video] = (share, begin, end)
    missing = sorted(set(range(num_videos)) - set(places))
    if missing:
        raise ResultsError(f"{path}: the shares of the processes lack {len(missing)} videos; run the test again")
    with writing(path) as out:
        for video in range(num_videos):
            share, begin, end = places[video]
            with open(share, "rb") as file:
                file.seek(begin)
                _copy(file, out, end - begin)
    for share in shares:
        share.unlink()
        _note(share).unlink()


def _copy(source, target, size: int) -> None:
    while size:
        block = source.read(min(size, 1 << 20))
        if not block:
            raise ResultsError(f"{source.name}: shorter than its note says; run the test again")
        target.write(block)
        size -= len(block)
