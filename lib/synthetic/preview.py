"""A contact sheet of a synthetic data set, drawn from its settings: no file of the data set is read."""

from __future__ import annotations

import cv2
import numpy as np

from lib.synthetic.casting import Settings, make_clip
from lib.synthetic.catalogue import class_names
from lib.synthetic.scene import Clip

_GAP = 4
_COLOURS = ((80, 220, 80), (80, 180, 255), (255, 160, 80), (220, 90, 220), (90, 230, 230), (255, 230, 90))  # BGR


def contact_sheet(settings: Settings, columns: int = 5, rows: int = 3, clip_rows: int = 2) -> np.ndarray:
    """(H, W, 3) uint8 BGR: one frame of rows x columns validation clips, then `clip_rows` of them frame by frame."""
    clips = [make_clip(settings, "val", index) for index in range(rows * columns)]
    tiles = [annotated(clip, settings.frames // 2, settings) for clip in clips]
    lively = sorted(clips, key=_liveliness)[-clip_rows:] if clip_rows else []
    for clip in lively:
        first = max(0, min(settings.frames // 3, settings.frames - columns))
        tiles += [annotated(clip, min(first + n, settings.frames - 1), settings) for n in range(columns)]
    blank = np.full((settings.height + _GAP, settings.width + _GAP, 3), 255, np.uint8)
    lines = []
    for start in range(0, len(tiles), columns):
        cells = [blank.copy() for _ in range(columns)]
        for cell, tile in zip(cells, tiles[start : start + columns], strict=False):
            cell[_GAP:, _GAP:] = tile
        lines.append(np.hstack(cells))
    return np.vstack(lines)


def annotated(clip: Clip, index: int, settings: Settings) -> np.ndarray:
    """Frame `index` of a clip as its JPEG file shows it, with boxes and names; a dot marks the occluded flag."""
    image = cv2.imdecode(np.frombuffer(clip.jpeg(index), np.uint8), cv2.IMREAD_COLOR)
    names, objects = class_names(settings.classes), clip.objects[index]
    for box, label, track, occluded in zip(
        objects.boxes.tolist(), objects.labels, objects.track_ids, objects.occluded, strict=True
    ):
        colour = _COLOURS[int(track) % len(_COLOURS)]
        cv2.rectangle(image, box[:2], box[2:], colour, 1)
        text = names[int(label) - 1] + (" ." if occluded else "")
        (width, height), _ = cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, 0.4, 1)
        x, y = box[0], max(box[1], height + 4)
        cv2.rectangle(image, (x, y - height - 4), (x + width + 3, y), colour, -1)
        cv2.putText(image, text, (x + 2, y - 3), cv2.FONT_HERSHEY_SIMPLEX, 0.4, (20, 20, 20), 1, cv2.LINE_AA)
    return image


def _liveliness(clip: Clip) -> float:
    """Median motion of the fastest object's centre from one frame to the next, in pixels.

    0 for a clip in which an object is out of the frame at times.
    """
    cast = sum(layer.label > 0 for layer in clip.layers)
    if min(len(objects) for objects in clip.objects) < cast:
        return 0.0
    steps = [0.0]
    for layer in clip.layers[1:]:
        if layer.label:
            centres = layer.trajectory.poses(np.arange(clip.frames))[..., 2]
            way = np.linalg.norm(np.diff(centres, axis=0), axis=1)
            steps.append(float(np.median(way)) if len(way) else 0.0)
    return max(steps)
