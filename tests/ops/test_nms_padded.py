from __future__ import annotations

import math

import pytest
import torch
from torch.library import opcheck

from lib.ops import nms, nms_padded, nms_padded_reference
from tests.ops.test_nms import nms_by_loops, random_boxes

BOTH = pytest.mark.parametrize("suppress", [nms_padded, nms_padded_reference], ids=["compiled", "reference"])


def random_sets(sets, n, dtype=torch.float32):
    """Boxes, scores and groups of several sets; the scores tie often and get lower from set to set."""
    parts = [random_boxes(n, seed, dtype) for seed in range(sets)]
    scores = torch.stack([scores / (seed + 1) for seed, (_, scores) in enumerate(parts)])
    groups = torch.randint(-1, 2, (sets, n), generator=torch.Generator().manual_seed(9)) * 10**12
    return torch.stack([boxes for boxes, _ in parts]), scores, groups


def rows_of(result):
    """What is kept of each set, as lists; the padding has been checked."""
    kept, counts = result
    assert kept.dtype == counts.dtype == torch.int64
    rows = [row[:count].tolist() for row, count in zip(kept.cpu(), counts.tolist(), strict=True)]
    assert [len(row) for row in rows] == counts.tolist()
    assert all((row[count:] == -1).all() for row, count in zip(kept.cpu(), counts.tolist(), strict=True))
    return rows


@BOTH
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("equal", [False, True])
@pytest.mark.parametrize("least", [-math.inf, 0.3, 0.49])
def test_equals_the_definition(suppress, dtype, equal, least, device):
    boxes, scores, groups = random_sets(3, 70, dtype)
    for given in (None, groups):
        expected = []
        for i in range(3):
            rows = [row for row in range(70) if scores[i, row] > least]
            part = None if given is None else given[i, rows]
            kept = nms_by_loops(boxes[i, rows], scores[i, rows], 0.4, part, equal)
            expected.append([rows[row] for row in kept])
        on_device = None if given is None else given.to(device)
        result = suppress(boxes.to(device), scores.to(device), 0.4, on_device, equal, least)
        assert rows_of(result) == expected


def test_each_set_as_nms(device):
    boxes, scores, groups = (tensor.to(device) for tensor in random_sets(40, 300))
    for given in (None, groups):
        rows = rows_of(nms_padded(boxes, scores, 0.3, given))
        for i in range(40):
            assert rows[i] == nms(boxes[i], scores[i], 0.3, None if given is None else given[i]).tolist()


@pytest.mark.parametrize("count", [63, 64, 65, 128, 129, 4097])
def test_any_number_of_boxes(count, device):
    boxes, scores, groups = (tensor.to(device) for tensor in random_sets(2, count))
    boxes += 400 * torch.rand(2, count, 1, generator=torch.Generator().manual_seed(5)).to(device)
    result = nms_padded(boxes, scores, 0.3, groups, least_score=0.2)
    assert rows_of(result) == rows_of(nms_padded_reference(boxes, scores, 0.3, groups, least_score=0.2))


@BOTH
def test_the_least_score_itself_takes_no_part(suppress, device):
    """Neither it nor a NaN suppresses the box that it covers."""
    boxes = torch.tensor([[0.0, 0, 9, 9]]).repeat(4, 1)[None].to(device)
    scores = torch.tensor([[0.5, 0.7, math.nan, 0.6]], device=device)
    assert rows_of(suppress(boxes, scores, 0.5, None, False, 0.5)) == [[1]]
    assert rows_of(suppress(boxes, scores, 0.5, None, False, 0.7)) == [[]]
    assert rows_of(suppress(boxes, scores, 1.0, None, False, 0.5)) == [[1, 3]]
    assert rows_of(suppress(boxes, scores, 1.0)) == [[1, 3, 0]]
    scores[0, 1] = -math.inf
    assert rows_of(suppress(boxes, scores, 1.0)) == [[3, 0]]


@BOTH
def test_threshold_is_compared_in_the_dtype_of_the_scores(suppress, device):
    score = torch.tensor([[0.1]], device=device)  # in float32 a little above 0.1
    assert rows_of(suppress(torch.zeros(1, 1, 4, device=device), score, 0.5, None, False, 0.1)) == [[]]


@BOTH
@pytest.mark.parametrize("shape", [(0, 5), (3, 0), (0, 0)])
def test_empty(suppress, shape, device):
    kept, counts = suppress(torch.zeros(*shape, 4, device=device), torch.zeros(shape, device=device), 0.5)
    assert kept.shape == shape
    assert counts.shape == shape[:1]
    assert not counts.any()


