"""A recording of layers at other sizes and under other names, computed without any code of ours."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F


def layers_of_other_sizes(rng: np.random.RandomState) -> dict[str, np.ndarray]:
    """Arrays as in layers_*; outputs and gradients from float64 PyTorch or plain loops, stored as float32."""
    arrays = {"seed": np.array([1])}
    arrays |= _warp(rng) | _pooling(rng) | _deconvolution(rng) | _psroi(rng) | _nms(rng) | _smooth_l1(rng)
    return arrays | _sgd(rng) | {"lr_by_num_update": np.array([5e-5] * 3 + [2.5e-4] * 7 + [2.5e-5] * 2)}


def _single(prefix: str, **arrays) -> dict[str, np.ndarray]:
    """Tensors and arrays as float32 arrays under `prefix`."""
    return {
        f"{prefix}{name}": (value.detach().numpy() if isinstance(value, torch.Tensor) else value).astype(np.float32)
        for name, value in arrays.items()
    }


def _normal(rng: np.random.RandomState, *shape: int) -> torch.Tensor:
    """Random values that float32 holds exactly, as float64 with gradient."""
    return torch.from_numpy(rng.standard_normal(shape).astype(np.float32)).double().requires_grad_()


def _warp(rng: np.random.RandomState) -> dict[str, np.ndarray]:
    data, flow, head = _normal(rng, 2, 5, 7, 11), _normal(rng, 2, 2, 7, 11), _normal(rng, 2, 5, 7, 11)
    row, column = torch.meshgrid(torch.arange(7.0), torch.arange(11.0), indexing="ij")
    grid = torch.stack(((column + flow[:, 0]) / 5 - 1, (row + flow[:, 1]) / 3 - 1), dim=3)
    out = F.grid_sample(data, grid, align_corners=True)
    out.backward(head)
    return _single(
        "warp_long_name_",
        **{"data": data, "flow": flow, "head": head, "out": out, "grid": grid.permute(0, 3, 1, 2)},
        **{"grad_data": data.grad, "grad_flow": flow.grad},
    )


def _pooling(rng: np.random.RandomState) -> dict[str, np.ndarray]:
    x, head = _normal(rng, 1, 2, 9, 4), _normal(rng, 1, 2, 5, 2)
    out = torch.stack([x[..., 2 * i : 2 * i + 2, :].mean(2) for i in range(5)], dim=2)
    out = torch.stack([out[..., 2 * j : 2 * j + 2].mean(3) for j in range(2)], dim=3)
    out.backward(head)
    return _single("avgpool_big_", x=x, head=head, out=out, grad=x.grad)


def _deconvolution(rng: np.random.RandomState) -> dict[str, np.ndarray]:
    x, w, b, head = _normal(rng, 1, 3, 4, 2), _normal(rng, 3, 6, 4, 4), _normal(rng, 6), _normal(rng, 1, 6, 7, 4)
    out = F.conv_transpose2d(x, w, b, stride=2)[:, :, 1:8, 1:5]
    out.backward(head)
    arrays = _single("deconv_q_", x=x, w=w, b=b, head=head, out=out, grad_x=x.grad, grad_w=w.grad, grad_b=b.grad)
    return arrays | {"deconv_q_like_hw": np.array([7, 4])}


def _psroi(rng: np.random.RandomState) -> dict[str, np.ndarray]:
    bins, dims, cell = 2, 4, 8
    data, head = _normal(rng, 1, dims * bins * bins, 6, 5), _normal(rng, 2, dims, bins, bins)
    rois = np.array([[0, 0, 0, 31, 47], [0, 9, 9, 25, 41]], np.float32)
    out = []
    for _, x1, y1, x2, y2 in (rois / [1, cell, cell, cell, cell]).tolist():
        x2, y2 = x2 + 1 / cell, y2 + 1 / cell
        for d in range(dims):
            for i in range(bins):
                for j in range(bins):
                    rows = slice(
                        int(np.floor(y1 + i * (y2 - y1) / bins)), int(np.ceil(y1 + (i + 1) * (y2 - y1) / bins))
                    )
                    cols = slice(
                        int(np.floor(x1 + j * (x2 - x1) / bins)), int(np.ceil(x1 + (j + 1) * (x2 - x1) / bins))
                    )
                    out.append(data[0, (d * bins + i) * bins + j, rows, cols].mean())
    out = torch.stack(out).reshape(2, dims, bins, bins)
    out.backward(head)
    sizes = {"psroi_c_output_dim": np.array([dims]), "psroi_c_pooled_size": np.array([bins])}
    sizes |= {
        "psroi_c_spatial_scale": np.array([1 / cell], np.float32),
        "psroi_c_grad_rois": np.zeros((2, 5), np.float32),
    }
    return _single("psroi_c_", data=data, rois=rois, head=head, out=out, grad_data=data.grad) | sizes


def _nms(rng: np.random.RandomState) -> dict[str, np.ndarray]:
    corner = rng.uniform(0, 60, (50, 2))
    dets = np.column_stack((corner, corner + rng.uniform(5, 40, (50, 2)), rng.permutation(50) / 50)).astype(np.float32)
    kept = []
    for i in np.argsort(-dets[:, 4]):
        if all(_iou(dets[i].astype(np.float64), dets[k].astype(np.float64)) <= 0.45 for k in kept):
            kept.append(i)
    return {"nms_dets": dets, "nms_keep_45": np.array(kept)}


def _iou(a: np.ndarray, b: np.ndarray) -> float:
    sides = np.clip(np.minimum(a[2:4], b[2:4]) - np.maximum(a[:2], b[:2]) + 1, 0, None)
    areas = [np.prod(box[2:4] - box[:2] + 1) for box in (a, b)]
    return sides.prod() / (sum(areas) - sides.prod())


def _smooth_l1(rng: np.random.RandomState) -> dict[str, np.ndarray]:
    x = np.linspace(-1, 1, 21).astype(np.float32)
    near, wide = np.abs(x) < 0.25, x.astype(np.float64)
    out = np.where(near, 0.5 * (2 * wide) ** 2, np.abs(wide) - 0.125)
    grad = np.where(near, 4 * wide, np.sign(wide))
    return _single("smoothl1_", x=x, out_2=out, grad_2=grad)


def _sgd(rng: np.random.RandomState) -> dict[str, np.ndarray]:
    """Three updates; the rate is 0.0001 in the first and 0.001 from the second on."""
    arrays = {}
    for name, decay in (("z_gamma", 0.0005), ("z_bias", 0.0)):
        weight = rng.standard_normal((3, 2)).astype(np.float32)
        arrays[f"sgd_w_init_{name}"], momentum = weight, np.zeros((3, 2))
        for step, rate in enumerate((0.0001, 0.001, 0.001)):
            gradient = rng.standard_normal((3, 2)).astype(np.float32)
            momentum = 0.9 * momentum - rate * (gradient + decay * weight.astype(np.float64))
            weight = weight + momentum
            arrays |= {f"sgd_grad_{step}_{name}": gradient, f"sgd_w_{step}_{name}": weight.astype(np.float32)}
    return arrays
