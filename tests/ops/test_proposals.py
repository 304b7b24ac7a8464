from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch.library import opcheck
from torch.testing import assert_close

from lib.ops import proposals, proposals_reference

BOTH = pytest.mark.parametrize("propose", [proposals, proposals_reference], ids=["compiled", "reference"])
ANCHORS = torch.tensor([[-24.0, -8, 39, 23], [-8, -24, 23, 39], [-16, -16, 31, 31]])


def random_inputs(images=2, height=5, width=7, dtype=torch.float32, seed=0):
    """cls_prob, deltas, im_info for ANCHORS; the images differ in size, the second is smaller than its map."""
    generator = torch.Generator().manual_seed(seed)
    scores = torch.rand(images, 6, height, width, generator=generator, dtype=dtype)
    deltas = 0.3 * torch.randn(images, 12, height, width, generator=generator, dtype=dtype)
    sizes = torch.tensor([[16.0 * height, 16.0 * width, 1.0], [16.0 * height - 9, 16.0 * width - 20, 1.5]], dtype=dtype)
    return scores, deltas, sizes.repeat(images, 1)[:images]


def propose_by_loops(scores, deltas, info, pre, post, threshold, min_size):
    """The operator for one image, candidate by candidate, by docs/rules.md, section 2, in float64."""
    _, rows, columns = scores.shape
    height, width, scale = info
    candidates = []
    for row in range(rows):
        for column in range(columns):
            for a, anchor in enumerate(ANCHORS.tolist()):
                x1, y1, x2, y2 = np.array(anchor) + 16 * np.array([column, row, column, row])
                dx, dy, dw, dh = deltas[4 * a : 4 * a + 4, row, column]
                w, h = x2 - x1 + 1, y2 - y1 + 1
                x, y = x1 + (w - 1) / 2 + dx * w, y1 + (h - 1) / 2 + dy * h
                half_w, half_h = (np.exp(dw) * w - 1) / 2, (np.exp(dh) * h - 1) / 2
                box = np.clip([x - half_w, y - half_h, x + half_w, y + half_h], 0, np.array([width, height] * 2) - 1)
                score = scores[len(ANCHORS) + a, row, column]
                if row >= height // 16 or column >= width // 16:
                    score = -1
                if min(box[2] - box[0], box[3] - box[1]) + 1 < min_size * scale:
                    box, score = box + min_size * scale / 2 * np.array([-1, -1, 1, 1]), -1
                candidates.append((score, box))
    candidates = sorted(candidates, key=lambda c: -c[0])[:pre]
    kept = []
    for score, box in candidates:
        if all(overlap(box, other) <= threshold for _, other in kept):
            kept.append((score, box))
    return [kept[i % min(len(kept), post)] for i in range(post)]


def overlap(a, b):
    sides = np.clip(np.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2]) + 1, 0, None)
    return sides.prod() / ((a[2:] - a[:2] + 1).prod() + (b[2:] - b[:2] + 1).prod() - sides.prod())


@BOTH
@pytest.mark.parametrize("case", ["plain", "padcell", "few", "minsize", "ties", "pretop", "multi", "multimin"])
def test_equals_the_original(recorded, propose, case, device):
    numbers = recorded(f"proposal_{case}_")
    tensors = [numbers[f"proposal_{case}_{name}"].to(device) for name in ("cls_prob", "bbox_pred", "im_info")]
    pre, post, threshold, min_size = numbers[f"proposal_{case}_params"].tolist()
    rois, scores = propose(*tensors, numbers["anchors_16_cxx"], 16, int(pre), int(post), threshold, min_size)
    assert torch.equal(scores.cpu(), numbers[f"proposal_{case}_score"][:, 0])
    assert_close(rois.cpu(), numbers[f"proposal_{case}_rois"], atol=1e-3, rtol=0)


@BOTH
@pytest.mark.parametrize(("pre", "post", "min_size"), [(40, 20, 0.0), (1000, 60, 0.0), (0, 30, 28.0), (1, 4, 0.0)])
def test_equals_the_definition(propose, pre, post, min_size):
    scores, deltas, info = random_inputs(dtype=torch.float64)
    rois, roi_scores = propose(scores, deltas, info, ANCHORS, 16, pre, post, 0.6, min_size)
    assert rois.shape == (2 * post, 5)
    for image in range(2):
        arrays = (tensor[image].numpy() for tensor in (scores, deltas, info))
        expected = propose_by_loops(*arrays, pre or 10**9, post, 0.6, min_size)
        rows = slice(image * post, (image + 1) * post)
        assert rois[rows, 0].tolist() == [image] * post
        assert_close(rois[rows, 1:], torch.tensor(np.array([box for _, box in expected])))
        assert_close(roi_scores[rows], torch.tensor([float(score) for score, _ in expected], dtype=torch.float64))


