"""Ground truth and detections with seeded errors: jittered boxes, swapped classes, duplicates, strays and misses."""

import numpy as np

from lib.evaluation.results_file import DetectionTable
from tests.evaluation.plain_rules import make_truth


def made_up_truth(seed, videos=(6, 5, 1, 8), classes=4, side=320):
    """Tracks of 0 to 3 objects in each video that move over the frame; class `classes` has no object."""
    rng = np.random.RandomState(seed)
    objects, start = [], 0
    for length in videos:
        for track in range(rng.randint(0, 4)):
            label = rng.randint(1, classes)
            size, speed = rng.uniform(6, side / 2, 2), rng.normal(0, rng.choice([0.5, 4, 20]), 2)
            place = rng.uniform(0, side / 2, 2)
            for frame in range(length):
                x, y = place + frame * speed
                objects.append((start + frame, label, x, y, x + size[0], y + size[1], track))
        start += length
    objects.sort(key=lambda row: row[0])
    return make_truth(objects, list(videos), classes)


def made_up_detections(truth, seed, jitter=0.06, missing=0.1, swapped=0.1, again=0.15, strays=2.0, decimals=4):
    """A table sorted by frame. strays: false alarms a frame; the rest: shares of the objects, jitter of their sides."""
    rng = np.random.RandomState(seed)
    frame, classes, total = truth.frame_of_object(), len(truth.class_names), len(truth.labels)
    difficulty = rng.beta(2, 5, classes)[truth.labels - 1] if total else np.zeros(0)
    seen = np.flatnonzero(rng.rand(total) > missing + 0.4 * difficulty)
    twice = seen[rng.rand(len(seen)) < again]
    rows = np.concatenate((seen, twice, twice))
    sides = np.tile(truth.boxes[rows, 2:] - truth.boxes[rows, :2] + 1, 2)
    boxes = truth.boxes[rows] + sides * rng.standard_t(3, (len(rows), 4)) * (jitter + 0.1 * difficulty[rows, None])
    labels = truth.labels[rows].copy()
    swaps = rng.rand(len(rows)) < swapped
    labels[swaps] = 1 + (labels[swaps] + rng.choice([0, 0, 1], swaps.sum())) % classes
    scores = np.where(swaps | (np.arange(len(rows)) >= len(seen)), rng.beta(2, 3, len(rows)), rng.beta(5, 2, len(rows)))
    many = rng.poisson(strays * truth.num_frames)
    corner, size = rng.uniform(0, 250, (many, 2)), rng.uniform(8, 120, (many, 2))
    frames = np.concatenate((frame[rows], rng.randint(0, truth.num_frames, many))).astype(np.int32)
    labels = np.concatenate((labels, rng.randint(1, classes + 1, many))).astype(np.int16)
    scores = np.concatenate((scores, rng.beta(1, 8, many)))
    boxes = np.vstack((boxes, np.hstack((corner, corner + size))))
    boxes[:, 2:] = np.maximum(boxes[:, 2:], boxes[:, :2])
    table = DetectionTable(frames, labels, np.round(scores, decimals), np.round(boxes, 2))
    return table.sorted_by_frame()


def write_results(path, table):
    lines = zip(table.frames + 1, table.labels, table.scores, *table.boxes.T, strict=True)
    form = "{:d} {:d} {:.4f} {:.2f} {:.2f} {:.2f} {:.2f}\n"
    path.write_text("".join(form.format(*line) for line in lines))
