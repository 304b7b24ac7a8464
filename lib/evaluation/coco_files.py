"""Read and write ground truth and results as COCO-VID JSON.

Ground truth has `videos`, `images` (with `video_id` and `frame_id`, from 0), `annotations` (with `instance_id`, the
track) and `categories`; results are a list of `{image_id, category_id, bbox, score}`. Files written here number images
like the frames of results files and categories like labels, both from 1. A bbox is x, y, width and height; our boxes
include their last row and column, so width = x2 - x1 + 1. Numbers are read to a millionth of a pixel, so that a box is
unchanged after writing and reading.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from lib.evaluation.coco_boxes import DECIMALS, corners, xywh
from lib.evaluation.results_file import DetectionTable, ResultsError
from lib.files import read_json, write_text, writing
from lib.structures import GroundTruth

_MOST = 1 << 34  # bytes of a file; the detections of ImageNet VID val are about 2 GiB


@dataclass(frozen=True)
class CocoTruth:
    """A ground-truth file. image_ids: (F,) of the frames. category_ids: (K,) of the classes. videos: names of the V."""

    truth: GroundTruth
    image_ids: list[int]
    category_ids: list[int]
    videos: list[str]


def write_coco_truth(
    path: str | os.PathLike, truth: GroundTruth, videos: Sequence[str], files: Sequence[str], sizes: np.ndarray
) -> None:
    """Write ground truth, whole or not at all.

    videos: names of the V. files: (F,) image files, as they are to be named. sizes: (F, 2) width and height.
    Raises OutputError.
    """
    first = np.searchsorted(truth.videos, truth.videos)
    frames = range(truth.num_frames)
    images = [
        {
            "id": f + 1,
            "video_id": int(truth.videos[f]) + 1,
            "frame_id": int(f - first[f]),
            "file_name": files[f],
            "width": int(sizes[f, 0]),
            "height": int(sizes[f, 1]),
        }
        for f in frames
    ]
    frame_of_object = truth.frame_of_object()
    annotations = [
        {
            "id": i + 1,
            "image_id": int(frame_of_object[i]) + 1,
            "video_id": int(truth.videos[frame_of_object[i]]) + 1,
            "instance_id": int(truth.track_ids[i]),
            "category_id": int(truth.labels[i]),
            "bbox": box,
            "area": box[2] * box[3],
            "iscrowd": 0,
        }
        for i, box in enumerate(_rounded(xywh(truth.boxes)))
    ]
    content = {
        "videos": [{"id": v, "name": name} for v, name in enumerate(videos, 1)],
        "images": images,
        "annotations": annotations,
        "categories": [{"id": k, "name": name} for k, name in enumerate(truth.class_names, 1)],
    }
    write_text(path, json.dumps(content, allow_nan=False) + "\n")


def write_coco_results(path: str | os.PathLike, blocks: Iterable[DetectionTable]) -> None:
    """Write results, one entry a line in the order of `blocks`, whole or not at all. Raises OutputError.

    They are written in pieces: the entries of a whole image set would take tens of GiB as Python objects.
    """
    with writing(path, text=True) as file:
        separator = "[\n"
        for block in blocks:
            columns = (
                (block.frames + 1).tolist(),
                block.labels.tolist(),
                _rounded(xywh(block.boxes)),
                block.scores.tolist(),
            )
            for image, category, bbox, score in zip(*columns, strict=True):
                entry = {"image_id": image, "category_id": category, "bbox": bbox, "score": score}
                file.write(separator + json.dumps(entry, allow_nan=False))
                separator = ",\n"
        file.write("[]\n" if separator == "[\n" else "\n]\n")


def read_coco_truth(path: str | os.PathLike) -> CocoTruth:
    """Read ground truth: frames by video and `frame_id`, classes by category id, images without a video one by one.

    Annotations with `iscrowd` are not used. Raises ResultsError naming what is missing or wrong.
    """
    content = _load(path, dict)
    try:
        categories = sorted(content["categories"], key=lambda category: category["id"])
        videos = content.get("videos") or []
        order = {video["id"]: v for v, video in enumerate(sorted(videos, key=lambda video: video["id"]))}
        names = [str(video["name"]) for video in sorted(videos, key=lambda video: video["id"])]
        images = content["images"]
        if not videos:
            names = [str(image.get("file_name", image["id"])) for image in images]
        video_of = [order[image["video_id"]] if videos else i for i, image in enumerate(images)]
        ranks = sorted(range(len(images)), key=lambda i: (video_of[i], images[i].get("frame_id", 0)))
        image_ids = [images[i]["id"] for i in ranks]
        category_ids = [category["id"] for category in categories]
        frame_of = {image: frame for frame, image in enumerate(image_ids)}
        label_of = {category: label for label, category in enumerate(category_ids, 1)}
        objects = [item for item in content["annotations"] if not item.get("iscrowd", 0)]
        rows = [
            (frame_of[item["image_id"]], label_of[item["category_id"]], int(item.get("instance_id", -1)), *item["bbox"])
            for item in objects
        ]
        table = np.array(rows, np.float64).reshape(-1, 7)
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise ResultsError(f"{path}: not COCO-VID ground truth ({type(error).__name__}: {error})") from error
    if len(frame_of) < len(images) or len(label_of) < len(categories):
        raise ResultsError(f"{path}: an id of an image or a category is given twice")
    if not np.isfinite(table).all():
        raise ResultsError(f"{path}: a box with a number that is not finite")
    table = table[np.argsort(table[:, 0], kind="stable")]
    truth = GroundTruth(
        class_names=[str(category.get("name", category["id"])) for category in categories],
        videos=np.array([video_of[i] for i in ranks], np.int64),
        offsets=np.concatenate(([0], np.cumsum(np.bincount(table[:, 0].astype(np.int64), minlength=len(images))))),
        boxes=corners(table[:, 3:]),
        labels=table[:, 1].astype(np.int64),
        track_ids=table[:, 2].astype(np.int64),
    )
    return CocoTruth(truth, image_ids, category_ids, names)


def read_coco_results(path: str | os.PathLike, image_ids: Sequence[int], category_ids: Sequence[int]) -> DetectionTable:
    """Read results. image_ids: (F,) of the frames; category_ids: (K,) of the classes. Raises ResultsError."""
    frame_of = {image: frame for frame, image in enumerate(image_ids)}
    label_of = {category: label for label, category in enumerate(category_ids, 1)}
    rows = []
    for number, item in enumerate(_load(path, list), 1):
        try:
            frame, label = frame_of.get(item["image_id"]), label_of.get(item["category_id"])
            x, y, width, height = map(float, item["bbox"])
            row = (frame, label, float(item["score"]), x, y, width, height)
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            reason = f"{type(error).__name__}: {error}"
            raise ResultsError(
                f"{path}: entry {number} is not {{image_id, category_id, bbox, score}} ({reason})"
            ) from error
        if frame is None or label is None:
            key, things = ("image_id", "images") if frame is None else ("category_id", "categories")
            raise ResultsError(
                f"{path}: entry {number}: there is no {key} {item[key]} among the {things} of the ground truth; "
                "are these its results?"
            )
        if not all(map(math.isfinite, row)):
            raise ResultsError(f"{path}: entry {number}: a number that is not finite")
        rows.append(row)
    table = np.array(rows, np.float64).reshape(-1, 7)
    return DetectionTable(
        table[:, 0].astype(np.int32), table[:, 1].astype(np.int16), table[:, 2].copy(), corners(table[:, 3:])
    )


def _rounded(values: np.ndarray) -> list[list[float]]:
    return np.round(values, DECIMALS).tolist()


def _load(path: str | os.PathLike, kind: type) -> list | dict:
    form = "a list of detections" if kind is list else "an object with images, annotations and categories"
    content = read_json(path, ResultsError, f"give {form}", most=_MOST)
    if not isinstance(content, kind):
        raise ResultsError(f"{path}: not {form}")
    return content
