"""Writes imported videos as a data set: images linked or copied, an XML file for each, the lists and the classes."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from xml.sax.saxutils import escape

import cv2
import numpy as np
from tqdm import tqdm

from lib.data.image_set_making import middle_frames, video_lines
from lib.data.transforms import read_image
from lib.data.video import open_frames
from lib.files import OutputError, hold_folder, output_errors, write_text
from lib.importing.source import Box, ImportingError, SourceVideo

_QUALITY = 95  # of JPEG files made of a video file's frames
_LONGEST_NAME = 200  # characters, of a class


@dataclass
class Written:
    """What has been written of one split. videos: name -> frames. training: lines of its list. stills: paths."""

    videos: dict[str, int] = field(default_factory=dict)
    training: list[str] = field(default_factory=list)
    stills: list[str] = field(default_factory=list)
    objects: Counter = field(default_factory=Counter)
    empty: int = 0  # frames without an object

    @property
    def frames(self) -> int:
        """Frames of all videos and stills."""
        return sum(self.videos.values()) + len(self.stills)


@contextlib.contextmanager
def new_dataset(out: Path) -> Iterator[Path]:
    """A folder to write to, which becomes `out` when the block ends well and is removed when it does not.

    It lies beside `out` and is hidden; what a killed run has left of it is removed first. Raises OutputError where
    `out` is there and not an empty folder, FolderInUseError where another run writes it.
    """
    if out.is_dir() and not any(out.iterdir()):
        pass
    elif os.path.lexists(out):
        raise OutputError(f"{out}: is there already and not an empty folder; give a new one, or remove it")
    out = Path(os.path.abspath(out))
    hidden = out.with_name(f".{out.name}.importing")
    with contextlib.ExitStack() as stack:
        stack.callback(shutil.rmtree, hidden, ignore_errors=True)  # after the lock is let go
        try:
            stack.enter_context(hold_folder(hidden))
        except BaseException:
            stack.pop_all()  # another run's folder stays
            raise
        data = hidden / "data"
        with output_errors(out):
            shutil.rmtree(data, ignore_errors=True)
            data.mkdir()
        yield data
        with output_errors(out):
            if out.is_dir():
                out.rmdir()
            os.replace(data, out)


class DatasetWriter:
    """Writes videos below `root`. names: class -> what `<name>` says. copy: copy images where they could be linked.

    workers: threads that read images. frames_per_video: training frames of each video.
    """

    def __init__(self, root: Path, names: dict[str, str], copy: bool, workers: int, frames_per_video: int) -> None:
        self.root, self.names, self.copy, self.workers = root, names, copy, max(1, workers)
        self.frames_per_video = frames_per_video

    def write(self, split: str, videos: Sequence[SourceVideo]) -> Written:
        """Write the images and annotations of one split. Raises ImportingError, OutputError and what reading raises."""
        written = Written()
        named = unique_names(split, videos)
        known = sum(len(video.frames) for video in videos if not isinstance(video.frames, Path))
        with (
            ThreadPoolExecutor(self.workers) as pool,
            tqdm(total=known or None, unit="frame", desc=f"frames of {split}", delay=1) as bar,
        ):
            try:
                for name, video in named.items():
                    self._write_video(f"{split}/{name}", video, written, pool, bar)
            finally:
                pool.shutdown(cancel_futures=True)
        return written

    def _write_video(
        self, path: str, video: SourceVideo, written: Written, pool: ThreadPoolExecutor, bar: tqdm
    ) -> None:
        kind = "DET" if video.still else "VID"
        folder = PurePosixPath(kind, path).parent if video.still else PurePosixPath(kind, path)
        images, notes = self.root / "Data" / folder, self.root / "Annotations" / folder
        with output_errors(images):
            for place in (images, notes):
                place.mkdir(parents=True, exist_ok=True)
        if isinstance(video.frames, Path):
            sizes = self._decode(video.frames, images, bar)
        else:
            sizes = self._place_images(video, images, PurePosixPath(path).name if video.still else "", pool, bar)
        last = max(video.boxes, default=-1)
        if last >= len(sizes):
            raise ImportingError(
                f"{video.boxes[last][0].place}: the frame is not in the video: {video.frames} has {len(sizes)} frames"
            )
        tracks = _track_numbers(video)
        for number, size in enumerate(sizes):
            name = PurePosixPath(path).name if video.still else f"{number:06d}"
            boxes = video.boxes.get(number, [])
            text = annotation_xml(path, name, size, boxes, self.names, tracks)
            with output_errors(notes):
                (notes / f"{name}.xml").write_text(text, encoding="utf-8")
            written.objects.update(box.label for box in boxes)
            written.empty += not boxes
        if video.still:
            written.stills.append(path)
        else:
            written.videos[path] = len(sizes)
            shown = sorted(video.boxes)
            chosen = [shown[i] for i in middle_frames(len(shown), self.frames_per_video)] if shown else []
            written.training += [f"{path} 1 {number} {len(sizes)}" for number in chosen]

    def _place_images(
        self, video: SourceVideo, folder: Path, still: str, pool: ThreadPoolExecutor, bar: tqdm
    ) -> list[tuple[int, int]]:
        """Link or copy the images; the (width, height) of each. still: the name of the one image, where it is one."""
        sizes = []
        for number, (path, size) in enumerate(zip(video.frames, pool.map(_size, video.frames), strict=True)):
            said = video.sizes.get(number)
            if said and said[:2] != size:
                raise ImportingError(
                    f"{said[2]}: says {said[0]} x {said[1]} pixels, but {path} has {size[0]} x {size[1]}; correct one "
                    "of the two"
                )
            ending = path.suffix.lower()
            target = folder / f"{still or f'{number:06d}'}{'.JPEG' if ending in ('.jpg', '.jpeg') else ending}"
            with output_errors(target):
                _link_or_copy(path, target, self.copy)
            sizes.append(size)
            bar.update()
        if len(set(sizes)) > 1:
            number, other = next((i, size) for i, size in enumerate(sizes) if size != sizes[0])
            raise ImportingError(
                f"{video.frames[number]}: has {other[0]} x {other[1]} pixels, but the first frame of its video "
                f"{sizes[0][0]} x {sizes[0][1]}; all frames of a video must have one size"
            )
        return sizes

    def _decode(self, path: Path, folder: Path, bar: tqdm) -> list[tuple[int, int]]:
        """Write the frames of a video file as JPEG; their (width, height)."""
        sizes = []
        for number, frame in enumerate(open_frames(path)):
            target = folder / f"{number:06d}.JPEG"
            with output_errors(target):
                target.write_bytes(_jpeg(frame.pixels))
            sizes.append(frame.pixels.shape[1::-1])
            bar.update()
        return sizes


def unique_names(split: str, videos: Sequence[SourceVideo]) -> dict[str, SourceVideo]:
    """The videos by the path that they get below the split's folder. Raises ImportingError where two get the same.

    Blanks become _, since lists separate columns by them; where all names begin with the split's folder it is left out.
    """
    names = ["_".join(video.name.replace("\\", "/").split()).strip("/") for video in videos]
    if all(name.startswith(f"{split}/") for name in names):
        names = [name.removeprefix(f"{split}/") for name in names]
    found: dict[str, SourceVideo] = {}
    for name, video in zip(names, videos, strict=True):
        parts = name.split("/")
        if not name.isprintable() or any(part in ("", ".", "..") or ":" in part for part in parts) or len(name) > 1000:
            raise ImportingError(f"video {video.name[:200]!r}: no name for a folder; rename it")
        if name in found:
            raise ImportingError(f"video {video.name[:200]!r}: there are two of this name; rename one")
        found[name] = video
    return found


def annotation_names(labels: Sequence[str]) -> dict[str, str]:
    """Class -> what the `<name>` of its objects says, and classes.txt: it has no blanks. Raises ImportingError."""
    names: dict[str, str] = {}
    for label in labels:
        name = "_".join(label.split())
        if not name.isprintable() or not name or "#" in label or len(label) > _LONGEST_NAME:
            raise ImportingError(
                f"class {label[:100]!r}: a name needs letters that can be printed, and no #; rename the class"
            )
        if name in names.values():
            raise ImportingError(f"class {label!r}: another class has this name, but for its blanks; rename one")
        names[label] = name
    return names


def write_lists(root: Path, names: dict[str, str], train: Written | None, val: Written | None) -> dict[str, int]:
    """Write classes.txt and the lists of what there is; name of each list -> its lines."""
    lists: dict[str, list[str]] = {}
    if train:
        lists["VID_train_15frames"] = train.training
        lists["DET_train_30classes"] = [f"{stem} 1" for stem in train.stills]
    if val:
        lists["VID_val_videos"] = list(video_lines(val.videos))
        lists["DET_val"] = [f"{stem} {number}" for number, stem in enumerate(val.stills, 1)]
    for name, lines in lists.items():
        if lines:
            write_text(root / "ImageSets" / f"{name}.txt", "".join(f"{line}\n" for line in lines))
    lines = (name if name == label else f"{name} {' '.join(label.split())}" for label, name in names.items())
    write_text(root / "classes.txt", "".join(f"{line}\n" for line in lines))
    return {name: len(lines) for name, lines in lists.items() if lines}


def annotation_xml(
    path: str, name: str, size: tuple[int, int], boxes: Sequence[Box], names: dict[str, str], tracks: dict[str, int]
) -> str:
    """One annotation file; size: (width, height) of the image. Raises ImportingError for a box that is impossible."""
    lines = [
        "<annotation>",
        f"\t<folder>{escape(path)}</folder>",
        f"\t<filename>{escape(name)}</filename>",
        f"\t<size>\n\t\t<width>{size[0]}</width>\n\t\t<height>{size[1]}</height>\n\t</size>",
    ]
    for box in boxes:
        x1, y1, x2, y2 = box.pixels(*size)
        track = f"\t\t<trackid>{tracks[box.track]}</trackid>\n" if box.track else ""
        lines.append(
            f"\t<object>\n{track}\t\t<name>{escape(names[box.label])}</name>\n"
            f"\t\t<bndbox><xmin>{x1}</xmin><ymin>{y1}</ymin><xmax>{x2}</xmax><ymax>{y2}</ymax></bndbox>\n\t</object>"
        )
    return "\n".join([*lines, "</annotation>\n"])


def _track_numbers(video: SourceVideo) -> dict[str, int]:
    """Track as written -> its number: its own where all of the video are whole numbers, or else in order."""
    tracks = dict.fromkeys(box.track for frame in sorted(video.boxes) for box in video.boxes[frame] if box.track)
    if all(track.isdecimal() and len(track) < 18 for track in tracks):
        return {track: int(track) for track in tracks}
    return {track: number for number, track in enumerate(tracks)}


def _size(path: Path) -> tuple[int, int]:
    """(width, height) of an image, which is decoded as a training would."""
    height, width = read_image(path).shape[:2]
    return width, height


def _link_or_copy(source: Path, target: Path, copy: bool) -> None:
    """A hard link takes no space; another disk, or one without links, gets a copy."""
    source = source.resolve()
    if not copy:
        with contextlib.suppress(OSError):
            os.link(source, target)
            return
    shutil.copyfile(source, target)


def _jpeg(pixels: np.ndarray) -> bytes:
    return cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, _QUALITY])[1].tobytes()
