"""Bring a trained model into the form that is fastest to detect with. It cannot be trained or saved afterwards.

Batch normalisation is folded into the convolutions once. On the CPU the weights are reordered once, too, for the
convolutions of oneDNN, which otherwise reorder them in every call. In float32 the results are the same, bit for bit.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from lib.models.resnet import fold_batch_norms
from lib.models.video_model import VideoModel, parts_of

# Convolutions whose output is a position, a scale or a score keep float32
_FLOAT32_PARTS = ("detector",)
_FLOAT32_LAYERS = ("Convolution5", "Convolution5_scale")


def prepare_for_inference(model: VideoModel, reduced: torch.dtype | None = None, compiled: str = "off") -> VideoModel:
    """Fold, reorder and cast the weights of `model`, in place; returns it in evaluation mode, without gradients.

    Call it with the weights loaded and the model on its device. reduced: the dtype of the convolutions of the backbone,
    the flow network and the embedding, None for float32; the RPN, the head and the flow's last layers stay float32.
    compiled: "off", "on" or "graphs", the configuration's COMPILE; compiled parts are reordered by the compiler.
    """
    model.eval().requires_grad_(False)
    fold_batch_norms(model.features.resnet)
    for name, part in parts_of(model).items():
        dtype = None if name in _FLOAT32_PARTS else reduced
        for parent in list(part.modules()):
            for child_name, child in list(parent.named_children()):
                if type(child) in (nn.Conv2d, nn.ConvTranspose2d):
                    kept = None if child_name in _FLOAT32_LAYERS else dtype
                    pack = compiled == "off" or name in _FLOAT32_PARTS
                    setattr(parent, child_name, InferenceConv(child, kept, pack))
    if compiled != "off":
        _compile(model, "reduce-overhead" if compiled == "graphs" else "default")
    return model


def _compile(model: VideoModel, mode: str) -> None:
    import torch._inductor.config

    torch._inductor.config.freezing = True  # weights are constants: reordered once, normalisation folded
    model.features.forward = torch.compile(model.features.forward, mode=mode)
    if model.flow_net is not None:
        model.flow_net.between_halves = torch.compile(model.flow_net.between_halves, mode=mode)
    embed_net = parts_of(model).get("embed_net")
    if embed_net is not None:
        embed_net.forward = torch.compile(embed_net.forward, mode=mode)


class InferenceConv(nn.Module):
    """A convolution, transposed or not, with fixed weights; its input is cast to the weights' dtype.

    On the CPU the weights are reordered for oneDNN, once for each size of input; pack: whether to.
    """

    def __init__(self, conv: nn.Conv2d | nn.ConvTranspose2d, dtype: torch.dtype | None, pack: bool = True) -> None:
        super().__init__()
        self.conv = conv if dtype is None else conv.to(dtype)
        self.in_channels, self.out_channels = conv.in_channels, conv.out_channels
        self.transposed = isinstance(conv, nn.ConvTranspose2d)
        self._packed: dict[tuple[int, ...], Tensor] = {}
        on_cpu = conv.weight.device.type == "cpu"
        self._can_pack = pack and on_cpu and conv.groups == 1 and _has_packing(self.transposed)

    @property
    def weight(self) -> Tensor:
        return self.conv.weight

    def forward(self, x: Tensor) -> Tensor:
        conv = self.conv
        x = x.to(conv.weight.dtype)
        if not self._can_pack or x.numel() == 0:
            return conv(x)
        size = tuple(x.shape)
        if size not in self._packed:
            if len(self._packed) >= 8:  # of sizes that came before; a new one is packed in milliseconds
                self._packed.pop(next(iter(self._packed)))
            self._packed[size] = self._pack(size)
        geometry = (list(conv.padding), list(conv.stride), list(conv.dilation))
        if self.transposed:
            padding, stride, dilation = geometry
            return torch.ops.mkldnn._convolution_transpose_pointwise(
                x, self._packed[size], conv.bias, padding, [0, 0], stride, dilation, 1, "none", [], ""
            )
        return torch.ops.mkldnn._convolution_pointwise(x, self._packed[size], conv.bias, *geometry, 1, "none", [], "")

    def _pack(self, size: tuple[int, ...]) -> Tensor:
        conv, weight = self.conv, self.conv.weight.contiguous()
        if self.transposed:
            return torch.ops.mkldnn._reorder_convolution_transpose_weight(
                weight, list(conv.padding), [0, 0], list(conv.stride), list(conv.dilation), 1, list(size)
            )
        return torch._C._nn.mkldnn_reorder_conv2d_weight(
            weight.to_mkldnn(), conv.padding, conv.stride, conv.dilation, 1, list(size)
        )


def _has_packing(transposed: bool) -> bool:
    """Whether this build of torch has oneDNN with packed convolutions; others take the plain ones."""
    name = "_convolution_transpose_pointwise" if transposed else "_convolution_pointwise"
    return torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, name)
