"""Ground truth from a few numbers, and motion IoU written out one object at a time."""

import numpy as np

from lib.evaluation.mean_ap_reference import box_iou
from lib.structures import GroundTruth


def make_truth(objects, videos, classes):
    """objects: rows (frame, label, x1, y1, x2, y2, track), frames ascending. videos: length of each video."""
    objects = np.array(objects, np.float64).reshape(-1, 7)
    frames = objects[:, 0].astype(np.int64)
    num_frames = sum(videos)
    return GroundTruth(
        class_names=[f"class{k}" for k in range(1, classes + 1)],
        videos=np.repeat(np.arange(len(videos)), videos),
        offsets=np.concatenate(([0], np.cumsum(np.bincount(frames, minlength=num_frames)))),
        boxes=objects[:, 2:6],
        labels=objects[:, 1].astype(np.int64),
        track_ids=objects[:, 6].astype(np.int64),
    )


def plain_motion(truth):
    frame_of = truth.frame_of_object()
    values = []
    for i in range(len(truth.labels)):
        overlaps = []
        for j in range(len(truth.labels)):
            same = truth.track_ids[i] == truth.track_ids[j] and truth.videos[frame_of[i]] == truth.videos[frame_of[j]]
            if same and 1 <= abs(frame_of[i] - frame_of[j]) <= 10:
                overlaps.append(box_iou(truth.boxes[i], truth.boxes[j]))
        values.append(sum(overlaps) / len(overlaps) if overlaps else 1.0)
    return np.array(values)
