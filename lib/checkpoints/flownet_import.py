"""FlowNet-S weights in the form of the common PyTorch implementation, for this project's flow network.

The layers are the same except the last: that network predicts the finest flow at a quarter of its input, this one
(docs/rules.md, section 1) averages the same map over 2x2 cells and then applies the same convolution, as the originals
do with Flying Chairs weights. Everything up to the concatenated map, and the four coarser flows, compute the same
function; the last flow does not, and training adapts it. Its unit is 20 pixels of the half-size image, 2.5 feature
cells.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import torch
from torch import Tensor

from lib.checkpoints.conversion import Conversion, WeightsError
from lib.checkpoints.first_layer import ImageForm, adapt_first_layer

FLOWNET_IMAGES = ImageForm((0.45 * 255, 0.432 * 255, 0.411 * 255), (255.0, 255.0, 255.0))  # R, G, B

_DIVISION = 20.0  # pixels of flow that are 1 in this network, and in the other unless its file says something else
_BN_EPS = 1e-5
_CONVOLUTIONS = ("conv1", "conv2", "conv3", "conv3_1", "conv4", "conv4_1", "conv5", "conv5_1", "conv6", "conv6_1")
_DECONVOLUTIONS = ("deconv5", "deconv4", "deconv3", "deconv2")
_PREDICTIONS = {f"predict_flow{level}": f"Convolution{7 - level}" for level in (6, 5, 4, 3, 2)}
_UPSAMPLERS = {f"upsampled_flow{n}_to_{n - 1}": f"upsample_flow{n}to{n - 1}" for n in (6, 5, 4, 3)}
_BATCH_NORM = ("weight", "bias", "running_mean", "running_var")


def own_flow_names(names: list[str]) -> dict[str, tuple[str, str]]:
    """Name in the file -> (layer here, what of it): weight, bias, or bn_<value> of a normalisation after it."""
    found: dict[str, tuple[str, str]] = {}
    for name in names:
        match = re.fullmatch(r"(?:module\.)?(\w+?)(?:\.([01]))?\.(\w+)", name)
        if not match:
            continue
        layer, part, value = match.groups()
        if layer in _CONVOLUTIONS and part:
            own = "flow_conv1" if layer == "conv1" else layer
            found[name] = (own, f"bn_{value}" if part == "1" else value)
        elif layer in _DECONVOLUTIONS and part != "1":
            found[name] = (layer, value)
        elif not part and (layer in _PREDICTIONS or layer in _UPSAMPLERS):
            found[name] = (_PREDICTIONS.get(layer) or _UPSAMPLERS[layer], value)
    return found


def flownet_from(
    arrays: Mapping[str, Tensor],
    trained: ImageForm,
    images: ImageForm,
    *,
    division: float = _DIVISION,
) -> Conversion:
    """Weights of the common PyTorch FlowNet-S as a state for `lib.models.flownet_s.FlowNetS`.

    trained: the form of its images. images: that in which this network gets them before it divides by 255. division:
    pixels of flow that are 1 in the file's network. Normalisation after a layer is folded in; missing biases are 0.
    Raises WeightsError for a first layer that does not take two images.
    """
    result = Conversion()
    layers: dict[str, dict[str, Tensor]] = {}
    own_names = own_flow_names(list(arrays))
    for name, array in arrays.items():
        layer, value = own_names.get(name, ("", ""))
        if value in ("weight", "bias", *(f"bn_{v}" for v in _BATCH_NORM)):
            layers.setdefault(layer, {})[value] = array.double()
            result.mapped.append((name, f"{layer}.{'bias' if value == 'bias' else 'weight'}"))
        else:
            result.dropped.append((name, "not a weight of FlowNet-S"))
    for layer, values in layers.items():
        if "weight" not in values:
            raise WeightsError(f"{layer} has values, but no weight")
        _finish_layer(result, layer, values)
    _adapt_images(result.state, trained, images)
    _change_unit(result, division / _DIVISION)
    result.state = {name: value.float() for name, value in result.state.items()}
    result.notes += [
        f"flow_conv1 changed from images ({'B, G, R' if trained.bgr else 'R, G, B'}) with means "
        f"{tuple(round(mean, 3) for mean in trained.means)} to R, G, B with means {images.means}; exact but for the "
        "outermost cells",
        "Convolution5 (predict_flow2) is applied after a 2x2 average here, as in the originals, so its flow is not the "
        "file's; all layers before it are the same function of the half-size images",
    ]
    return result


def _finish_layer(result: Conversion, layer: str, values: dict[str, Tensor]) -> None:
    """Add weight and bias of a layer to the state, with the normalisation after it folded in."""
    weight = values["weight"]
    transposed = layer.startswith(("deconv", "upsample"))
    bias = values.get("bias")
    if bias is None:
        bias = weight.new_zeros(weight.shape[1 if transposed else 0])
        if "bn_running_mean" not in values:
            result.added.append((f"{layer}.bias", "0: the file's layer has none"))
    if "bn_running_mean" in values:
        missing = [v for v in _BATCH_NORM if f"bn_{v}" not in values]
        if missing:
            raise WeightsError(f"{layer}: its normalisation has no {', '.join(missing)}")
        scale = values["bn_weight"] * torch.rsqrt(values["bn_running_var"] + _BN_EPS)
        weight = weight * scale[:, None, None, None]
        bias = (bias - values["bn_running_mean"]) * scale + values["bn_bias"]
    result.state[f"{layer}.weight"], result.state[f"{layer}.bias"] = weight, bias


def _adapt_images(state: dict[str, Tensor], trained: ImageForm, images: ImageForm) -> None:
    """This network divides by 255 itself, which `adapt_first_layer` sees as standard deviations."""
    weight = state.get("flow_conv1.weight")
    if weight is None:
        return  # which whoever checks the state will say
    if weight.ndim != 4 or weight.shape[1] != 6:
        raise WeightsError(f"conv1 has the shape {tuple(weight.shape)}, not one for two colour images")
    divided = ImageForm(images.means, (255.0, 255.0, 255.0))
    state["flow_conv1.weight"], shift = adapt_first_layer(weight, trained, divided)
    state["flow_conv1.bias"] = state["flow_conv1.bias"] + shift


def _change_unit(result: Conversion, factor: float) -> None:
    """Multiply every flow by `factor`, and divide the weights that read a coarser flow by it."""
    if factor == 1:
        return
    for name, value in result.state.items():
        if name.startswith("Convolution"):
            result.state[name] = value * factor
        elif name.startswith("upsample_flow") and name.endswith("weight"):
            result.state[name] = value / factor
    result.notes.append(f"flows multiplied by {factor:g}: 1 is {_DIVISION * factor:g} pixels in the file's network")
