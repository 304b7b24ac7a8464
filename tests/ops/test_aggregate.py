from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch.autograd import gradcheck
from torch.library import opcheck
from torch.testing import assert_close

from lib.ops import aggregate, aggregate_reference, flow_warp
from tests.ops.test_flow_warp import warp_by_loops

BOTH = pytest.mark.parametrize("average", [aggregate, aggregate_reference], ids=["compiled", "reference"])
GIVEN = pytest.mark.parametrize("given", [False, True], ids=["frame 0", "given"])
INF = math.inf


def random_inputs(maps=4, batch=2, frames=3, features=3, embedding=5, size=(4, 5), given=True, dtype=torch.float64):
    """maps, index, flow, log_counts, features, reference; positions keep 0.05 from whole cells, for the gradients."""
    generator = torch.Generator().manual_seed(0)
    computed = torch.float64 if dtype == torch.float64 else torch.float32

    def normal(*shape):
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    pool = normal(maps, features + embedding, *size).to(dtype)
    index = torch.randint(0, maps, (batch, frames), generator=generator)
    whole = torch.randint(-2, 3, (batch, frames, 2, *size), generator=generator)
    flow = whole + 0.05 + 0.9 * torch.rand(batch, frames, 2, *size, generator=generator, dtype=torch.float64)
    log_counts = torch.randint(1, 4, (batch, frames), generator=generator).to(computed).log()
    reference = normal(batch, embedding, *size).to(computed) if given else None
    return pool, index, flow.to(computed), log_counts, features, reference


def aggregate_by_loops(maps, index, flow, log_counts, features, reference):
    """The rule from its definition, position by position, in float64 NumPy."""
    maps, index, flow, log_counts = (tensor.double().numpy() for tensor in (maps, index, flow, log_counts))
    (batch, frames), size = index.shape, maps.shape[2:]
    averaged, weights = np.zeros((batch, features, *size)), np.zeros((batch, frames, *size))
    for b in range(batch):
        counted = [n for n in range(frames) if log_counts[b, n] > -INF]
        warped = {n: warp_by_loops(maps[int(index[b, n])], flow[b, n]) for n in counted}
        for y, x in np.ndindex(*size):
            vectors = {n: warped[n][:, y, x] for n in counted}
            other = vectors[0][features:] if reference is None else reference[b, :, y, x].double().numpy()
            scores = {}
            for n, vector in vectors.items():
                lengths = [math.sqrt((v**2).sum() + 1e-10) for v in (vector[features:], other)]
                scores[n] = math.exp(vector[features:] @ other / (lengths[0] * lengths[1]) + log_counts[b, n])
            for n, vector in vectors.items():
                weights[b, n, y, x] = scores[n] / sum(scores.values())
                averaged[b, :, y, x] += weights[b, n, y, x] * vector[:features]
    return torch.from_numpy(averaged), torch.from_numpy(weights)


@BOTH
@GIVEN
@pytest.mark.parametrize("size", [(4, 5), (1, 6), (6, 1), (1, 1)])
def test_equals_the_definition(average, given, size):
    inputs = random_inputs(size=size, given=given)
    assert_close(average(*inputs), aggregate_by_loops(*inputs))


@pytest.mark.parametrize(
    ("frames", "features", "embedding", "size"), [(20, 3, 5, (3, 4)), (2, 600, 1100, (2, 3)), (3, 17, 33, (19, 23))]
)
@GIVEN
def test_any_size_equals_the_reference(frames, features, embedding, size, given, device):
    """Of more than a block of channels, a tile of positions, a warp of frames."""
    inputs = random_inputs(4, 2, frames, features, embedding, size, given, torch.float32)
    inputs = [value.to(device) if isinstance(value, torch.Tensor) else value for value in inputs]
    assert_close(aggregate(*inputs), aggregate_reference(*inputs), atol=2e-6, rtol=1e-5)


