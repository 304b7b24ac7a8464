"""ResNet-v1 with stride 16, in the originals' form and in torchvision's (He et al. 2016; docs/rules.md, section 1).

The two forms, network.STYLE, differ in where a bottleneck has its stride: "caffe", the originals', on the first 1x1
convolution; "pytorch", torchvision's, on the 3x3. In both, res5 keeps the resolution of res4 and its 3x3 convolutions
are dilated by 2 instead. In "pytorch" the first of them is not: its stride is left out, so it reads the same cells as
before, and only what follows it reads a map of twice the resolution. At every second cell res5 is then exactly what
the network with stride 32 computes, and everywhere torchvision's `replace_stride_with_dilation=[False, False, True]`.

Modules carry Caffe's names (res2a, res3b1, branch2a, ...) in both, from which `lib.models.mxnet_names` derives the
original parameter names.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

UNITS_PER_STAGE: dict[int, tuple[int, int, int, int]] = {
    18: (2, 2, 2, 2),
    34: (3, 4, 6, 3),
    50: (3, 4, 6, 3),
    101: (3, 4, 23, 3),
    152: (3, 8, 36, 3),
}
STYLES = ("caffe", "pytorch")


class FrozenBatchNorm(nn.Module):
    """Batch normalisation by stored statistics, in training too; its weight and bias are ordinary parameters.

    (B, C, H, W) -> the same. The state has the names of `nn.BatchNorm2d`, whose checkpoints load as they are.
    """

    def __init__(self, channels: int, eps: float = 1e-5) -> None:
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))
        self.register_buffer("running_mean", torch.zeros(channels))
        self.register_buffer("running_var", torch.ones(channels))

    def forward(self, x: Tensor) -> Tensor:
        return F.batch_norm(x, self.running_mean, self.running_var, self.weight, self.bias, False, 0.0, self.eps)

    def _load_from_state_dict(self, state_dict, prefix, *args) -> None:
        # A counter of nn.BatchNorm2d that is not used here
        state_dict.pop(f"{prefix}num_batches_tracked", None)
        super()._load_from_state_dict(state_dict, prefix, *args)

    def extra_repr(self) -> str:
        return f"{self.weight.shape[0]}, eps={self.eps}"


def freeze_batch_norms(module: nn.Module) -> nn.Module:
    """Replace every `nn.BatchNorm2d` inside `module` by a `FrozenBatchNorm` of the same values; returns `module`."""
    for name, child in module.named_children():
        if isinstance(child, nn.BatchNorm2d):
            frozen = FrozenBatchNorm(child.num_features, child.eps)
            frozen.load_state_dict(child.state_dict())
            setattr(module, name, frozen.to(child.weight.device, child.weight.dtype))
        else:
            freeze_batch_norms(child)
    return module


def fold_batch_norms(module: nn.Module) -> nn.Module:
    """Fold every normalisation `bn_<name>` into the convolution `<name>` beside it, by its stored statistics.

    In place; returns `module`, which computes the same in evaluation mode without normalisation layers. Raises
    TypeError if the layer beside a normalisation is not a convolution.
    """
    for parent in list(module.modules()):
        for name, norm in list(parent.named_children()):
            if isinstance(norm, (FrozenBatchNorm, nn.BatchNorm2d)):
                conv = parent.get_submodule(name.removeprefix("bn_"))
                if not isinstance(conv, nn.Conv2d):
                    raise TypeError(f"'{name}' cannot be folded into a {type(conv).__name__}, only into a Conv2d")
                scale = norm.weight * torch.rsqrt(norm.running_var + norm.eps)  # (C,)
                conv.bias = nn.Parameter((norm.bias - norm.running_mean * scale).detach())
                conv.weight = nn.Parameter((conv.weight * scale[:, None, None, None]).detach())
                setattr(parent, name, nn.Identity())
    return module


def _conv(in_channels: int, out_channels: int, kernel: int, stride: int = 1, dilation: int = 1) -> nn.Conv2d:
    padding = dilation * (kernel // 2)
    return nn.Conv2d(in_channels, out_channels, kernel, stride, padding, dilation, bias=False)


class _Bottleneck(nn.Module):
    """1x1, 3x3, 1x1 and the shortcut: (B, in, H, W) -> (B, 4 * width, H/stride, W/stride).

    dilations: of the first 3x3 convolution of a unit, here the only one, and of the others. style: one of STYLES.
    """

    expansion = 4

    def __init__(
        self,
        in_channels: int,
        width: int,
        stride: int,
        dilations: tuple[int, int],
        norm: Callable[[int], nn.Module],
        style: str,
    ) -> None:
        super().__init__()
        stride_1x1, stride_3x3 = (stride, 1) if style == "caffe" else (1, stride)
        out_channels = width * self.expansion
        self.branch1 = None
        if stride != 1 or in_channels != out_channels:
            self.branch1 = _conv(in_channels, out_channels, 1, stride)
            self.bn_branch1 = norm(out_channels)
        self.branch2a = _conv(in_channels, width, 1, stride_1x1)
        self.bn_branch2a = norm(width)
        self.branch2b = _conv(width, width, 3, stride_3x3, dilations[0])
        self.bn_branch2b = norm(width)
        self.branch2c = _conv(width, out_channels, 1)
        self.bn_branch2c = norm(out_channels)

    def forward(self, x: Tensor) -> Tensor:
        shortcut = x if self.branch1 is None else self.bn_branch1(self.branch1(x))
        x = _relu(self.branch2a, self.bn_branch2a, x)
        x = _relu(self.branch2b, self.bn_branch2b, x)
        return _relu(self.branch2c, self.bn_branch2c, x, shortcut)


class _Basic(nn.Module):
    """Two 3x3, the first with the stride, and the shortcut: (B, in, H, W) -> (B, width, H/stride, W/stride).

    dilations: of the two. style: one of STYLES; the stride has the same place in both.
    """

    expansion = 1

    def __init__(
        self,
        in_channels: int,
        width: int,
        stride: int,
        dilations: tuple[int, int],
        norm: Callable[[int], nn.Module],
        style: str,
    ) -> None:
        super().__init__()
        self.branch1 = None
        if stride != 1 or in_channels != width:
            self.branch1 = _conv(in_channels, width, 1, stride)
            self.bn_branch1 = norm(width)
        self.branch2a = _conv(in_channels, width, 3, stride, dilations[0])
        self.bn_branch2a = norm(width)
        self.branch2b = _conv(width, width, 3, dilation=dilations[1])
        self.bn_branch2b = norm(width)

    def forward(self, x: Tensor) -> Tensor:
        shortcut = x if self.branch1 is None else self.bn_branch1(self.branch1(x))
        x = _relu(self.branch2a, self.bn_branch2a, x)
        return _relu(self.branch2b, self.bn_branch2b, x, shortcut)


def _relu(conv: nn.Module, norm: nn.Module, x: Tensor, shortcut: Tensor | None = None) -> Tensor:
    """ReLU of the normalised convolution of `x`, plus `shortcut`; the shortcut's memory is not read afterwards."""
    if not isinstance(conv, nn.Conv2d):  # in its form for inference, with the normalisation folded into it
        return conv.relu(x, shortcut)
    x = norm(conv(x))
    if shortcut is not None:  # without gradients in the memory of `x`: new memory costs more time
        x = x + shortcut if torch.is_grad_enabled() else x.add_(shortcut)
    return F.relu(x, inplace=True)


