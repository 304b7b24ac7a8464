"""ResNet weights of torchvision, mmdetection, maskrcnn-benchmark and Detectron for this project's backbone.

Besides the names, they differ in the form of the input image (`first_layer`), batch normalisation's epsilon or folding,
and the position of a bottleneck's stride: on the first 1x1 convolution in models derived from Caffe's, on the 3x3 in
torchvision's. The backbone here supports both (`network.STYLE`), but no conversion of weights makes one compute the
function of the other. The last stage keeps its resolution here and is dilated instead: every second cell has the value
that the stage with stride would compute.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from lib.checkpoints.conversion import Conversion, WeightsError
from lib.checkpoints.first_layer import OURS, ImageForm, adapt_first_layer


@dataclass(frozen=True)
class ResNetSource:
    """A project that ResNet weights come from.

    images: the form of its input images. eps: of its batch normalisation; None: folded into a scale and a shift.
    style: the network.STYLE that computes the same function, "caffe" or "pytorch".
    """

    images: ImageForm
    eps: float | None
    style: str = "caffe"


_IMAGENET_MEANS = (123.675, 116.28, 103.53)
_CAFFE_MEANS = (122.7717, 115.9465, 102.9801)
SOURCES = {
    "torchvision": ResNetSource(ImageForm(_IMAGENET_MEANS, (58.395, 57.12, 57.375)), 1e-5, "pytorch"),
    "mmdetection": ResNetSource(ImageForm(_IMAGENET_MEANS, bgr=True), 1e-5),
    "maskrcnn-benchmark": ResNetSource(ImageForm(_CAFFE_MEANS, bgr=True), 0.0),
    "detectron": ResNetSource(ImageForm(_CAFFE_MEANS, bgr=True), None),
}

_PREFIX = re.compile(r"^(module\.)?(gpu_0/)?(model\.)?(backbone\.)?(body\.)?(stem\.)?")
_TORCH_NAMES = (
    (re.compile(r"conv1\.(weight|bias)"), r"conv1.\1"),
    (re.compile(r"bn1\.(\w+)"), r"bn_conv1.\1"),
    (re.compile(r"layer(\d)\.(\d+)\.conv(\d)\.weight"), r"\1.\2.branch2\3.weight"),
    (re.compile(r"layer(\d)\.(\d+)\.bn(\d)\.(\w+)"), r"\1.\2.bn_branch2\3.\4"),
    (re.compile(r"layer(\d)\.(\d+)\.downsample\.0\.weight"), r"\1.\2.branch1.weight"),
    (re.compile(r"layer(\d)\.(\d+)\.downsample\.1\.(\w+)"), r"\1.\2.bn_branch1.\3"),
)
_DETECTRON_NAMES = (
    (re.compile(r"conv1_w"), "conv1.weight"),
    (re.compile(r"conv1_b"), "conv1.bias"),
    (re.compile(r"res_conv1_bn_s"), "bn_conv1.weight"),
    (re.compile(r"res_conv1_bn_b"), "bn_conv1.bias"),
    (re.compile(r"res(\d)_(\d+)_branch(1|2[abc])_w"), r"\1.\2.branch\3.weight"),
    (re.compile(r"res(\d)_(\d+)_branch(1|2[abc])_bn_s"), r"\1.\2.bn_branch\3.weight"),
    (re.compile(r"res(\d)_(\d+)_branch(1|2[abc])_bn_b"), r"\1.\2.bn_branch\3.bias"),
)
_UNIT = re.compile(r"(\d)\.(\d+)\.(bn_)?branch(2?)(\w)\.(\w+)")


def own_resnet_names(names: list[str], detectron: bool = False) -> dict[str, str]:
    """Name in the file -> stage.unit.layer.value, such as 2.0.branch2a.weight, for what belongs to a ResNet."""
    found: dict[str, str] = {}
    for name in names:
        for pattern, replacement in _DETECTRON_NAMES if detectron else _TORCH_NAMES:
            match = pattern.fullmatch(_PREFIX.sub("", name))
            if match:
                found[name] = match.expand(replacement)
    if detectron:
        return found
    stages_from_one = {name: re.sub(r"^\d", lambda m: str(int(m[0]) + 1), own) for name, own in found.items()}
    return {name: re.sub(r"branch2(\d)", _letter, own) for name, own in stages_from_one.items()}


def _letter(match: re.Match) -> str:
    return "branch2" + "abc"[int(match[1]) - 1]


def has_torchvision_names(names: Collection[str]) -> bool:
    """Whether `names` are those of torchvision's ResNets, which other projects use too."""
    return any(name.endswith("layer1.0.conv1.weight") for name in names)


def depth_of(own_names: Mapping[str, str]) -> int:
    """The depth of the ResNet with these names, 101 for example. Raises WeightsError where they make no ResNet."""
    units = {tuple(match.groups()[:2]) for own in own_names.values() if (match := _UNIT.fullmatch(own))}
    if not units:
        raise WeightsError("no residual units among the names")
    convolutions = 3 if any(".branch2c." in own for own in own_names.values()) else 2
    return len(units) * convolutions + 2