def test_equals_the_separate_operators():
    maps, index, flow, log_counts, features, _ = random_inputs(given=False, dtype=torch.float32)
    averaged, weights = aggregate(maps, index, flow, log_counts, features)
    for b in range(len(index)):
        warped = flow_warp(maps[index[b]], flow[b])
        similar = torch.cosine_similarity(warped[:, features:], warped[:1, features:], dim=1)
        expected = (similar + log_counts[b, :, None, None]).softmax(0)
        assert_close(weights[b], expected)
        assert_close(averaged[b], (expected[:, None] * warped[:, :features]).sum(0))


@BOTH
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_maps_are_averaged_in_float32(average, dtype):
    maps, *rest = random_inputs(dtype=dtype)
    averaged, weights = average(maps, *rest)
    assert averaged.dtype == weights.dtype == torch.float32
    assert_close((averaged, weights), aggregate(maps.float(), *rest))


@BOTH
def test_a_count_is_that_many_equal_frames(average):
    maps, index, flow, _, features, reference = random_inputs(batch=1)
    counts = torch.tensor([[2.0, 1, 3]], dtype=torch.float64)
    averaged, weights = average(maps, index, flow, counts.log(), features, reference)
    repeats = counts[0].long()
    index, flow = index.repeat_interleave(repeats, 1), flow.repeat_interleave(repeats, 1)
    same, each = average(maps, index, flow, torch.zeros(1, 6, dtype=torch.float64), features, reference)
    assert_close(averaged, same)
    assert_close(weights, torch.stack([part.sum(1) for part in each.split(repeats.tolist(), 1)], 1))


@BOTH
@pytest.mark.parametrize("frame", [0, 1])
def test_a_frame_that_does_not_count_is_not_read(average, frame):
    maps, index, flow, log_counts, features, reference = random_inputs()
    log_counts[:, frame] = -INF
    rest = [n for n in range(3) if n != frame]
    expected = average(maps, index[:, rest], flow[:, rest], log_counts[:, rest], features, reference)
    index[:, frame], flow[:, frame] = len(maps), math.nan
    maps = torch.cat((maps, torch.full_like(maps[:1], math.nan)))
    averaged, weights = average(maps, index, flow, log_counts, features, reference)
    assert_close((averaged, weights[:, rest]), expected)
    assert not weights[:, frame].any()
    index[:, frame] = -(10**12)
    assert_close(average(maps, index, flow, log_counts, features, reference)[0], averaged)


@BOTH
def test_nothing_that_counts_is_not_a_number(average):
    maps, index, flow, log_counts, features, reference = random_inputs()
    log_counts[1] = -INF
    averaged, weights = average(maps, index, flow, log_counts, features, reference)
    assert averaged[1].isnan().all()
    assert weights[1].isnan().all()
    assert averaged[0].isfinite().all()
    log_counts[0, 0] = -INF  # and as frame 0 it is no reference
    assert average(maps, index, flow, log_counts, features)[0].isnan().all()


@BOTH
def test_flow_that_is_no_number_is_seen(average):
    maps, index, flow, log_counts, features, reference = random_inputs()
    flow[0, 1, 0, 1, 1], flow[1, 2, 1, 2, 2] = math.nan, INF
    for result in average(maps, index, flow, log_counts, features, reference):
        places = {(b, y, x) for b, _, y, x in result.isnan().nonzero().tolist()}
        assert places == {(0, 1, 1), (1, 2, 2)}
        assert result.isnan().sum() == 2 * result.shape[1]


@BOTH
def test_border_and_beyond(average):
    """A frame read from outside its map is zero, in its embedding too, and takes its share of the weight."""
    maps, index, flow, _, features, reference = random_inputs(batch=1, frames=2)
    log_counts = torch.zeros(1, 2, dtype=torch.float64)
    for far in (1e3, -1e3, 1e30):
        flow[:, 1] = far
        averaged, weights = average(maps, index, flow, log_counts, features, reference)
        alone, _ = average(maps, index[:, :1], flow[:, :1], log_counts[:, :1], features, reference)
        assert_close(averaged, weights[:, :1] * alone)
        assert ((weights[:, 0] / weights[:, 1]).log() <= 1).all()  # of a cosine to one of 0


