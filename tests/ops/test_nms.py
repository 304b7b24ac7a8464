from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.library import opcheck

from lib.ops import nms, nms_reference

BOTH = pytest.mark.parametrize("suppress", [nms, nms_reference], ids=["compiled", "reference"])


def random_boxes(n, seed=0, dtype=torch.float32):
    """Boxes that overlap a lot, and scores of two decimals, so that many tie."""
    generator = torch.Generator().manual_seed(seed)
    corner = torch.rand(n, 2, generator=generator, dtype=dtype) * 60
    size = 5 + torch.rand(n, 2, generator=generator, dtype=dtype) * 40
    scores = (torch.rand(n, generator=generator, dtype=dtype) * 100).round() / 100
    return torch.cat((corner, corner + size), dim=1), scores


def nms_by_loops(boxes, scores, threshold, groups=None, suppress_equal=False):
    """The greedy walk, in the arithmetic of the boxes' dtype."""
    boxes, threshold = boxes.numpy(), boxes.numpy().dtype.type(threshold)
    groups = np.zeros(len(boxes)) if groups is None else groups.numpy()
    area = (boxes[:, 2] - boxes[:, 0] + 1) * (boxes[:, 3] - boxes[:, 1] + 1)
    kept = []
    for i in sorted(range(len(boxes)), key=lambda i: (-scores[i].item(), i)):
        for k in kept:
            width = max(0, min(boxes[i, 2], boxes[k, 2]) - max(boxes[i, 0], boxes[k, 0]) + 1)
            height = max(0, min(boxes[i, 3], boxes[k, 3]) - max(boxes[i, 1], boxes[k, 1]) + 1)
            overlap = width * height / (area[i] + area[k] - width * height)
            if groups[i] == groups[k] and (overlap >= threshold if suppress_equal else overlap > threshold):
                break
        else:
            kept.append(i)
    return kept


@BOTH
@pytest.mark.parametrize("tenths", [3, 5, 7])
def test_equals_the_original(recorded, suppress, tenths, device):
    numbers = recorded("nms_")
    dets = numbers["nms_dets"].to(device)
    kept = suppress(dets[:, :4], dets[:, 4], tenths / 10)
    assert torch.equal(kept.cpu(), numbers[f"nms_keep_{tenths}"])


@BOTH
def test_overlap_at_the_threshold(recorded, suppress, device):
    numbers = recorded("nms_")
    dets = numbers["nms_equal_dets"].to(device)
    kept = suppress(dets[:, :4], dets[:, 4], 0.5)
    assert torch.equal(kept.cpu(), numbers["nms_equal_py_keep"])
    kept = suppress(dets[:, :4], dets[:, 4], 0.5, suppress_equal=True)
    assert torch.equal(kept.cpu(), numbers["nms_equal_cpu_keep"])


@BOTH
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("equal", [False, True])
def test_equals_the_definition(suppress, dtype, equal, device):
    boxes, scores = random_boxes(150, dtype=dtype)
    groups = torch.arange(150) % 4 - 1
    for given in (None, groups):
        kept = suppress(boxes.to(device), scores.to(device), 0.4, None if given is None else given.to(device), equal)
        assert kept.tolist() == nms_by_loops(boxes, scores, 0.4, given, equal)


@BOTH
def test_groups_are_separate_calls(suppress, device):
    boxes, scores = random_boxes(700, seed=1)
    groups = torch.randint(0, 9, (700,), generator=torch.Generator().manual_seed(2)) * 10**12
    together = suppress(boxes.to(device), scores.to(device), 0.3, groups.to(device)).cpu()
    for group in groups.unique():
        rows = (groups == group).nonzero()[:, 0]
        alone = rows[suppress(boxes[rows].to(device), scores[rows].to(device), 0.3).cpu()]
        assert torch.equal(together[groups[together] == group], alone)


@BOTH
def test_equal_scores_keep_their_order(suppress):
    boxes = torch.tensor([[0.0, 0, 9, 9], [100, 0, 109, 9], [0, 0, 9, 9], [50, 0, 59, 9]])
    assert suppress(boxes, torch.ones(4), 0.5).tolist() == [0, 1, 3]


@BOTH
def test_a_suppressed_box_suppresses_nothing(suppress):
    boxes = torch.tensor([[0.0, 0, 9, 9], [4, 0, 13, 9], [8, 0, 17, 9]])  # each overlaps the next by 6 columns of 14
    assert suppress(boxes, torch.tensor([0.9, 0.8, 0.7]), 0.3).tolist() == [0, 2]