def unit_names(depth: int) -> list[list[str]]:
    """Caffe's names of the residual units, stage by stage: res2a, res2b, ...; in the deep nets res3b1, res3b2, ..."""
    names = []
    for stage, units in enumerate(UNITS_PER_STAGE[depth], start=2):
        if depth > 50 and stage in (3, 4):
            names.append([f"res{stage}a", *(f"res{stage}b{i}" for i in range(1, units))])
        else:
            names.append([f"res{stage}{chr(ord('a') + i)}" for i in range(units)])
    return names


class ResNet(nn.Module):
    """Images (B, 3, H, W) -> res5 after its ReLU (B, out_channels, ceil(H/16), ceil(W/16)).

    depth: 18, 34, 50, 101 or 152. width: channels of conv1; 64 in the paper, less for a smaller network.
    norm: "frozen" (stored statistics, as in the originals) or "trained" (`nn.BatchNorm2d`, for networks without
    pre-training). style: "caffe" or "pytorch", see above. stages: the names of its units, stage by stage, from res2 on.
    Weights are initialised as in He et al. 2015. Raises ValueError for another depth, norm or style.
    """

    def __init__(
        self, depth: int, width: int = 64, norm: str = "frozen", bn_eps: float = 1e-5, style: str = "caffe"
    ) -> None:
        super().__init__()
        if depth not in UNITS_PER_STAGE:
            raise ValueError(f"ResNet depth must be one of {sorted(UNITS_PER_STAGE)}, not {depth!r}")
        if norm not in ("frozen", "trained"):
            raise ValueError(f"ResNet norm must be 'frozen' or 'trained', not {norm!r}")
        if style not in STYLES:
            raise ValueError(f"ResNet style must be one of {STYLES}, not {style!r}")
        make_norm = partial(FrozenBatchNorm if norm == "frozen" else nn.BatchNorm2d, eps=bn_eps)
        unit = _Bottleneck if depth >= 50 else _Basic
        self.conv1 = nn.Conv2d(3, width, 7, stride=2, padding=3, bias=False)
        self.bn_conv1 = make_norm(width)
        self.stages = unit_names(depth)
        self.style, self.bn_eps = style, bn_eps
        channels = width
        for stage, names in enumerate(self.stages):
            stage_width = width * 2**stage
            dilation = 2 if stage == 3 else 1
            for index, name in enumerate(names):
                stride = 2 if index == 0 and stage in (1, 2) else 1
                first_dilation = 1 if index == 0 and style == "pytorch" else dilation
                dilations = (first_dilation, dilation)
                self.add_module(name, unit(channels, stage_width, stride, dilations, make_norm, style))
                channels = stage_width * unit.expansion
        self.out_channels = channels
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, images: Tensor) -> Tensor:
        x = _relu(self.conv1, self.bn_conv1, images)  # (B, width, H/2, W/2)
        x = F.max_pool2d(x, 3, stride=2, padding=1)  # (B, width, H/4, W/4)
        for names in self.stages:  # res2 keeps H/4, res3 makes H/8, res4 H/16, res5 keeps H/16
            for name in names:
                x = self.get_submodule(name)(x)
        return x