@BOTH
def test_embeddings_without_length(average):
    maps, index, flow, log_counts, features, reference = random_inputs()
    maps[:, features:] = 0
    averaged, weights = average(maps, index, flow, log_counts, features, reference)
    assert averaged.isfinite().all()
    assert_close(weights, log_counts.softmax(1)[:, :, None, None].expand_as(weights))


@GIVEN
def test_gradients(given):
    maps, index, flow, log_counts, features, reference = random_inputs(2, 2, 2, 2, 2, (3, 2), given)
    log_counts[1, 1] = -INF
    leaves = [tensor.requires_grad_() for tensor in (maps, flow, reference) if tensor is not None]

    def call(maps, flow, reference=None):
        return aggregate(maps, index, flow, log_counts, features, reference)

    assert gradcheck(call, leaves)


@pytest.mark.parametrize("size", [(1, 4), (3, 1), (1, 1)])
def test_gradients_of_one_cell_sides(size):
    maps, index, flow, log_counts, features, _ = random_inputs(2, 1, 2, 2, 2, size, given=False)
    leaves = (maps.requires_grad_(), flow.requires_grad_())
    assert gradcheck(lambda maps, flow: aggregate(maps, index, flow, log_counts, features), leaves)


@GIVEN
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_backward_equals_autograd_of_the_reference(given, dtype, device):
    results = []
    for average in (aggregate, aggregate_reference):
        inputs = random_inputs(features=9, embedding=19, size=(7, 9), given=given, dtype=dtype)
        inputs = [value.to(device) if isinstance(value, torch.Tensor) else value for value in inputs]
        maps, _, flow, _, _, reference = inputs
        leaves = [tensor.requires_grad_() for tensor in (maps, flow, reference) if tensor is not None]
        averaged, weights = average(*inputs)
        results.append(torch.autograd.grad((averaged.cos() + weights.sum(1, keepdim=True)).sum(), leaves))
    assert all(grad.dtype == leaf.dtype for grad, leaf in zip(results[0], leaves, strict=True))
    tolerance = 1e-5 if dtype == torch.float32 else 1e-2
    assert_close(*results, atol=tolerance, rtol=tolerance)


def test_no_warped_map_is_stored():
    """The call needs little more memory than its results; the separate operators need all warped maps."""
    generator = torch.Generator().manual_seed(0)
    maps = torch.randn(9, 48, 32, 32, generator=generator).contiguous(memory_format=torch.channels_last)
    flow = torch.randn(1, 9, 2, 32, 32, generator=generator)
    inputs = (maps, torch.arange(9)[None], flow, torch.zeros(1, 9), 16)
    warped_maps, results = maps.nbytes, 4 * (16 + 9) * 32 * 32
    assert results <= _most_memory(lambda: aggregate(*inputs)) < results + 0.1 * warped_maps
    assert _most_memory(lambda: aggregate_reference(*inputs)) > warped_maps


def _most_memory(call) -> int:
    """The most bytes that tensors made within a call have at one time, by PyTorch's own account of the CPU."""
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profiler:
        kept = call()
    held = most = 0
    for event in profiler.profiler.kineto_results.events():
        if event.name() == "[memory]":
            held += event.nbytes()
            most = max(most, held)
    del kept
    return most


def test_same_bits_with_any_number_of_threads():
    inputs = random_inputs(features=30, embedding=70, size=(30, 40), dtype=torch.float32)
    threads, results = torch.get_num_threads(), []
    try:
        for count in (1, 2, 3):
            torch.set_num_threads(count)
            results.append(aggregate(*inputs))
    finally:
        torch.set_num_threads(threads)
    for other in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(results[0], other, strict=True))


