"""The synthetic weights with which the originals' numbers were recorded: a function of the parameter's name alone."""

from __future__ import annotations

from zlib import crc32

import numpy as np
import torch
from torch import nn

from lib.models.mxnet_names import mxnet_names

_GAINS = {
    "conv1": 0.04,
    "feat_conv_3x3": 1.5,
    "rpn_cls_score": 1.5,
    "rpn_bbox_pred": 1.0,
    "rfcn_cls": 16.0,
    "rfcn_bbox": 3.0,
    "flow_conv1": 4.0,
    "Convolution1": 1.5,
    "Convolution2": 1.5,
    "Convolution3": 1.5,
    "Convolution4": 1.5,
    "Convolution5": 2.0,
    "Convolution5_scale": 0.4,
}


def golden_weight(name: str, shape: tuple[int, ...], seed: int) -> np.ndarray:
    """float32 values of the parameter with the original name `name`."""
    rs = np.random.RandomState((crc32(name.encode("ascii")) & 0xFFFFFFFF) ^ seed)
    if name.endswith("_moving_var"):
        value = rs.uniform(0.5, 1.5, shape)
    elif name.endswith("_branch2c_gamma"):
        value = rs.uniform(0.1, 0.3, shape)
    elif name.endswith("_gamma"):
        value = rs.uniform(0.5, 1.0, shape)
    elif name.endswith(("_moving_mean", "_beta")):
        value = 0.1 * rs.standard_normal(shape)
    elif name == "Convolution5_scale_bias":
        value = 1 + 0.05 * rs.standard_normal(shape)
    elif name.endswith("_bias"):
        value = 0.05 * rs.standard_normal(shape)
    elif name.endswith("_weight"):
        transposed = name.startswith(("deconv", "upsample_flow"))  # stored (in, out, kh, kw)
        fan_in = shape[0] * np.prod(shape[2:]) / 4 if transposed else np.prod(shape[1:])
        gain = _GAINS.get(name.removesuffix("_weight"), 1.41421356)
        value = rs.standard_normal(shape) * (gain / np.sqrt(fan_in))
    else:
        raise ValueError(f"the rule says nothing about '{name}'")
    return value.astype(np.float32)


def load_golden_weights(model: nn.Module, seed: int) -> nn.Module:
    """Give every parameter and statistic of `model` the rule's values; returns `model`."""
    state = model.state_dict()
    for name, torch_name in mxnet_names(model).items():
        state[torch_name] = torch.from_numpy(golden_weight(name, tuple(state[torch_name].shape), seed))
    model.load_state_dict(state)
    return model


def network_input(frames: np.ndarray) -> torch.Tensor:
    """(n, H, W, 3) uint8 BGR frames -> (n, 3, H, W) float32 RGB without the means."""
    rgb = frames[..., ::-1].astype(np.float32) - np.array([123.15, 115.90, 103.06], np.float32)
    return torch.from_numpy(np.ascontiguousarray(rgb.transpose(0, 3, 1, 2)))