def test_memory_order_does_not_matter(device):
    boxes, scores, groups = (tensor.to(device) for tensor in random_sets(3, 50))
    strided = (
        boxes.permute(2, 0, 1).contiguous().permute(1, 2, 0),
        scores.t().contiguous().t(),
        groups.repeat_interleave(2, 1)[:, ::2],
    )
    assert not any(tensor.is_contiguous() for tensor in strided)
    expected = nms_padded(boxes, scores, 0.5, groups)
    result = nms_padded(strided[0], strided[1], 0.5, strided[2])
    assert all(torch.equal(a, b) for a, b in zip(result, expected, strict=True))
    one = nms_padded(boxes[:1].expand(3, -1, -1), scores, 0.5)
    assert torch.equal(one[0], nms_padded(boxes[:1].repeat(3, 1, 1), scores, 0.5)[0])


def test_same_result_with_any_number_of_threads():
    inputs, threads, results = random_sets(30, 200), torch.get_num_threads(), []
    try:
        for count in (1, 2, 3):
            torch.set_num_threads(count)
            results.append(nms_padded(*inputs[:2], 0.4, inputs[2])[0])
    finally:
        torch.set_num_threads(threads)
    assert torch.equal(results[0], results[1])
    assert torch.equal(results[0], results[2])


def test_operator_contract():
    boxes, scores, groups = random_sets(3, 40)
    for given in (None, groups):
        opcheck(torch.ops.vod.nms_padded.default, (boxes, scores, given, 0.5, False, 0.2))


def test_gives_no_gradient():
    boxes, scores, _ = random_sets(2, 40)
    assert not any(t.requires_grad for t in nms_padded(boxes.requires_grad_(), scores.requires_grad_(), 0.5))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_autocast_computes_in_float32(dtype, device):
    boxes, scores, _ = (tensor.to(device) for tensor in random_sets(2, 60))
    with torch.autocast(device.type, dtype=dtype):
        kept, _ = nms_padded(boxes, scores.to(dtype), 0.5)
    assert torch.equal(kept, nms_padded(boxes, scores.to(dtype).float(), 0.5)[0])


def test_compiles_as_one_graph():
    boxes, scores, _ = random_sets(2, 60)
    compiled = torch.compile(lambda b, s: nms_padded(b, s, 0.5)[0] * 2, backend="aot_eager", fullgraph=True)
    assert torch.equal(compiled(boxes, scores), nms_padded(boxes, scores, 0.5)[0] * 2)


@BOTH
@pytest.mark.parametrize(
    ("boxes", "scores", "groups", "text"),
    [
        ((2, 3, 5), (2, 3), None, r"boxes \(S, n, 4\)"),
        ((3, 4), (3,), None, r"boxes \(S, n, 4\)"),
        ((2, 3, 4), (3, 2), None, r"scores \(S, n\)"),
        ((2, 3, 4), (2, 3), (3,), r"groups of shape \(2, 3\)"),
    ],
)
def test_shapes_that_do_not_fit(suppress, boxes, scores, groups, text):
    groups = None if groups is None else torch.zeros(groups, dtype=torch.int64)
    with pytest.raises(ValueError, match=text):
        suppress(torch.zeros(boxes), torch.zeros(scores), 0.5, groups)


@BOTH
def test_other_dtypes_are_refused(suppress):
    with pytest.raises(TypeError, match="float16"):
        suppress(torch.zeros(1, 3, 4).half(), torch.zeros(1, 3).half(), 0.5)
    with pytest.raises(TypeError, match="one dtype"):
        suppress(torch.zeros(1, 3, 4), torch.zeros(1, 3).double(), 0.5)
    with pytest.raises(TypeError, match="int64 groups"):
        suppress(torch.zeros(1, 3, 4), torch.zeros(1, 3), 0.5, torch.zeros(1, 3, dtype=torch.int32))


@pytest.mark.gpu
def test_a_cuda_graph_holds_it(cuda_kernels):
    """Replayed with other inputs, whose counts are others."""
    first, second = ([tensor.to(cuda_kernels) for tensor in random_sets(5, 300)] for _ in range(2))
    second[1] = second[1].flip(0) * 0.7
    nms_padded(*first[:2], 0.3, first[2], least_score=0.2)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        result = nms_padded(*first[:2], 0.3, first[2], least_score=0.2)
    for inputs in (first, second):
        for captured, given in zip(first, inputs, strict=True):
            captured.copy_(given)
        graph.replay()
        assert rows_of(result) == rows_of(nms_padded_reference(*inputs[:2], 0.3, inputs[2], least_score=0.2))
