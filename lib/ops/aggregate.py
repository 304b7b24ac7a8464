"""Average warped feature maps by similarity, in one pass (docs/rules.md, section 1; FGFA paper, section 3.2)."""

from __future__ import annotations

import torch
from torch import Tensor

from lib.ops.dispatch import stand_in_on_cuda
from lib.ops.flow_warp import flow_warp, flow_warp_reference

_TINY = 1e-10  # added to the sum of squares under the root of a length, so that no length is zero


def aggregate(
    maps: Tensor, index: Tensor, flow: Tensor, log_counts: Tensor, features: int, reference: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Warp maps of several frames to a current frame, and average their features weighted by embedding similarity.

    maps: (M, C, h, w), a pool of maps: `features` feature channels, then E >= 1 embedding channels. float32, float64,
    bfloat16 or float16. Contiguous in channels-last memory format they are read in place; other formats are copied.
    index: (B, N) int64; maps[index[b, n]] is the n-th frame averaged for the b-th current frame.
    flow: (B, N, 2, h, w), (dx, dy) in cells, from the current frame to that frame, as for `flow_warp`.
    log_counts: (B, N), added to the similarity before the softmax: the logarithm of how often a frame counts. A frame
    with -inf does not count: neither its index nor its flow nor its map is read, and its weight is 0.
    features: feature channels of `maps`.
    reference: (B, E, h, w), the embeddings to compare with, floating; None: the warped embedding of frame 0, which must
    then count (the result is NaN if it does not).
    Returns averaged (B, features, h, w), channels last, and weights (B, N, h, w). They, flow and log_counts are
    float32, or float64 with float64 maps; under autocast flow and log_counts are cast, and the maps keep their dtype.

    At each position, with e_n the n-th warped embedding and r the reference, the similarity is the cosine
    <e_n, r> / (|e_n| |r|) with |x| = sqrt(sum of squares + 1e-10), the weights are the softmax over n of similarity +
    log_counts, and the average is the sum over n, in order, of weight times warped feature. A cell whose bilinear
    weight is 0 is not read. A NaN or infinite flow, or no frame that counts, gives NaN at that position.

    No warped map is stored. The backward pass does store them: it computes the average again with `flow_warp` and
    PyTorch's operators, and gives gradients to maps, flow and reference, none to log_counts.

    Raises ValueError for shapes that do not fit together, TypeError for other dtypes, RuntimeError for an index outside
    0..M-1 of a frame that counts (on the CPU; a CUDA kernel gives NaN rather than wait for the GPU to check).
    """
    if torch.is_autocast_enabled(maps.device.type):
        flow, log_counts = flow.to(_computed(maps)), log_counts.to(_computed(maps))
    _check(maps, index, flow, log_counts, features, reference)
    return torch.ops.vod.aggregate(maps, index, flow, log_counts, features, reference)


def aggregate_reference(
    maps: Tensor, index: Tensor, flow: Tensor, log_counts: Tensor, features: int, reference: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """The rule of `aggregate` in PyTorch; same arguments, same result, differentiable."""
    _check(maps, index, flow, log_counts, features, reference)
    selected, flow, _, counts = _select(maps, index, flow, log_counts)
    warped, _, _, similarities = _split(flow_warp_reference(selected, flow), counts, features, reference)
    weights = (similarities + log_counts[:, :, None, None, None]).softmax(1)  # (B, N, 1, h, w)
    averaged = (weights * warped).sum(1)
    return averaged.contiguous(memory_format=torch.channels_last), weights[:, :, 0]


def _select(maps: Tensor, index: Tensor, flow: Tensor, log_counts: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The inputs of the warp: maps (B*N, C, h, w) and flow (B*N, 2, h, w); the indices (B*N,) of these maps in `maps`;
    and a mask (B, N) of the frames that count. A frame that does not count gets the first map and zero flow.
    """
    counts, known = log_counts != -torch.inf, (index >= 0) & (index < len(maps))  # (B, N)
    if not maps.is_cuda and bool((counts & ~known).any()):
        raise RuntimeError(f"aggregate: index names a map outside 0..{len(maps) - 1}")
    flow = flow.masked_fill(~known[:, :, None, None, None], torch.nan)
    flow = torch.where(counts[:, :, None, None, None], flow, 0)
    places = torch.where(counts & known, index, 0).flatten()
    return maps[places].to(flow.dtype), flow.flatten(0, 1), places, counts


def _split(
    warped: Tensor, counts: Tensor, features: int, reference: Tensor | None
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Warped maps (B*N, C, h, w) -> features (B, N, features, h, w), embeddings (B, N, E, h, w), reference (B, 1, E, h,
    w) and similarities (B, N, 1, h, w); zero where a frame does not count.
    """
    warped = torch.where(counts[:, :, None, None, None], warped.unflatten(0, counts.shape), 0)
    embeddings = warped[:, :, features:]
    if reference is None:
        reference = torch.where(counts[:, 0, None, None, None], embeddings[:, 0], torch.nan)
    reference = reference[:, None].to(warped.dtype)
    products = (embeddings * reference).sum(2, keepdim=True)
    return warped[:, :, :features], embeddings, reference, products / (_length(embeddings) * _length(reference))


def _length(x: Tensor) -> Tensor:
    """Length of the vectors along dimension 2, which is kept; never zero."""
    return (x.square().sum(2, keepdim=True) + _TINY).sqrt()


def _computed(maps: Tensor) -> torch.dtype:
    """The dtype of the computation."""
    return torch.float64 if maps.dtype == torch.float64 else torch.float32


def _check(
    maps: Tensor, index: Tensor, flow: Tensor, log_counts: Tensor, features: int, reference: Tensor | None
) -> None:
    if maps.dtype not in (torch.float32, torch.float64, torch.bfloat16, torch.float16):
        raise TypeError(f"aggregate wants maps in float32, float64, bfloat16 or float16, not {maps.dtype}")
    if index.dtype != torch.int64:
        raise TypeError(f"aggregate wants an int64 index, not {index.dtype}")
    if {flow.dtype, log_counts.dtype} != {_computed(maps)}:
        raise TypeError(
            f"aggregate wants flow and log_counts in {_computed(maps)} for maps in {maps.dtype}, not {flow.dtype} and "
            f"{log_counts.dtype}"
        )
    if reference is not None and not reference.is_floating_point():
        raise TypeError(f"aggregate wants a floating reference, not {reference.dtype}")
    if maps.dim() != 4 or len(maps) == 0 or not 0 < features < maps.shape[1]:
        raise ValueError(
            f"aggregate wants maps (M, C, h, w), at least one, with more channels than its {features} features (at "
            f"least one), not {tuple(maps.shape)}"
        )
    if index.dim() != 2 or index.shape[1] == 0 or log_counts.shape != index.shape:
        raise ValueError(
            "aggregate wants index and log_counts (B, N), at least one frame each, not "
            f"{tuple(index.shape)} and {tuple(log_counts.shape)}"
        )
    flow_shape = (*index.shape, 2, *maps.shape[2:])
    if flow.shape != flow_shape:
        raise ValueError(f"aggregate wants flow {flow_shape}, not {tuple(flow.shape)}")
    reference_shape = (index.shape[0], maps.shape[1] - features, *maps.shape[2:])
    if reference is not None and reference.shape != reference_shape:
        raise ValueError(f"aggregate wants a reference {reference_shape}, not {tuple(reference.shape)}")


@torch.library.register_fake("vod::aggregate")
def _fake(
    maps: Tensor, index: Tensor, flow: Tensor, log_counts: Tensor, features: int, reference: Tensor | None
) -> tuple[Tensor, Tensor]:
    shape = (index.shape[0], features, *maps.shape[2:])
    averaged = torch.empty(shape, dtype=flow.dtype, device=maps.device, memory_format=torch.channels_last)
    return averaged, flow.new_empty(*index.shape, *maps.shape[2:])


@torch.library.register_fake("vod::aggregate_backward")
def _fake_backward(
    grad_averaged: Tensor,
    grad_weights: Tensor,
    maps: Tensor,
    index: Tensor,
    flow: Tensor,
    log_counts: Tensor,
    features: int,
    reference: Tensor | None,
) -> tuple[Tensor, Tensor, Tensor]:
    grad_reference = flow.new_empty(0) if reference is None else reference.new_empty(reference.shape)
    return maps.new_empty(maps.shape), flow.new_empty(flow.shape), grad_reference


def _setup_context(ctx, inputs, output) -> None:
    *tensors, ctx.features, reference = inputs
    ctx.save_for_backward(*tensors, reference)


def _backward(ctx, grad_averaged: Tensor, grad_weights: Tensor):
    *tensors, reference = ctx.saved_tensors
    grads = torch.ops.vod.aggregate_backward(grad_averaged, grad_weights, *tensors, ctx.features, reference)
    return grads[0], None, grads[1], None, None, None if reference is None else grads[2]


@torch.library.impl("vod::aggregate_backward", ("CPU", "CUDA"))
def _backward_by_recomputation(
    grad_averaged: Tensor,
    grad_weights: Tensor,
    maps: Tensor,
    index: Tensor,
    flow: Tensor,
    log_counts: Tensor,
    features: int,
    reference: Tensor | None,
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of maps, flow and reference (or an empty tensor)."""
    selected, flow, places, counts = _select(maps, index, flow, log_counts)
    warped, embeddings, other, similarities = _split(flow_warp(selected, flow), counts, features, reference)
    weights = (similarities + log_counts[:, :, None, None, None]).softmax(1)  # (B, N, 1, h, w)
    slope = grad_weights[:, :, None] + (warped * grad_averaged[:, None]).sum(2, keepdim=True)
    slope = weights * (slope - (weights * slope).sum(1, keepdim=True))  # to the similarities
    length, other_length = _length(embeddings), _length(other)
    both = length * other_length
    grad_embeddings = slope * (other / both - similarities * embeddings / length.square())  # (B, N, E, h, w)
    grad_other = (slope * (embeddings / both - similarities * other / other_length.square())).sum(1)  # (B, E, h, w)
    if reference is None:
        grad_embeddings[:, 0] += grad_other
        grad_other = flow.new_empty(0)
    grad = torch.cat((weights * grad_averaged[:, None], grad_embeddings), dim=2).flatten(0, 1)  # (B*N, C, h, w)
    grad_selected, grad_flow, _ = torch.ops.vod.flow_warp_backward(grad, selected, flow, None)
    grad_flow = torch.where(counts[:, :, None, None, None], grad_flow.unflatten(0, counts.shape), 0)
    grad_maps = torch.zeros(maps.shape, dtype=flow.dtype, device=maps.device)
    grad_maps.index_add_(0, places, grad_selected)
    return grad_maps.to(maps.dtype), grad_flow, grad_other if reference is None else grad_other.to(reference.dtype)


torch.library.register_autograd("vod::aggregate", _backward, setup_context=_setup_context)
stand_in_on_cuda("vod::aggregate", aggregate_reference)
