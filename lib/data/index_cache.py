"""The annotation index of an image set: parsed once by all cores, then read from a cache file while nothing changed.

The cache is a plain `.npz` without pickled objects. It carries a fingerprint of the list file and of the size and
modification time of every XML file; class lists are applied after loading, so they cannot make it stale.
"""

from __future__ import annotations

import hashlib
import itertools
import logging
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import fields
from pathlib import Path

import numpy as np
from tqdm import tqdm

from lib.data.annotations import AnnotationError, AnnotationIndex, read_annotation
from lib.data.image_sets import DatasetError, ImageSet
from lib.files import OutputError, writing

_FORMAT = 1  # raise it when the columns of AnnotationIndex change
_CHUNK = 500  # files that one process parses at a time
_log = logging.getLogger(__name__)


def load_index(
    image_set: ImageSet, stems: Sequence[str], lines: Sequence[int], cache_path: str | os.PathLike, what: str
) -> AnnotationIndex:
    """The annotations of the F frames `stems` of `image_set`.

    lines: (F,) the line of the list that each frame comes from, for messages. cache_path: the folder of caches.
    what: "frames" for single frames to train on, whose images must be there; "videos" for whole videos, whose images
    evaluation can do without. It also tells the caches of one list apart.
    Raises DatasetError for a missing or broken annotation file and for a missing image to train on.
    """
    paths = [image_set.annotation_path(stem) for stem in stems]
    fingerprint = _fingerprint(image_set, paths, lines)
    place = hashlib.sha256(os.path.abspath(image_set.root).encode()).hexdigest()[:8]
    cache = Path(cache_path) / f"{image_set.name}_{what}_{place}.npz"
    index = _read_cache(cache, fingerprint, len(paths))
    if index is None:
        index = _parse_all(image_set, stems if what == "frames" else None, paths, lines)
        _write_cache(cache, fingerprint, index)
    return index


def _fingerprint(image_set: ImageSet, paths: Sequence[str], lines: Sequence[int]) -> str:
    stats = np.empty((len(paths), 2), np.int64)
    for i, path in enumerate(paths):
        try:
            status = os.stat(path)
        except OSError as error:
            raise DatasetError(
                f"{image_set.path}:{lines[i]}: its annotation file {path} cannot be read ({error.strerror})"
            ) from error
        stats[i] = status.st_mtime_ns, status.st_size
    digest = hashlib.sha256(f"{_FORMAT} {image_set.digest}".encode())
    digest.update(stats.tobytes())
    return digest.hexdigest()


def _read_cache(cache: Path, fingerprint: str, num_frames: int) -> AnnotationIndex | None:
    """The cached index, or None if there is no valid one; a damaged file is reported."""
    if not cache.is_file():
        return None
    try:
        with np.load(cache, allow_pickle=False) as file:
            if str(file["fingerprint"]) != fingerprint:
                _log.info("%s: annotations or list changed since it was written; parsing again", cache)
                return None
            index = AnnotationIndex(**{field.name: file[field.name] for field in fields(AnnotationIndex)})
    except Exception as error:  # zipfile and NumPy raise many kinds for a damaged file; all mean the same here
        _log.warning("%s: damaged annotation cache (%s); parsing again", cache, error)
        return None
    if index.num_frames != num_frames or len(index.boxes) != index.offsets[-1]:
        _log.warning("%s: damaged annotation cache (wrong number of frames or objects); parsing again", cache)
        return None
    return index


def _write_cache(cache: Path, fingerprint: str, index: AnnotationIndex) -> None:
    """Write the cache, whole or not at all; a failure is only logged: it costs no more than time at the next start."""
    columns = {field.name: getattr(index, field.name) for field in fields(AnnotationIndex)}
    try:
        with writing(cache) as file:
            np.savez(file, fingerprint=fingerprint, **columns)
    except OutputError as error:
        _log.warning("%s; the annotations are parsed again next time", error)


def _parse_all(
    image_set: ImageSet, stems: Sequence[str] | None, paths: Sequence[str], lines: Sequence[int]
) -> AnnotationIndex:
    """The annotations in `paths`; with `stems`, check that the image of each exists."""
    starts = range(0, len(paths), _CHUNK)
    annotation_chunks = [paths[start : start + _CHUNK] for start in starts]
    images = [image_set.image_path(stem) if stems is not None else None for stem in stems or paths]
    image_chunks = [images[start : start + _CHUNK] for start in starts]
    parts: list[AnnotationIndex] = []
    with tqdm(total=len(paths), unit="file", desc=f"annotations of {image_set.name}", delay=1) as bar:
        for part, failure in _map(annotation_chunks, image_chunks):
            if failure is not None:
                row, message = failure
                raise DatasetError(f"{image_set.path}:{lines[len(parts) * _CHUNK + row]}: {message}")
            parts.append(part)
            bar.update(part.num_frames)
    return AnnotationIndex.cat(parts)


Parsed = tuple["AnnotationIndex | None", "tuple[int, str] | None"]


def _cores() -> int:
    """Cores that this process may use; Windows and macOS do not say, and all count there."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _map(annotation_chunks: list[list[str]], image_chunks: list[list[str | None]]) -> Iterator[Parsed]:
    """The result of `_parse` for each chunk, in order; in several processes if there are enough chunks."""
    processes = min(_cores(), len(annotation_chunks))
    if processes < 2 or len(annotation_chunks) < 8:
        yield from itertools.starmap(_parse, zip(annotation_chunks, image_chunks, strict=True))
        return
    with ProcessPoolExecutor(processes) as pool:
        try:
            yield from pool.map(_parse, annotation_chunks, image_chunks)
        finally:
            pool.shutdown(cancel_futures=True)


def _parse(annotation_paths: list[str], image_paths: list[str | None]) -> Parsed:
    """The index of these files, or the row of the first unusable file and the reason.

    A None image path is not checked.
    """
    annotations = []
    for row, (annotation_path, image_path) in enumerate(zip(annotation_paths, image_paths, strict=True)):
        try:
            annotations.append(read_annotation(annotation_path))
        except AnnotationError as error:
            return None, (row, str(error))
        if image_path is not None and not os.path.isfile(image_path):
            return None, (row, f"no image {image_path}")
    return AnnotationIndex.of(annotations), None
