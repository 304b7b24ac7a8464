"""Position-sensitive RoI pooling (docs/rules.md, section 2; R-FCN paper, section 2.2)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from lib.ops.dispatch import check_floating, run_in_float32, stand_in_on_cuda


def psroi_pool(feature: Tensor, rois: Tensor, output_dim: int, pooled_size: int, spatial_scale: float) -> Tensor:
    """Divide each RoI into a P x P grid, and average each grid cell over its own channel of the feature map.

    feature: (N, D*P*P, H, W); channel `(d * P + i) * P + j` belongs to output d in grid row i, column j.
    rois: (R, 5) [image, x1, y1, x2, y2]: `image` counts from 0 over N, the corners are network-input pixels, inclusive.
    output_dim, pooled_size: D and P. spatial_scale: feature cells per pixel (1/16 here).
    Returns (R, D, P, P); a grid cell that covers no feature cell is 0. Only `feature` gets a gradient.
    dtype float32 or float64 (float32 under autocast); the geometry is float32 in either case, as in the originals.

    Corners are rounded with halves away from zero, the end corner then gets +1, then both are scaled; a RoI is at
    least 0.1 cells wide and high. A grid cell reads the feature cells from floor(start) to ceil(end), inside the map.

    So an inverted RoI, or one of no extent, is 0.1 cells long from its first corner on. A RoI that lies outside,
    however far, or whose first corner is NaN or infinite, reads nothing. A last corner that is NaN makes its side 0.1
    cells long too; one that is infinite gives the first grid cell of its side all cells of the map, the others none.

    Raises ValueError for shapes that do not fit together, TypeError for other dtypes, RuntimeError for an image index
    outside N (on the CPU; a CUDA kernel gives 0 for such a RoI rather than wait for the GPU to check).
    """
    check_pooling("psroi_pool", feature, rois, output_dim, pooled_size)
    return torch.ops.vod.psroi_pool(feature, rois, output_dim, pooled_size, spatial_scale)


def psroi_pool_reference(
    feature: Tensor, rois: Tensor, output_dim: int, pooled_size: int, spatial_scale: float
) -> Tensor:
    """The rule of `psroi_pool` in PyTorch; same arguments, same result, differentiable.

    Sums over rectangles come from a summed-area table in float64, so that they are as exact as direct ones.
    """
    check_pooling("psroi_pool", feature, rois, output_dim, pooled_size)
    n, channels, height, width = feature.shape
    image = rois[:, 0].long()
    if not rois.is_cuda and not bool(((image >= 0) & (image < n)).all()):
        raise RuntimeError(f"psroi_pool: a roi names an image outside 0..{n - 1}")
    left, right = _edges(rois[:, 1], rois[:, 3], pooled_size, spatial_scale, width)  # (R, P) each
    top, bottom = _edges(rois[:, 2], rois[:, 4], pooled_size, spatial_scale, height)
    table = feature.new_zeros(n, channels, height + 1, width + 1, dtype=torch.float64)
    table[:, :, 1:, 1:] = feature.double().cumsum(2).cumsum(3)
    table = table.flatten(2).view(n, output_dim, pooled_size, pooled_size, -1)  # (N, D, P, P, (H+1)*(W+1))
    outputs = torch.arange(output_dim, device=rois.device)[:, None, None]
    bins = torch.arange(pooled_size, device=rois.device)

    def corner(row: Tensor, column: Tensor) -> Tensor:
        cell = row[:, None, :, None] * (width + 1) + column[:, None, None, :]  # (R, 1, P, P)
        return table[image[:, None, None, None], outputs, bins[:, None], bins, cell]  # (R, D, P, P)

    total = corner(bottom, right) - corner(top, right) - corner(bottom, left) + corner(top, left)
    count = ((bottom - top)[:, :, None] * (right - left)[:, None, :]).clamp(min=1)[:, None]  # (R, 1, P, P)
    return (total / count).to(feature.dtype)


def _edges(first: Tensor, last: Tensor, bins: int, scale: float, cells: int) -> tuple[Tensor, Tensor]:
    """Along one axis, the first cell and one past the last of each bin: (R,) corners in pixels -> two (R, bins) int64.

    An empty bin has both equal.
    """
    start = _round_half_away(first.float()) * scale
    end = (_round_half_away(last.float()) + 1) * scale
    size = torch.fmax(end - start, end.new_tensor(0.1))[:, None] / bins  # (R, 1); of a NaN it is the least, as in C
    edges = torch.arange(bins + 1, device=first.device, dtype=torch.float32) * size + start[:, None]  # (R, bins + 1)
    edges = edges.nan_to_num(nan=0.0)
    begin = edges[:, :-1].floor().clamp(0, cells).long()
    stop = edges[:, 1:].ceil().clamp(0, cells).long()
    return begin, torch.maximum(begin, stop)


def _round_half_away(x: Tensor) -> Tensor:
    """Round half away from zero, as `round` in C; torch rounds half to even."""
    whole = x.trunc()
    return whole + x.sign() * ((x - whole).abs() >= 0.5)


def check_pooling(
    name: str,
    feature: Tensor,
    rois: Tensor,
    output_dim: int,
    pooled_size: int,
    dtypes: Sequence[torch.dtype] = (torch.float32, torch.float64),
) -> None:
    """ValueError or TypeError unless the arguments of operator `name`, psroi_pool or psroi_vote, go together."""
    check_floating(name, dtypes=dtypes, feature=feature)
    if not rois.is_floating_point():
        raise TypeError(f"{name} wants floating rois, not {rois.dtype}")
    if output_dim < 1 or pooled_size < 1:
        raise ValueError(f"{name} wants output_dim and pooled_size from 1, not {output_dim} and {pooled_size}")
    channels = output_dim * pooled_size * pooled_size
    if feature.dim() != 4 or feature.shape[1] != channels:
        raise ValueError(
            f"{name} wants feature (N, {channels}, H, W), {output_dim} outputs for each of {pooled_size} x "
            f"{pooled_size} grid cells, not {tuple(feature.shape)}"
        )
    if rois.dim() != 2 or rois.shape[1] != 5:
        raise ValueError(f"{name} wants rois (R, 5) [image, x1, y1, x2, y2], not {tuple(rois.shape)}")


@torch.library.register_fake("vod::psroi_pool")
def _fake(feature: Tensor, rois: Tensor, output_dim: int, pooled_size: int, spatial_scale: float) -> Tensor:
    return feature.new_empty(rois.shape[0], output_dim, pooled_size, pooled_size)


@torch.library.register_fake("vod::psroi_pool_backward")
def _fake_backward(grad: Tensor, rois: Tensor, feature_shape: list[int], spatial_scale: float) -> Tensor:
    return grad.new_empty(feature_shape)


def _setup_context(ctx, inputs, output) -> None:
    feature, rois, _, _, ctx.spatial_scale = inputs
    ctx.save_for_backward(rois)
    ctx.feature_shape = feature.shape


def _backward(ctx, grad: Tensor):
    (rois,) = ctx.saved_tensors
    grad_feature = torch.ops.vod.psroi_pool_backward(grad.contiguous(), rois, ctx.feature_shape, ctx.spatial_scale)
    return grad_feature, None, None, None, None


def _backward_reference(grad: Tensor, rois: Tensor, feature_shape: list[int], spatial_scale: float) -> Tensor:
    """What `vod::psroi_pool_backward` computes, by autograd through the reference."""
    feature = grad.new_zeros(feature_shape).requires_grad_()
    with torch.enable_grad():
        pooled = psroi_pool_reference(feature, rois, grad.shape[1], grad.shape[2], spatial_scale)
    return torch.autograd.grad(pooled, feature, grad)[0]


torch.library.register_autograd("vod::psroi_pool", _backward, setup_context=_setup_context)
run_in_float32("vod::psroi_pool")
stand_in_on_cuda("vod::psroi_pool", psroi_pool_reference)
stand_in_on_cuda("vod::psroi_pool_backward", _backward_reference)
