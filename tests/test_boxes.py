import numpy as np
import pytest
import torch

from lib import boxes


@pytest.fixture
def layers(golden):
    return golden("layers_public")


def test_overlaps_match_the_recording(layers):
    a, b = torch.from_numpy(layers["overlaps_a"]), torch.from_numpy(layers["overlaps_b"])
    np.testing.assert_allclose(boxes.overlaps(a, b), layers["overlaps"], atol=1e-9, rtol=0)


def test_coding_matches_the_recording(layers):
    examples, targets = torch.from_numpy(layers["coding_ex"]), torch.from_numpy(layers["coding_gt"])
    np.testing.assert_allclose(boxes.encode(examples, targets), layers["coding_targets"], atol=1e-9, rtol=0)
    height, width = layers["coding_clip_shape"].tolist()
    for columns in (slice(0, 4), slice(4, 8)):
        deltas = torch.from_numpy(layers["coding_deltas"][:, columns])
        decoded = boxes.decode(examples, deltas)
        np.testing.assert_allclose(decoded, layers["coding_pred"][:, columns], atol=1e-9, rtol=1e-12)
        clipped = boxes.clip(decoded, height, width)
        np.testing.assert_allclose(clipped, layers["coding_clipped"][:, columns], atol=1e-9, rtol=0)


def _random_boxes(n: int, seed: int) -> torch.Tensor:
    rng = np.random.RandomState(seed)
    corner = rng.uniform(0, 80, (n, 2))
    return torch.from_numpy(np.hstack((corner, corner + rng.uniform(0, 40, (n, 2)))))


def test_decode_undoes_encode():
    a, b = _random_boxes(50, 0), _random_boxes(50, 1)
    torch.testing.assert_close(boxes.decode(a, boxes.encode(a, b)), b, atol=1e-9, rtol=0)


def test_overlaps_count_pixels():
    """On whole pixels the overlap is a count of cells of a drawn mask."""
    a, b = _random_boxes(8, 2).round(), _random_boxes(9, 3).round()

    def mask(box):
        canvas = np.zeros((130, 130), bool)
        x1, y1, x2, y2 = box.int().tolist()
        canvas[y1 : y2 + 1, x1 : x2 + 1] = True
        return canvas

    expected = [[(mask(p) & mask(q)).sum() / (mask(p) | mask(q)).sum() for q in b] for p in a]
    np.testing.assert_allclose(boxes.overlaps(a, b), expected, atol=1e-12)
    np.testing.assert_array_equal(boxes.areas(a), [mask(p).sum() for p in a])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_dtype_is_kept_and_nothing_is_allowed(dtype):
    empty, some = torch.zeros(0, 4, dtype=dtype), _random_boxes(3, 5).to(dtype)
    assert boxes.overlaps(empty, some).shape == (0, 3)
    assert boxes.encode(some, some).dtype == dtype
    assert boxes.decode(empty, empty).shape == (0, 4)
    assert boxes.clip(some, 10, 20).amax() <= 19