@BOTH
def test_empty_and_single(suppress, device):
    none = suppress(torch.zeros(0, 4, device=device), torch.zeros(0, device=device), 0.5)
    assert none.shape == (0,)
    assert none.dtype == torch.int64
    groups = torch.zeros(0, dtype=torch.int64, device=device)
    assert suppress(torch.zeros(0, 4, device=device), torch.zeros(0, device=device), 0.5, groups).shape == (0,)
    assert suppress(torch.zeros(1, 4, device=device), torch.zeros(1, device=device), 0.5).tolist() == [0]


@BOTH
def test_corners_are_inclusive(suppress):
    boxes = torch.tensor([[0.0, 0, 0, 0], [0, 0, 1, 0]])  # 1 and 2 pixels, 1 shared
    assert suppress(boxes, torch.tensor([0.9, 0.8]), 0.49).tolist() == [0]
    assert suppress(boxes, torch.tensor([0.9, 0.8]), 0.5).tolist() == [0, 1]


@pytest.mark.parametrize("count", [4096, 4097, 6000])
def test_ties_keep_their_order_in_any_number(count, device):
    """Beyond 4096 torch sorts by another method on a GPU."""
    boxes, scores = random_boxes(count, seed=4)
    boxes += 400 * torch.rand(count, 1, generator=torch.Generator().manual_seed(5))
    groups = torch.arange(count) % 5
    kept = nms(boxes.to(device), scores.to(device), 0.3, groups.to(device))
    assert torch.equal(kept.cpu(), nms_reference(boxes, scores, 0.3, groups))


def test_all_scores_tie(device):
    boxes = 20.0 * torch.arange(5000)[:, None] + torch.tensor([0.0, 0, 9, 9])
    kept = nms(boxes.to(device), torch.ones(5000, device=device), 0.5)
    assert torch.equal(kept.cpu(), torch.arange(5000))


def test_many_boxes_equal_the_reference(device):
    boxes, scores = random_boxes(2000, seed=3)
    boxes, scores = boxes.to(device), scores.to(device)
    assert torch.equal(nms(boxes, scores, 0.6), nms_reference(boxes, scores, 0.6))


def test_memory_order_does_not_matter(device):
    boxes, scores = (tensor.to(device) for tensor in random_boxes(50))
    groups = torch.arange(50, device=device) % 2
    strided = boxes.t().contiguous().t(), scores.repeat_interleave(2)[::2], groups.repeat_interleave(2)[::2]
    assert not any(tensor.is_contiguous() for tensor in strided)
    expected = nms(boxes, scores, 0.5, groups)
    assert torch.equal(nms(strided[0], strided[1], 0.5, strided[2]), expected)


def test_operator_contract():
    boxes, scores = random_boxes(40)
    for groups in (None, torch.arange(40) % 3):
        opcheck(torch.ops.vod.nms.default, (boxes, scores, groups, 0.5, False))


def test_gives_no_gradient():
    boxes, scores = random_boxes(40)
    assert not nms(boxes.requires_grad_(), scores.requires_grad_(), 0.5).requires_grad


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_autocast_computes_in_float32(dtype, device):
    boxes, scores = (tensor.to(device) for tensor in random_boxes(60))
    with torch.autocast(device.type, dtype=dtype):
        kept = nms(boxes, scores.to(dtype), 0.5)
    assert torch.equal(kept, nms(boxes, scores.to(dtype).float(), 0.5))


def test_compiles_as_one_graph():
    boxes, scores = random_boxes(60)
    compiled = torch.compile(lambda b, s: b[nms(b, s, 0.5)] * 2, backend="aot_eager", fullgraph=True)
    assert torch.equal(compiled(boxes, scores), boxes[nms(boxes, scores, 0.5)] * 2)


@BOTH
@pytest.mark.parametrize(
    ("boxes", "scores", "groups", "text"),
    [
        ((3, 5), (3,), None, r"boxes \(n, 4\)"),
        ((3, 4), (2,), None, r"scores \(n,\)"),
        ((3, 4), (3, 1), None, r"scores \(n,\)"),
        ((3, 4), (3,), (2,), r"groups of shape \(3,\)"),
    ],
)
def test_shapes_that_do_not_fit(suppress, boxes, scores, groups, text):
    groups = None if groups is None else torch.zeros(groups, dtype=torch.int64)
    with pytest.raises(ValueError, match=text):
        suppress(torch.zeros(boxes), torch.zeros(scores), 0.5, groups)


@BOTH
def test_other_dtypes_are_refused(suppress):
    with pytest.raises(TypeError, match="float16"):
        suppress(torch.zeros(3, 4).half(), torch.zeros(3).half(), 0.5)
    with pytest.raises(TypeError, match="one dtype"):
        suppress(torch.zeros(3, 4), torch.zeros(3).double(), 0.5)
    with pytest.raises(TypeError, match="int64 groups"):
        suppress(torch.zeros(3, 4), torch.zeros(3), 0.5, torch.zeros(3, dtype=torch.int32))
