"""Convert a trained model to its fastest form for inference. It cannot be trained or saved afterwards.

Batch normalisation is folded into the convolutions once. On the CPU the weights are reordered once, too, for the
convolutions of oneDNN, which otherwise reorder them in every call. FlowNet-S's first convolution is split in two, so
that its share of an image is computed once, however many others the image is compared with; the two convolutions of the
RPN become one, and so do those of the R-FCN head. In float32 all this changes results by rounding at most.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from lib.models.inference_conv import InferenceConv
from lib.models.int8_conv import Int8Conv
from lib.models.precision import PrecisionError
from lib.models.resnet import fold_batch_norms
from lib.models.video_model import VideoModel, parts_of

# A position that is off is read at another place, and proposals are ranked by small differences: these stay in float32
_FLOAT32_LAYERS = ("Convolution5", "rpn_joined")


def prepare_for_inference(
    model: VideoModel, reduced: torch.dtype | None = None, compiled: str = "off", int8: bool = False
) -> VideoModel:
    """Fold, reorder and cast the weights of `model`, in place; returns it in evaluation mode, without gradients.

    Call it with the weights loaded and the model on its device. reduced: the dtype of the convolutions of the backbone,
    the flow network, the embedding and the R-FCN head, None for float32; the RPN and the layer that gives the flow stay
    float32, and so do the warp, pooling and boxes. compiled: "off", "on" or "graphs", the configuration's COMPILE;
    compiled parts are reordered by the compiler. int8: run the convolutions of the backbone, the embedding and the
    flow network's encoder in 8 bits, but for the first, whose input is an image; on the CPU. Raises PrecisionError if
    they are also to be compiled.
    """
    if int8 and compiled != "off":
        raise PrecisionError("PRECISION int8 and COMPILE exclude each other; take one of them")
    model.eval().requires_grad_(False)
    fold_batch_norms(model.features.resnet)
    if model.flow_net is not None:
        model.flow_net.split_first_layer()
    model.detector.rpn.join_convolutions()
    model.detector.head.join_convolutions()
    for name, part in parts_of(model).items():
        pack = compiled == "off" or name == "detector"  # which is not compiled
        for parent in list(part.modules()):
            for child_name, child in list(parent.named_children()):
                if int8 and type(child) is nn.Conv2d and _fits_int8(name, child_name):
                    setattr(parent, child_name, Int8Conv(child, signed=name == "flow_net"))  # leaky ReLUs before it
                elif type(child) in (nn.Conv2d, nn.ConvTranspose2d):
                    dtype = None if child_name in _FLOAT32_LAYERS else reduced
                    setattr(parent, child_name, InferenceConv(child, dtype, pack))
    if compiled != "off":
        _compile(model, compiled == "graphs")
    return model


def _fits_int8(part: str, name: str) -> bool:
    """Not the first convolutions, whose input is an image, nor the flow network's decoder, which is transposed."""
    if part == "flow_net":
        return name.startswith("conv")  # conv2 to conv6_1
    return part in ("features", "embed_net") and name != "conv1"


def _compile(model: VideoModel, graphs: bool) -> None:
    model.features.forward = CompiledPart(model.features.forward, graphs)
    if model.flow_net is not None:
        model.flow_net.after_first_layer = CompiledPart(model.flow_net.after_first_layer, graphs)
    embed_net = parts_of(model).get("embed_net")
    if embed_net is not None:
        embed_net.forward = CompiledPart(embed_net.forward, graphs)


class CompiledPart:
    """`function`, which takes tensors and gives one or a tuple of them (or None), compiled by torch.compile.

    Its weights become constants: reordered once, normalisation folded. graphs: replay CUDA graphs. Results are copied
    out of the memory of the graph then, which the next call of any compiled part may take.
    """

    def __init__(self, function: Callable[..., Any], graphs: bool) -> None:
        import torch._inductor.config  # takes a second

        self._compiled = torch.compile(function, mode="reduce-overhead" if graphs else "default")
        self._graphs = graphs
        self._seen: set[tuple] = set()

    def __call__(self, *tensors: Tensor) -> Any:
        layout = tuple((x.shape, x.stride(), x.dtype) for x in tensors)
        if layout in self._seen:
            found = self._compiled(*tensors)
        else:  # which compiles it; the setting is the whole process's, and other code compiles too
            with torch._inductor.config.patch(freezing=True):
                found = self._compiled(*tensors)
            self._seen.add(layout)
        if not self._graphs:
            return found
        return tuple(map(_copied, found)) if isinstance(found, tuple) else _copied(found)


def _copied(x: Tensor | None) -> Tensor | None:
    return None if x is None else x.clone()
