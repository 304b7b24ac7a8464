"""The rules of evaluation written out one detection at a time, in plain float64 Python: slow, and easy to check."""

import numpy as np

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


def size(box):
    return (box[2] - box[0] + 1) * (box[3] - box[1] + 1)


def iou(a, b):
    width = min(a[2], b[2]) - max(a[0], b[0]) + 1
    height = min(a[3], b[3]) - max(a[1], b[1]) + 1
    if width <= 0 or height <= 0:
        return 0.0
    return width * height / (size(a) + size(b) - width * height)


def threshold(box):
    return min(0.5, size(box) / ((box[2] - box[0] + 11) * (box[3] - box[1] + 11)))


def plain_motion(truth):
    frame_of = truth.frame_of_object()
    values = []
    for i in range(len(truth.labels)):
        overlaps = []
        for j in range(len(truth.labels)):
            same = truth.track_ids[i] == truth.track_ids[j] and truth.videos[frame_of[i]] == truth.videos[frame_of[j]]
            if same and 1 <= abs(frame_of[i] - frame_of[j]) <= 10:
                overlaps.append(iou(truth.boxes[i], truth.boxes[j]))
        values.append(sum(overlaps) / len(overlaps) if overlaps else 1.0)
    return np.array(values)


def plain_ap(truth, detections, motion, motion_range, area_range):
    """detections: rows (frame, label, score, x1, y1, x2, y2), in the order of the file. AP per class, NaN without."""

    def moves(i):
        return motion_range[0] <= motion[i] <= motion_range[1]

    def counts(i):
        return moves(i) and area_range[0] <= size(truth.boxes[i]) <= area_range[1]

    empty = [f for f in range(truth.num_frames) if truth.offsets[f] == truth.offsets[f + 1]]
    entries = [*motion, *(0.0 for _ in empty)]
    share = sum(motion_range[0] <= entry <= motion_range[1] for entry in entries) / max(1, len(entries))

    found = [[] for _ in truth.class_names]
    for frame in range(truth.num_frames):
        objects = range(truth.offsets[frame], truth.offsets[frame + 1])
        free = set(objects)
        in_frame = [row for row in detections if row[0] == frame]
        for _, label, score, *box in sorted(in_frame, key=lambda row: -row[2]):
            best, best_iou = None, -1.0
            for i in objects:
                overlap = iou(box, truth.boxes[i])
                if i in free and truth.labels[i] == label and threshold(truth.boxes[i]) <= overlap > best_iou:
                    best, best_iou = i, overlap
            if best is not None:
                free.remove(best)
                found[int(label) - 1].append((score, counts(best), 0.0))
                continue
            right = max((iou(box, truth.boxes[i]) for i in objects if moves(i)), default=-1.0)
            wrong = max((iou(box, truth.boxes[i]) for i in objects if not moves(i)), default=-1.0)
            if right > wrong:
                weight = 1.0
            elif right < wrong:
                weight = 0.0
            elif not objects:
                weight = share
            else:
                weight = sum(not moves(i) for i in objects) / len(objects)
            if not area_range[0] <= size(box) <= area_range[1]:
                weight = 0.0
            found[int(label) - 1].append((score, False, weight))

    aps = []
    for label, results in enumerate(found, 1):
        objects = sum(truth.labels[i] == label and counts(i) for i in range(len(truth.labels)))
        aps.append(area_under_curve(results, objects) if objects else float("nan"))
    return np.array(aps)


def area_under_curve(results, objects):
    points, true, false = [(0.0, 0.0)], 0, 0.0
    for _, hit, weight in sorted(results, key=lambda row: -row[0]):
        true, false = true + hit, false + weight
        points.append((true / objects, true / (true + false) if true else 0.0))
    area = 0.0
    for (before, _), (recall, _) in zip(points, points[1:], strict=False):
        if recall > before:
            area += (recall - before) * max(p for r, p in points if r >= recall)
    return area