@GIVEN
@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_operator_contract(given, memory_format):
    maps, index, flow, log_counts, features, reference = random_inputs(given=given, dtype=torch.float32)
    maps = maps.contiguous(memory_format=memory_format)
    leaves = [tensor if tensor is None else tensor.requires_grad_() for tensor in (maps, flow, reference)]
    opcheck(torch.ops.vod.aggregate.default, (leaves[0], index, leaves[1], log_counts, features, leaves[2]))
    grads = torch.ones(2, features, 4, 5), torch.ones(2, 3, 4, 5)
    inputs = [value.detach() if isinstance(value, torch.Tensor) else value for value in random_inputs(given=given)]
    opcheck(torch.ops.vod.aggregate_backward.default, (*(grad.double() for grad in grads), *inputs))


@BOTH
@pytest.mark.parametrize(("batch", "size"), [(0, (4, 5)), (2, (0, 5)), (2, (4, 0))])
@GIVEN
def test_empty(average, batch, size, given):
    maps, index, flow, log_counts, features, reference = random_inputs(batch=batch, size=size, given=given)
    averaged, weights = average(maps.requires_grad_(), index, flow.requires_grad_(), log_counts, features, reference)
    (averaged.sum() + weights.sum()).backward()
    assert averaged.shape == (batch, features, *size)
    assert weights.shape == (batch, 3, *size)
    assert maps.grad.shape == maps.shape
    assert flow.grad.shape == flow.shape


def test_memory_order_does_not_matter(device):
    inputs = random_inputs(features=4, embedding=8, dtype=torch.float32)
    inputs = [value.to(device) if isinstance(value, torch.Tensor) else value for value in inputs]
    maps, index, flow, log_counts, features, reference = inputs
    expected = aggregate(*inputs)
    last = maps.contiguous(memory_format=torch.channels_last)
    index, log_counts = index.t().contiguous().t(), log_counts.t().contiguous().t()
    flow = flow.permute(3, 4, 0, 1, 2).contiguous().permute(2, 3, 4, 0, 1)
    references = (
        reference.contiguous(memory_format=torch.channels_last),
        torch.cat((reference, reference), 1).contiguous(memory_format=torch.channels_last)[:, 8:],
        reference.double(),
    )
    assert not any(tensor.is_contiguous() for tensor in (last, index, log_counts, flow, *references[:2]))
    for other in references:
        for pool in (last, torch.cat((maps, maps), 3)[..., :5], maps):
            result = aggregate(pool, index, flow, log_counts, features, other)
            assert all(torch.equal(a, b) for a, b in zip(result, expected, strict=True))
    assert result[0].is_contiguous(memory_format=torch.channels_last)
    assert result[1].is_contiguous()


def test_autocast_keeps_the_maps(device):
    maps, index, flow, log_counts, features, reference = (
        value.to(device) if isinstance(value, torch.Tensor) else value for value in random_inputs(dtype=torch.bfloat16)
    )
    half = flow.half()
    with torch.autocast(device.type, dtype=torch.bfloat16):
        result = aggregate(maps, index, half, log_counts.bfloat16(), features, reference.bfloat16())
    rest = (index, half.float(), log_counts.bfloat16().float(), features, reference.bfloat16())
    assert_close(result, aggregate(maps, *rest))
    assert result[0].dtype == torch.float32


def test_compiles_as_one_graph():
    maps, index, flow, log_counts, features, reference = random_inputs(dtype=torch.float32)
    leaves = [tensor.requires_grad_() for tensor in (maps, flow, reference)]

    def call(maps, flow, reference):
        return aggregate(maps, index, flow, log_counts, features, reference)[0] * 2

    compiled = torch.compile(call, backend="aot_eager", fullgraph=True)
    out, expected = compiled(*leaves), call(*leaves)
    assert_close(out, expected)
    assert_close(torch.autograd.grad(out.sum(), leaves), torch.autograd.grad(expected.sum(), leaves))


