"""Warp a feature map along a flow field (docs/rules.md, section 1; Deep Feature Flow paper, section 3)."""

from __future__ import annotations

import torch
from torch import Tensor

from lib.ops.dispatch import check_floating, run_in_float32, stand_in_on_cuda


def flow_warp(feature: Tensor, flow: Tensor, scale: Tensor | None = None) -> Tensor:
    """Read `feature` where `flow` points to, bilinearly: `out[n, :, y, x] = feature[n, :, y + dy, x + dx]`.

    feature: (N, C, H, W), or (1, C, H, W) to warp one map along N flows (one key frame, N other frames).
    flow: (N, 2, H, W), (dx, dy) in cells of `feature`: from the frame that asks to the frame that `feature` belongs to.
    scale: (N, C, H, W) or None; multiplied on the warped map, element by element.
    Returns (N, C, H, W). All three inputs get gradients; dtype float32 or float64 (float32 under autocast).
    On the CPU, maps and scale that all have channels last are read as they are, and the result has channels last too;
    everything else is brought into the usual order (`warp_format`).

    Corners are aligned: a whole number of cells reads exactly one cell. Each of the four cells around a position counts
    as zero where it lies outside the map, so values fade over the last cell beyond the border. The position is taken to
    [-1, 1] and back as the originals do (their GridGenerator and BilinearSampler), because on a whole cell, where the
    gradient to the flow has a step, that rounding decides the side. A side of one cell has no such scale (the originals
    divide by zero): there the position is used as it is, so zero flow reads the cell and one cell further reads zero.

    Flow that is finite and leads outside, however far, gives 0 and no gradient, whatever the map holds. Where dx or dy
    is NaN or infinite, the result and the gradients to both of them and to `scale` are NaN, so that it is seen; the
    feature gets no gradient from there.

    Raises ValueError for shapes that do not fit together, TypeError for other dtypes.
    """
    _check(feature, flow, scale)
    return torch.ops.vod.flow_warp(feature, flow, scale)


def warp_format(device: torch.device) -> torch.memory_format:
    """The memory format of `feature` and `scale` that `flow_warp` reads without a copy on `device`."""
    return torch.channels_last if device.type == "cpu" else torch.contiguous_format


def flow_warp_reference(feature: Tensor, flow: Tensor, scale: Tensor | None = None) -> Tensor:
    """The rule of `flow_warp` in PyTorch; same arguments, same result, differentiable."""
    _check(feature, flow, scale)
    n, _, height, width = flow.shape
    x = _position(flow[:, 0], torch.arange(width, device=flow.device))  # (N, H, W)
    y = _position(flow[:, 1], torch.arange(height, device=flow.device)[:, None])  # (N, H, W)
    left, top = x.detach().floor(), y.detach().floor()
    cells = feature.flatten(2).expand(n, -1, -1)  # (N, C, H*W)
    warped = torch.zeros((), dtype=feature.dtype, device=feature.device)
    for column, weight_x in ((left, 1 - (x - left)), (left + 1, x - left)):
        for row, weight_y in ((top, 1 - (y - top)), (top + 1, y - top)):
            inside = (column >= 0) & (column < width) & (row >= 0) & (row < height)  # (N, H, W)
            index = torch.where(inside, row * width + column, 0).long().flatten(1)  # (N, H*W)
            taps = cells.gather(2, index[:, None].expand(-1, cells.shape[1], -1))  # (N, C, H*W)
            taps = torch.where(inside.flatten(1)[:, None], taps, 0)
            warped = warped + taps * (weight_x * weight_y).flatten(1)[:, None]
    finite = flow.isfinite().all(1, keepdim=True)  # (N, 1, H, W)
    # 0, or NaN with gradients of NaN to dx and dy; filled in first, as a gradient of 0 times NaN would be NaN
    no_number = (flow.masked_fill(finite, 0) * torch.where(finite, 0, torch.nan)).sum(1, keepdim=True)
    warped = warped.unflatten(2, (height, width)) + no_number  # (N, C, H, W)
    return warped if scale is None else warped * scale


def _position(flow: Tensor, cell: Tensor) -> Tensor:
    """Sampling position along one axis in cells, (N, H, W); computed by way of [-1, 1] as in the originals.

    Far outside it is taken back to where no cell is read either: a position that overflowed would give NaN.
    """
    half = (cell.numel() - 1) / 2
    position = cell.to(flow.dtype) + flow
    position = position if half == 0 else (position / half - 1 + 1) * half
    return position.clamp(-2, cell.numel() + 1)


def _check(feature: Tensor, flow: Tensor, scale: Tensor | None) -> None:
    check_floating("flow_warp", feature=feature, flow=flow, scale=scale)
    if feature.dim() != 4 or flow.dim() != 4 or flow.shape[1] != 2 or flow.shape[2:] != feature.shape[2:]:
        raise ValueError(
            "flow_warp wants feature (N or 1, C, H, W) and flow (N, 2, H, W) of the same H and W, "
            f"not {tuple(feature.shape)} and {tuple(flow.shape)}"
        )
    if feature.shape[0] not in (1, flow.shape[0]):
        raise ValueError(
            f"flow_warp wants one feature map or one for each of the {flow.shape[0]} flows, not {feature.shape[0]}"
        )
    warped_shape = (flow.shape[0], *feature.shape[1:])
    if scale is not None and scale.shape != warped_shape:
        raise ValueError(f"flow_warp wants a scale map of shape {tuple(warped_shape)}, not {tuple(scale.shape)}")


@torch.library.register_fake("vod::flow_warp")
def _fake(feature: Tensor, flow: Tensor, scale: Tensor | None) -> Tensor:
    given = [tensor for tensor in (feature, scale) if tensor is not None]
    in_place = feature.device.type == "cpu" and all(_has_channels_last(tensor) for tensor in given)
    out = feature.new_empty(flow.shape[0], *feature.shape[1:])
    return out.contiguous(memory_format=torch.channels_last) if in_place else out


def _has_channels_last(x: Tensor) -> bool:
    return x.is_contiguous(memory_format=torch.channels_last) and not x.is_contiguous()


@torch.library.register_fake("vod::flow_warp_backward")
def _fake_backward(grad: Tensor, feature: Tensor, flow: Tensor, scale: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
    grad_scale = feature.new_empty(0 if scale is None else scale.shape)
    return feature.new_empty(feature.shape), flow.new_empty(flow.shape), grad_scale


def _setup_context(ctx, inputs, output) -> None:
    ctx.save_for_backward(*inputs)


def _backward(ctx, grad: Tensor):
    feature, flow, scale = ctx.saved_tensors
    grads = torch.ops.vod.flow_warp_backward(grad.contiguous(), feature, flow, scale)
    return grads[0], grads[1], None if scale is None else grads[2]


def _backward_reference(grad: Tensor, feature: Tensor, flow: Tensor, scale: Tensor | None):
    """What `vod::flow_warp_backward` computes, by autograd through the reference."""
    inputs = [tensor.detach().requires_grad_() for tensor in (feature, flow, scale) if tensor is not None]
    with torch.enable_grad():
        grads = torch.autograd.grad(flow_warp_reference(*inputs), inputs, grad)
    return grads if scale is not None else (*grads, feature.new_empty(0))


torch.library.register_autograd("vod::flow_warp", _backward, setup_context=_setup_context)
run_in_float32("vod::flow_warp")
stand_in_on_cuda("vod::flow_warp", flow_warp_reference)
stand_in_on_cuda("vod::flow_warp_backward", _backward_reference)