@BOTH
def test_fewer_anchors_than_rows_repeat_in_order(propose):
    scores, deltas, info = random_inputs(images=1, height=1, width=1)
    rois, roi_scores = propose(scores, deltas, info, ANCHORS, 16, 6000, 8, 0.999, 0.0)
    order = scores[0, 3:, 0, 0].sort(descending=True).values
    assert_close(roi_scores, order.repeat(3)[:8])
    assert torch.equal(rois[:3], rois[3:6])
    assert torch.equal(rois[:2], rois[6:])


@BOTH
def test_cells_beyond_the_image_score_minus_one_but_stay(propose):
    scores, deltas, _ = random_inputs(images=1)
    rois, roi_scores = propose(
        scores, 0 * deltas, torch.tensor([[79.0, 112.0, 1.0]]), ANCHORS, 16, 6000, 105, 0.99, 0.0
    )
    # 79 pixels are four whole rows of cells: the fifth row, 21 candidates, is beyond.
    assert (roi_scores == -1).any()
    assert roi_scores[roi_scores > 0].min() >= 0
    assert set(roi_scores[roi_scores > 0].tolist()) <= set(scores[0, 3:, :4].flatten().tolist())


@BOTH
def test_no_images(propose, device):
    scores, deltas, info = (tensor[:0].to(device) for tensor in random_inputs(images=1))
    rois, roi_scores = propose(scores, deltas, info, ANCHORS, 16, 6000, 300, 0.7, 0.0)
    assert rois.shape == (0, 5)
    assert roi_scores.shape == (0,)


def test_a_batch_is_its_images_one_by_one():
    scores, deltas, info = random_inputs(images=4)
    rois, roi_scores = proposals(scores, deltas, info, ANCHORS, 16, 60, 25, 0.7, 20.0)
    for image in range(4):
        rows, one = slice(image * 25, (image + 1) * 25), slice(image, image + 1)
        alone = proposals(scores[one], deltas[one], info[one], ANCHORS, 16, 60, 25, 0.7, 20.0)
        assert torch.equal(rois[rows, 1:], alone[0][:, 1:])
        assert torch.equal(roi_scores[rows], alone[1])


def test_large_map_equals_the_reference(device):
    scores, deltas, info = (tensor.to(device) for tensor in random_inputs(height=30, width=40, seed=4))
    arguments = (scores, deltas, info, ANCHORS, 16, 2000, 300, 0.7, 8.0)
    assert_close(proposals(*arguments), proposals_reference(*arguments), atol=1e-3, rtol=0)


@pytest.mark.parametrize("width", [34, 40])
def test_ties_keep_their_order_in_any_number(width, device):
    """4080 and 4800 candidates: beyond 4096 torch sorts by another method on a GPU."""
    scores, deltas, info = random_inputs(height=40, width=width, seed=5)
    scores = (scores * 16).round() / 16
    deltas.unflatten(1, (-1, 4))[:, :, 2:] = 0  # exp(0) is the same on every device
    arguments = (ANCHORS, 16, 0, 300, 0.5, 0.0)
    expected = proposals_reference(scores, deltas, info, *arguments)
    result = proposals(scores.to(device), deltas.to(device), info, *arguments)
    assert torch.equal(result[1].cpu(), expected[1])
    assert_close(result[0].cpu(), expected[0], atol=1e-3, rtol=0)


