"""COCO-VID JSON: `videos`, `images` (with `video_id` and `frame_id`), `annotations` and `categories`.

A bbox is (x, y, width, height): of the pixels x to x + width - 1, as tools/export_coco.py writes it. Images without a
video are stills.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from lib.data.frame_files import natural_key
from lib.evaluation.coco_boxes import corners
from lib.files import read_json
from lib.importing.source import Box, ImportingError, Source, SourceVideo, finite

_MOST = 1 << 32  # bytes of a file
_WHAT = "give COCO-VID JSON with images, annotations and categories"


def read_coco(path: Path, frames: Path) -> Source:
    """The videos and stills of a COCO or COCO-VID file; frames: the folder that its `file_name`s begin from.

    Raises ImportingError.
    """
    content = read_json(path, ImportingError, _WHAT, most=_MOST)
    if not isinstance(content, dict):
        raise ImportingError(f"{path}: not an object; {_WHAT}")
    labels = {id_: str(item.get("name", id_)) for id_, item in _by_id(path, content, "categories").items()}
    ordered = [labels[id_] for id_ in sorted(labels, key=lambda id_: natural_key(str(id_)))]
    names = {id_: str(item.get("name", id_)) for id_, item in _by_id(path, content, "videos", required=False).items()}
    images = _by_id(path, content, "images")
    videos = _videos(path, names, images, frames)
    place_of = {id_: (video, number) for video, ids in videos for number, id_ in enumerate(ids)}
    left_out = 0
    for number, item in enumerate(_list(path, content, "annotations")):
        place = f"{path}: annotations[{number}]"
        if item.get("iscrowd"):
            left_out += 1
            continue
        image, category = (_value(item, key, place) for key in ("image_id", "category_id"))
        for key, known, value in (("image_id", place_of, image), ("category_id", labels, category)):
            if value not in known:
                raise ImportingError(f"{place}: there is no {key} {value!r}")
        bbox = _value(item, "bbox", place)
        values = finite(bbox if isinstance(bbox, list) and len(bbox) == 4 else [None] * 4, f"{place}.bbox")
        video, frame = place_of[image]
        track = item.get("instance_id", item.get("track_id", ""))
        box = Box(
            labels[category], tuple(corners(np.array([values]))[0].tolist()), "" if track == -1 else str(track), place
        )
        video.boxes.setdefault(frame, []).append(box)
    sentences = [f"{left_out} annotations with iscrowd"] if left_out else []
    return Source(str(path), [video for video, _ in videos], ordered, sentences)


def _videos(
    path: Path, names: dict[Any, str], images: dict[Any, dict], frames: Path
) -> list[tuple[SourceVideo, list[Any]]]:
    """Every video, and every still, with the ids of its images in order."""
    members: dict[Any, list[Any]] = {id_: [] for id_ in names}
    stills: list[Any] = []
    for id_, image in images.items():
        video = image.get("video_id")
        if video is None:
            stills.append(id_)
        elif video not in members:
            raise ImportingError(f"{path}: image {id_}: there is no video_id {video!r} among the videos")
        else:
            members[video].append(id_)
    found = []
    for id_ in sorted(members, key=lambda id_: natural_key(str(id_))):
        ids = _in_order(path, members[id_], images)
        if ids:
            found.append((_video(path, names[id_], ids, images, frames), ids))
    for id_ in stills:
        stem = str(Path(_file_name(path, id_, images)).with_suffix(""))
        found.append((_video(path, stem, [id_], images, frames, still=True), [id_]))
    return found


def _in_order(path: Path, ids: Sequence[Any], images: dict[Any, dict]) -> list[Any]:
    """By `frame_id`, or in natural order of the file names where no image has one."""
    numbers = {id_: images[id_].get("frame_id") for id_ in ids}
    if all(number is None for number in numbers.values()):
        return sorted(ids, key=lambda id_: natural_key(_file_name(path, id_, images)))
    seen: dict[int, Any] = {}
    for id_, number in numbers.items():
        if not isinstance(number, int):
            raise ImportingError(f"{path}: image {id_}: frame_id must be a whole number, not {number!r}")
        if number in seen:
            raise ImportingError(f"{path}: image {id_}: has the frame_id {number} of image {seen[number]} of its video")
        seen[number] = id_
    return [seen[number] for number in sorted(seen)]


def _video(
    path: Path, name: str, ids: Sequence[Any], images: dict[Any, dict], frames: Path, still: bool = False
) -> SourceVideo:
    video = SourceVideo(name, [frames / _file_name(path, id_, images) for id_ in ids], still=still)
    for number, id_ in enumerate(ids):
        size = images[id_].get("width"), images[id_].get("height")
        if all(isinstance(side, int) for side in size):
            video.sizes[number] = (*size, f"{path}: image {id_}")
    return video


def _file_name(path: Path, id_: Any, images: dict[Any, dict]) -> str:
    name = _value(images[id_], "file_name", f"{path}: image {id_}")
    if not isinstance(name, str) or not name:
        raise ImportingError(f"{path}: image {id_}: file_name must be a path, not {name!r}")
    return name


def _list(path: Path, content: dict, key: str, required: bool = True) -> list[dict]:
    items = content.get(key)
    if items is None and not required:
        return []
    if not isinstance(items, list) or not all(isinstance(item, dict) for item in items):
        raise ImportingError(f"{path}: '{key}' is not a list of objects; {_WHAT}")
    return items


def _by_id(path: Path, content: dict, key: str, required: bool = True) -> dict[Any, dict]:
    found: dict[Any, dict] = {}
    for number, item in enumerate(_list(path, content, key, required)):
        place = f"{path}: {key}[{number}]"
        id_ = _value(item, "id", place)
        if not isinstance(id_, (int, str)):
            raise ImportingError(f"{place}: the id must be a number or a text, not {id_!r}")
        if id_ in found:
            raise ImportingError(f"{place}: the id {id_} is given twice")
        found[id_] = item
    return found


def _value(item: dict, key: str, place: str) -> Any:
    if key not in item:
        raise ImportingError(f"{place}: has no '{key}'; {_WHAT}")
    value = item[key]
    if key.endswith("id") and not isinstance(value, (int, str)):
        raise ImportingError(f"{place}: '{key}' must be a number or a text, not {str(value)[:50]!r}")
    return value