def resnet_from(
    arrays: Mapping[str, Tensor],
    source: ResNetSource,
    stages: list[list[str]],
    *,
    trained: ImageForm | None = None,
    images: ImageForm = OURS,
    eps: float = 1e-5,
    style: str = "caffe",
    accept_stride_change: bool = False,
) -> Conversion:
    """Weights of `source`'s ResNet as a state for `lib.models.resnet.ResNet`; every one left out is named.

    stages: names of the units here, stage by stage (`ResNet.stages`). trained: the form of the images, where it is not
    the source's usual one. images, eps, style: those of the backbone that the weights are for. Raises WeightsError for
    units that it does not have, and where it computes another function because of its style, unless
    `accept_stride_change`.
    """
    own_names = own_resnet_names(list(arrays), detectron=source.eps is None)
    result, depth = Conversion(), depth_of(own_names)
    if source.style != style:
        _tell_style(result, depth, style, accept_stride_change)
    for name, array in arrays.items():
        target = _in_stages(own_names[name], stages, depth) if name in own_names else None
        if target is None or target.endswith("num_batches_tracked"):
            result.dropped.append((name, "not a weight of the backbone"))
        elif target in result.state:
            raise WeightsError(f"'{name}' would be {target}, which another name is already")
        else:
            result.state[target] = array.float()
            result.mapped.append((name, target))
    if source.eps is None:
        _unfold(result, eps)
    else:
        _change_eps(result, source.eps, eps)
    _adapt_images(result, trained or source.images, images)
    return result


def _in_stages(own: str, stages: list[list[str]], depth: int) -> str:
    """2.0.branch2a.weight -> res2a.branch2a.weight. Raises WeightsError for a unit that is not there."""
    match = re.fullmatch(r"(\d)\.(\d+)\.(.+)", own)
    if not match:
        return own
    stage, unit = int(match[1]) - 2, int(match[2])
    if not 0 <= stage < len(stages) or unit >= len(stages[stage]):
        raise WeightsError(f"a ResNet-{depth}, deeper than this one, which has {list(map(len, stages))} units a stage")
    return f"{stages[stage][unit]}.{match[3]}"


def _tell_style(result: Conversion, depth: int, style: str, accepted: bool) -> None:
    """Raise WeightsError, or add a note, if a backbone of `style` computes another function with these weights."""
    bottlenecks = depth >= 50
    if style == "pytorch":
        if not bottlenecks:
            return  # their basic units are the same in all projects, and this style reads the same cells
        what = "these bottlenecks have their stride on the 1x1 convolution, network.STYLE pytorch has it on the 3x3"
        cure = "use network.STYLE caffe (in tools/convert_weights.py: --style caffe)"
    else:
        what = (
            "torchvision's bottlenecks have the stride of res3a and res4a on the 3x3 convolution, network.STYLE caffe "
            "has it on the 1x1 before it, and res5a's 3x3 is dilated there"
            if bottlenecks
            else "res5a's first 3x3 convolution is dilated with network.STYLE caffe, where torchvision's has a stride"
        )
        cure = (
            "use network.STYLE pytorch, which is the same function (configs/presets/torchvision_backbone.yaml; in "
            "tools/convert_weights.py: --style pytorch)"
        )
    if not accepted:
        raise WeightsError(
            f"{what}: with these weights it would be another function, whose features are worse until training has "
            f"adapted them; {cure}; tools/convert_weights.py --accept-stride-change converts them all the same"
        )
    result.notes.append(f"another function than the one trained: {what}")


def _unfold(result: Conversion, eps: float) -> None:
    """Add statistics to a folded normalisation (scale and shift) that do not change its function."""
    for name in [n for n in result.state if re.search(r"(^|\.)bn_\w+\.weight$", n)]:
        scale, layer = result.state[name], name.removesuffix(".weight")
        for value, statistic in ((0.0, "running_mean"), (1.0 - eps, "running_var")):
            result.state[f"{layer}.{statistic}"] = torch.full_like(scale, value)
            result.added.append(
                (f"{layer}.{statistic}", f"{value:g}: its normalisation is folded into scale and shift")
            )


def _change_eps(result: Conversion, theirs: float, ours: float) -> None:
    """Keep variance + epsilon."""
    if theirs == ours:
        return
    for name in [n for n in result.state if n.endswith("running_var")]:
        result.state[name] = (result.state[name].double() + theirs - ours).float()
    result.notes.append(
        f"variances are stored {theirs - ours:+g}: the source's epsilon is {theirs:g}, here it is {ours:g}"
    )


def _adapt_images(result: Conversion, trained: ImageForm, ours: ImageForm) -> None:
    state = result.state
    bias = state.pop("conv1.bias", None)
    if "conv1.weight" not in state or "bn_conv1.running_mean" not in state:
        return  # which whoever checks the state will say
    if state["conv1.weight"].ndim != 4 or state["conv1.weight"].shape[1] != 3:
        raise WeightsError(f"conv1 has the shape {tuple(state['conv1.weight'].shape)}, not one for colour images")
    state["conv1.weight"], shift = adapt_first_layer(state["conv1.weight"], trained, ours)
    if bias is not None:
        shift = shift + bias.double()
        result.notes.append("conv1's bias went into bn_conv1's stored mean")
        result.mapped = [pair for pair in result.mapped if pair[1] != "conv1.bias"]
    elif trained == ours:
        return
    state["bn_conv1.running_mean"] = (state["bn_conv1.running_mean"].double() - shift).float()
    result.notes.append(
        f"conv1 and bn_conv1's stored mean changed from images ({'B, G, R' if trained.bgr else 'R, G, B'}) with means "
        f"{trained.means} and stds {trained.stds} to R, G, B with means {ours.means} and stds {ours.stds}; exact but "
        "for the outermost cells"
    )