@pytest.mark.parametrize("pre", [0, 7, 100])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_order_of_scores_that_are_equal_or_no_numbers(pre, dtype):
    """As a stable sort: NaN first, -0 and 0 alike. No box suppresses another, so that the order is seen whole."""
    scores = torch.zeros(1, 2, 4, 5, dtype=dtype)
    scores[0, 1] = torch.tensor(
        [[0.5, -0.0, math.nan, 0.5, 0.0], [math.inf, -math.nan, 0.25, -math.inf, 0.0]] * 2, dtype=dtype
    )
    deltas, info = torch.zeros(1, 4, 4, 5, dtype=dtype), torch.tensor([[64.0, 80, 1]], dtype=dtype)
    arguments = (torch.tensor([[0.0, 0, 15, 15]], dtype=dtype), 16, pre, min(pre or 20, 20), 1.0, 0.0)
    rois, found = proposals(scores, deltas, info, *arguments)
    expected, order = scores[0, 1].flatten().sort(descending=True, stable=True)
    order = order[: len(found)]
    assert_close(found, expected[: len(found)], rtol=0, atol=0, equal_nan=True)
    assert torch.equal(rois[:, 1:3], torch.stack((order % 5 * 16, order // 5 * 16), dim=1).to(dtype))
    assert torch.equal(rois, proposals_reference(scores, deltas, info, *arguments)[0])


def test_memory_order_does_not_matter(device):
    scores, deltas, info = (tensor.to(device) for tensor in random_inputs())
    expected = proposals(scores, deltas, info, ANCHORS, 16, 100, 50, 0.7, 0.0)
    strided = (t.contiguous(memory_format=torch.channels_last) for t in (scores, deltas))
    result = proposals(*strided, info.t().contiguous().t(), ANCHORS.t().contiguous().t(), 16, 100, 50, 0.7, 0.0)
    assert all(torch.equal(a, b) for a, b in zip(result, expected, strict=True))


def test_operator_contract():
    opcheck(torch.ops.vod.proposals.default, (*random_inputs(), ANCHORS, 16, 100, 50, 0.7, 0.0))


def test_gives_no_gradient():
    scores, deltas, info = random_inputs()
    result = proposals(scores.requires_grad_(), deltas.requires_grad_(), info, ANCHORS, 16, 100, 50, 0.7, 0.0)
    assert not any(tensor.requires_grad for tensor in result)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_autocast_computes_in_float32(dtype, device):
    scores, deltas, info = (tensor.to(device) for tensor in random_inputs())
    with torch.autocast(device.type, dtype=dtype):
        rois, _ = proposals(scores.to(dtype), deltas.to(dtype), info, ANCHORS, 16, 100, 50, 0.7, 0.0)
    assert rois.dtype == torch.float32
    halved = scores.to(dtype).float(), deltas.to(dtype).float()
    assert_close(rois, proposals(*halved, info, ANCHORS, 16, 100, 50, 0.7, 0.0)[0])


def test_compiles_as_one_graph():
    inputs = random_inputs()
    compiled = torch.compile(
        lambda s, d, i: proposals(s, d, i, ANCHORS, 16, 100, 50, 0.7, 0.0)[0] * 2, backend="aot_eager", fullgraph=True
    )
    assert_close(compiled(*inputs), proposals(*inputs, ANCHORS, 16, 100, 50, 0.7, 0.0)[0] * 2)


@BOTH
@pytest.mark.parametrize(
    ("scores", "deltas", "info", "anchors", "text"),
    [
        ((1, 5, 4, 4), (1, 12, 4, 4), (1, 3), (3, 4), r"cls_prob \(B, 6, h, w\)"),
        ((1, 6, 4, 4), (1, 12, 4, 5), (1, 3), (3, 4), r"deltas \(B, 12, h, w\)"),
        ((1, 6, 4, 4), (2, 12, 4, 4), (1, 3), (3, 4), r"deltas \(B, 12, h, w\)"),
        ((6, 4, 4), (12, 4, 4), (1, 3), (3, 4), r"cls_prob \(B, 6, h, w\)"),
        ((6,), (12,), (1, 3), (3, 4), r"cls_prob \(B, 6, h, w\)"),
        ((1, 6, 4, 4), (1, 12, 4, 4), (2, 3), (3, 4), r"im_info \(1, 3\)"),
        ((1, 6, 4, 4), (1, 12, 4, 4), (1, 3), (3, 5), r"anchors \(A, 4\)"),
        ((1, 6, 0, 4), (1, 12, 0, 4), (1, 3), (3, 4), "at least one anchor and one cell"),
        ((1, 0, 4, 4), (1, 0, 4, 4), (1, 3), (0, 4), "at least one anchor and one cell"),
    ],
)
def test_shapes_that_do_not_fit(propose, scores, deltas, info, anchors, text):
    with pytest.raises(ValueError, match=text):
        propose(*(torch.zeros(shape) for shape in (scores, deltas, info, anchors)), 16, 100, 50, 0.7, 0.0)


@BOTH
def test_counts_from_one(propose):
    with pytest.raises(ValueError, match="from 1, not 16 and 0"):
        propose(*random_inputs(), ANCHORS, 16, 100, 0, 0.7, 0.0)


@BOTH
def test_other_dtypes_are_refused(propose):
    scores, deltas, info = random_inputs()
    with pytest.raises(TypeError, match="float16"):
        propose(scores.half(), deltas.half(), info, ANCHORS, 16, 100, 50, 0.7, 0.0)