@BOTH
@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"maps": torch.zeros(8, 4, 5)}, r"maps \(M, C, h, w\)"),
        ({"maps": torch.zeros(0, 8, 4, 5)}, "at least one"),
        ({"features": 8}, "more channels than its 8 features"),
        ({"features": 0}, "its 0 features"),
        ({"index": torch.zeros(6, dtype=torch.int64)}, r"index and log_counts \(B, N\)"),
        ({"log_counts": torch.zeros(2, 4)}, r"index and log_counts \(B, N\)"),
        ({"index": torch.zeros(2, 0, dtype=torch.int64), "log_counts": torch.zeros(2, 0)}, "at least one frame"),
        ({"flow": torch.zeros(2, 3, 2, 4, 6)}, r"flow \(2, 3, 2, 4, 5\)"),
        ({"flow": torch.zeros(6, 2, 4, 5)}, r"flow \(2, 3, 2, 4, 5\)"),
        ({"reference": torch.zeros(2, 4, 4, 5)}, r"reference \(2, 5, 4, 5\)"),
    ],
)
def test_shapes_that_do_not_fit(average, change, text):
    names = ("maps", "index", "flow", "log_counts", "features", "reference")
    inputs = dict(zip(names, random_inputs(dtype=torch.float32), strict=True))
    with pytest.raises(ValueError, match=text):
        average(**(inputs | change))


@BOTH
@pytest.mark.parametrize(
    ("place", "dtype", "text"),
    [
        (0, torch.int32, "not torch.int32"),
        (1, torch.int32, "int64 index"),
        (2, torch.float64, "flow and log_counts in torch.float32"),
        (3, torch.float16, "flow and log_counts in torch.float32"),
        (5, torch.int64, "floating reference"),
    ],
)
def test_other_dtypes_are_refused(average, place, dtype, text):
    inputs = list(random_inputs(dtype=torch.float32))
    inputs[place] = inputs[place].to(dtype)
    with pytest.raises(TypeError, match=text):
        average(*inputs)


@BOTH
@pytest.mark.parametrize("index", [-1, 4])
def test_map_that_does_not_exist(average, index):
    inputs = random_inputs()
    inputs[1][1, 2] = index
    with pytest.raises(RuntimeError, match=r"map.* outside 0\.\.3"):
        average(*inputs)


def test_operator_checks_for_itself():
    maps, index, flow, log_counts, features, reference = random_inputs(dtype=torch.float32)
    with pytest.raises(RuntimeError, match="do not fit"):
        torch.ops.vod.aggregate(maps, index, flow[:, :2], log_counts, features, reference)
    with pytest.raises(RuntimeError, match=r"reference must be \(B, E, h, w\)"):
        torch.ops.vod.aggregate(maps, index, flow, log_counts, features, reference[:, :4])
    with pytest.raises(RuntimeError, match="flow and log_counts must be Float"):
        torch.ops.vod.aggregate(maps, index, flow.double(), log_counts, features, reference)


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16])
def test_cuda_equals_cpu(cuda, dtype):
    for given in (False, True):
        inputs = random_inputs(features=40, embedding=72, size=(9, 11), given=given, dtype=dtype)
        expected = aggregate(*inputs)
        result = aggregate(*(value.to(cuda) if isinstance(value, torch.Tensor) else value for value in inputs))
        assert_close([tensor.cpu() for tensor in result], list(expected), atol=2e-6, rtol=1e-5)


@pytest.mark.gpu
def test_map_that_does_not_exist_is_seen_on_cuda(cuda):
    inputs = [value.to(cuda) if isinstance(value, torch.Tensor) else value for value in random_inputs()]
    inputs[1][1, 2] = 4
    averaged, _ = aggregate(*inputs)
    assert averaged[1].isnan().all()
    assert averaged[0].isfinite().all()
