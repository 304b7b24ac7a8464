import numpy as np
import pytest
import torch

from lib.models.postprocess import PostProcess, RawDetections
from lib.structures import Detections, Frame


def _raw_of(boxes: torch.Tensor, probabilities: torch.Tensor) -> RawDetections:
    """Of as many frames as the tensors (B, R, ...) say."""
    return RawDetections([Frame(torch.zeros(3, 1, 1), 1.0) for _ in boxes], boxes, probabilities)


def _one(rule: PostProcess, boxes: torch.Tensor, probabilities: torch.Tensor) -> Detections:
    """Of one frame: boxes (R, 4), probabilities (R, K)."""
    (found,) = rule(_raw_of(boxes[None], probabilities[None]))
    return found


def test_recorded_detections_come_out_exactly(golden):
    layers = golden("layers_public")
    boxes, probabilities = torch.from_numpy(layers["post_boxes"][:, 4:]), torch.from_numpy(layers["post_scores"])
    found = _one(PostProcess(1e-3, 0.3, 300), boxes, probabilities)
    rows = torch.cat((found.labels[:, None].double(), found.boxes, found.scores[:, None]), dim=1).numpy()
    # One class of the recording has hundreds of equal scores. Which of equals comes first was up to the sorting
    # algorithm of that NumPy, so rows that tie are compared as a set; every other row is in its recorded place.
    recorded = layers["post_dets"]
    np.testing.assert_array_equal(rows[:, [0, 5]], recorded[:, [0, 5]])
    np.testing.assert_array_equal(_ties_by_x1(rows), _ties_by_x1(recorded))


def _ties_by_x1(rows: np.ndarray) -> np.ndarray:
    return rows[np.lexsort((rows[:, 1], -rows[:, 5], rows[:, 0]))]


def _raw(seed: int, boxes: int = 40, classes: int = 5) -> tuple[torch.Tensor, torch.Tensor]:
    rng = np.random.RandomState(seed)
    corner = rng.uniform(0, 60, (boxes, 2))
    sides = rng.uniform(5, 40, (boxes, 2))
    logits = torch.from_numpy(rng.standard_normal((boxes, classes)))
    return torch.from_numpy(np.hstack((corner, corner + sides))).float(), logits.softmax(1).float()


def _greedy(boxes: torch.Tensor, probabilities: torch.Tensor, threshold: float, nms_threshold: float) -> list[tuple]:
    """Class by class, box by box, on Python floats."""
    found = []
    boxes = boxes.double().tolist()
    for label in range(1, probabilities.shape[1]):
        scores = probabilities[:, label].tolist()
        order = sorted((i for i, s in enumerate(scores) if s > threshold), key=lambda i: (-scores[i], i))
        kept: list[int] = []
        for i in order:
            if all(_overlap(boxes[i], boxes[j]) <= nms_threshold for j in kept):
                kept.append(i)
        found += [(label, scores[i], tuple(boxes[i])) for i in kept]
    return found


def _overlap(a, b):
    width = max(0.0, min(a[2], b[2]) - max(a[0], b[0]) + 1)
    height = max(0.0, min(a[3], b[3]) - max(a[1], b[1]) + 1)
    area_a, area_b = ((c[2] - c[0] + 1) * (c[3] - c[1] + 1) for c in (a, b))
    return width * height / (area_a + area_b - width * height)


@pytest.mark.parametrize("seed", range(3))
def test_same_as_a_loop_over_classes(seed):
    boxes, probabilities = _raw(seed)
    found = _one(PostProcess(0.05, 0.4, None), boxes, probabilities)
    assert [(d.label, d.score, d.box) for d in found] == _greedy(boxes, probabilities, 0.05, 0.4)


@pytest.mark.parametrize("rule", [PostProcess(0.05, 0.4, 7), PostProcess(0.05, None, None), PostProcess(0.9, 0.4, 7)])
def test_frames_of_a_batch_do_not_mix(rule):
    boxes, probabilities = (torch.stack(parts) for parts in zip(*(_raw(seed) for seed in range(4)), strict=True))
    probabilities[1] = torch.tensor([1.0, 0, 0, 0, 0])  # nothing to find in the second frame
    together = rule(_raw_of(boxes, probabilities))
    assert len(together) == 4
    assert len(together[1]) == 0
    for found, *alone in zip(together, boxes, probabilities, strict=True):
        expected = _one(rule, *alone)
        for name in ("boxes", "scores", "labels"):
            assert torch.equal(getattr(found, name), getattr(expected, name))


def test_without_nms_every_box_above_the_threshold_stays_in_order():
    boxes, probabilities = _raw(1)
    found = _one(PostProcess(0.2, None, None), boxes, probabilities)
    labels, rows = np.nonzero(probabilities[:, 1:].numpy().T > 0.2)
    np.testing.assert_array_equal(found.labels, labels + 1)
    np.testing.assert_array_equal(found.boxes, boxes[rows])


def test_cap_keeps_what_ties_with_the_last():
    boxes = torch.arange(6.0)[:, None] * 100 + torch.tensor([0.0, 0, 10, 10])
    probabilities = torch.tensor([[0.0, s] for s in (0.9, 0.5, 0.5, 0.4, 0.5, 0.8)])
    found = _one(PostProcess(0.1, 0.3, 3), boxes, probabilities)
    assert found.scores.tolist() == pytest.approx([0.9, 0.8, 0.5, 0.5, 0.5])


@pytest.mark.parametrize("rows", [0, 4])
def test_nothing_found(rows):
    assert len(_one(PostProcess(1e-3, 0.3, 300), torch.zeros(rows, 4), torch.zeros(rows, 3))) == 0
