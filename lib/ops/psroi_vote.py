"""Position-sensitive RoI pooling followed by the vote, the mean over the grid cells (R-FCN paper, section 2.2)."""

from __future__ import annotations

import torch
from torch import Tensor

from lib.ops.dispatch import run_in_float32, stand_in_on_cuda
from lib.ops.psroi_pool import check_pooling, psroi_pool_reference

_DTYPES = (torch.float32, torch.float64, torch.bfloat16, torch.float16)


def psroi_vote(
    feature: Tensor, rois: Tensor, output_dim: int, pooled_size: int, spatial_scale: float, by_bin: bool = False
) -> Tensor:
    """`psroi_pool(...).mean((2, 3))` in one pass, without the pooled values in memory.

    feature: (N, D*P*P, H, W), in any memory format, none of which is copied; rois: (R, 5); output_dim: D; pooled_size:
    P; spatial_scale: as for `psroi_pool`. by_bin: channel `(i * P + j) * D + d`, not `(d * P + i) * P + j`, belongs to
    output d in grid row i, column j: with channels last, the values that a RoI reads then lie together, which is
    several times as fast on the CPU. Returns (R, D). Only `feature` gets a gradient.

    feature may be float32, float64, bfloat16 or float16; the sums and the result are float32, or float64 for float64
    (under autocast, float32). The geometry is float32 in either case.

    The P * P means of a RoI and output, each summed row by row as in `psroi_pool`, are added up in 32 partial sums,
    grid cell i * P + j in number (i * P + j) % 32; then the second half of these to the first half, until one is left,
    and that is divided by P * P. The CPU and the CUDA kernel give the same bits.

    Raises ValueError, TypeError and RuntimeError as `psroi_pool` does.
    """
    check_pooling("psroi_vote", feature, rois, output_dim, pooled_size, _DTYPES)
    return torch.ops.vod.psroi_vote(feature, rois, output_dim, pooled_size, spatial_scale, by_bin)


def psroi_vote_reference(
    feature: Tensor, rois: Tensor, output_dim: int, pooled_size: int, spatial_scale: float, by_bin: bool = False
) -> Tensor:
    """The rule of `psroi_vote` in PyTorch; same arguments, same result, differentiable."""
    check_pooling("psroi_vote", feature, rois, output_dim, pooled_size, _DTYPES)
    feature = feature.to(_sum_dtype(feature))
    if by_bin:
        feature = feature.unflatten(1, (-1, output_dim)).transpose(1, 2).flatten(1, 2)
    return psroi_pool_reference(feature, rois, output_dim, pooled_size, spatial_scale).mean((2, 3))


def _sum_dtype(feature: Tensor) -> torch.dtype:
    return torch.float64 if feature.dtype == torch.float64 else torch.float32


@torch.library.register_fake("vod::psroi_vote")
def _fake(
    feature: Tensor, rois: Tensor, output_dim: int, pooled_size: int, spatial_scale: float, by_bin: bool = False
) -> Tensor:
    return feature.new_empty(rois.shape[0], output_dim, dtype=_sum_dtype(feature))


def _setup_context(ctx, inputs, output) -> None:
    feature, rois, ctx.output_dim, ctx.pooled_size, ctx.spatial_scale, ctx.by_bin = inputs
    ctx.save_for_backward(rois)
    ctx.feature_shape, ctx.dtype = feature.shape, feature.dtype


def _backward(ctx, grad: Tensor):
    (rois,) = ctx.saved_tensors
    bins = ctx.pooled_size
    shares = (grad / (bins * bins))[:, :, None, None].expand(-1, -1, bins, bins).contiguous()  # (R, D, P, P)
    grad_feature = torch.ops.vod.psroi_pool_backward(shares, rois, ctx.feature_shape, ctx.spatial_scale)
    if ctx.by_bin:
        grad_feature = grad_feature.unflatten(1, (ctx.output_dim, -1)).transpose(1, 2).flatten(1, 2)
    return grad_feature.to(ctx.dtype), None, None, None, None, None


torch.library.register_autograd("vod::psroi_vote", _backward, setup_context=_setup_context)
run_in_float32("vod::psroi_vote")
stand_in_on_cuda("vod::psroi_vote", psroi_vote_reference)
