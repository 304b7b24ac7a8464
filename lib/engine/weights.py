"""Load weights into models from checkpoints, weight files and MXNet's parameter files; nothing is skipped silently."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from lib.checkpoints.conversion import WeightsError, misfits
from lib.checkpoints.mxnet_params import is_params, read_params
from lib.checkpoints.mxnet_state import CLASSIFIER, BoxRule, original_name, state_from_params
from lib.checkpoints.resnet_import import SOURCES, has_torchvision_names, resnet_from
from lib.checkpoints.sizes import DEPTH, differing_sizes
from lib.engine.checkpoint import CheckpointError, read_tensors
from lib.errors import some_of
from lib.models.mxnet_names import mxnet_name, mxnet_names
from lib.models.video_model import Backbone, VideoModel

_LOGGER = logging.getLogger(__name__)
_OTHER_PROJECTS = (
    "was it made with another configuration? Weights of other projects go through tools/convert_weights.py first."
)


def load_weights(model: VideoModel, path: str | os.PathLike) -> None:
    """Load the weights of a training checkpoint, or of a file that holds only weights, into `model`.

    Such a file may be MXNet's (.params), here and below; it is recognised by its content. Every parameter and buffer
    must be present, with the same shape and finite values, and there may be no others, except that unused arrays of an
    MXNet file are named in a warning. Otherwise CheckpointError lists them and `model` is unchanged.
    """
    what_to_do = "give a file that training wrote, <model_prefix>-0001.pth for example"
    state = read_weights(path, what_to_do, model, box_rule=box_rule_of(model))
    load_state(model, state, path)
    if any(value.dtype == torch.float16 for value in state.values()):
        _LOGGER.info("%s: stored in float16, loaded as float32", path)


def load_backbone(resnet: Backbone, path: str | os.PathLike) -> bool:
    """Load pre-trained backbone weights (tools/pretrain_backbone.py writes such files) into `resnet`, as strictly as
    `load_weights`, but without the classifier at the end of pre-trained files.

    A file with torchvision's names loads into a ResNet of style "pytorch" without conversion. Returns whether it was
    such a file. Raises CheckpointError for a ResNet of style "caffe", which would compute another function.
    """
    what_to_do = (
        "correct network.pretrained, add --preset configs/presets/torchvision_backbone.yaml to begin from "
        "torchvision's ImageNet weights, or make a file with tools/pretrain_backbone.py"
    )
    state = read_weights(path, what_to_do, resnet, may_drop=CLASSIFIER)
    torchvisions = has_torchvision_names(state)
    load_state(resnet, _from_torchvision(state, resnet, path) if torchvisions else state, path)
    return torchvisions


def _from_torchvision(state: dict[str, Tensor], resnet: Backbone, path: str | os.PathLike) -> dict[str, Tensor]:
    source = SOURCES["torchvision"]
    try:
        conversion = resnet_from(
            state, source, resnet.stages, images=source.images, eps=resnet.bn_eps, style=resnet.style
        )
    except WeightsError as error:
        raise CheckpointError(f"{path}: has torchvision's names; {error}") from error
    dropped = [name for name, _ in conversion.dropped if not name.endswith("num_batches_tracked")]
    _LOGGER.info("%s: weights with torchvision's names; left out: %s", path, ", ".join(dropped) or "-")
    return conversion.state


def load_flow(flow_net: nn.Module, path: str | os.PathLike, setting: str = "network.pretrained_flow") -> None:
    """Load pre-trained FlowNet-S weights into `flow_net`, as strictly as `load_weights`, except for Deep Feature Flow's
    scale map: it keeps its initial weights, whether the file has one or not. A training begins with a scale of 1
    everywhere, as in the originals. setting: what gave `path`, for messages."""
    what_to_do = f"make one with tools/pretrain_flownet.py, or correct {setting}"
    state = read_weights(path, what_to_do, flow_net)
    state = {name: value for name, value in state.items() if not name.startswith("Convolution5_scale.")}
    load_state(flow_net, state, path, may_miss="Convolution5_scale.")


def read_weights(
    path: str | os.PathLike,
    what_to_do: str,
    model: nn.Module,
    may_drop: tuple[str, ...] = (),
    box_rule: BoxRule | None = None,
) -> dict[str, Tensor]:
    """The weights by name in a training checkpoint, or in a file that holds only weights; tensors on the CPU.

    The names of MXNet's parameter files, which are recognised by their content, are translated to those of `model`;
    arrays that it does not have are left out with a warning, those in `may_drop` without one. box_rule: how the model
    un-normalises its boxes; None: the usual rule. All decisions are logged. Raises InputError (CheckpointError,
    ParamsError), which ends with `what_to_do` if a file cannot be read.
    """
    if is_params(path):
        return _read_params(Path(path), model, may_drop, box_rule or BoxRule())
    content = read_tensors(path, what_to_do)
    if isinstance(content, dict) and isinstance(content.get("model"), dict):
        content = content["model"]
    return _named_weights(content, path)


def _read_params(path: Path, model: nn.Module, may_drop: tuple[str, ...], box_rule: BoxRule) -> dict[str, Tensor]:
    params = read_params(path)
    try:
        conversion = state_from_params(params, mxnet_names(model), box_rule, may_drop)
    except WeightsError as error:
        raise CheckpointError(f"{path}: {error}") from error
    for name, why in conversion.dropped:
        _LOGGER.info("%s: %s left out: %s", path, name, why)
    for note in conversion.notes:
        _LOGGER.warning("%s: %s", path, note)
    own = model.state_dict()
    # The arrays of a deeper network would load partly, and the rest would be called unused
    shapes = {original_name(name): array.shape for name, array in params.named().items()}
    depth = differing_sizes(shapes, shapes_by_original_name(own)).get(DEPTH)
    if depth is not None:
        raise CheckpointError(f"{path}: {depth}; set it to the file's, or give another file")
    unused = sorted(set(conversion.state) - set(own))
    if unused:
        _LOGGER.warning("%s: arrays that this model has no use for, left out: %s", path, some_of(unused))
    return {name: value for name, value in conversion.state.items() if name in own}


def _named_weights(content: Any, path: str | os.PathLike) -> dict[str, Tensor]:
    named = isinstance(content, dict) and all(isinstance(name, str) for name in content)
    if not named or not all(isinstance(value, Tensor) for value in content.values()):
        raise CheckpointError(f"{path}: holds no weights by name, but a {type(content).__name__} of something else")
    odd = [name for name, value in content.items() if not _is_plain(value)]
    if odd:
        raise CheckpointError(
            f"{path}: {odd[0]!r} is no plain array of real numbers (sparse, quantized, complex or without values); "
            "save the weights as dense floating-point tensors"
        )
    return content


def _is_plain(value: Tensor) -> bool:
    return value.layout == torch.strided and not (value.is_meta or value.is_quantized or value.is_complex())


def box_rule_of(model: VideoModel) -> BoxRule:
    """How the model's detector un-normalises its boxes."""
    return BoxRule(model.detector.roi_rule.means, model.detector.roi_rule.stds)


def load_state(module: nn.Module, state: Any, path: str | os.PathLike, may_miss: str | None = None) -> None:
    """Load the state dictionary `state`, read from `path`, into `module`, or raise CheckpointError and change nothing.

    may_miss: prefix of the names that need not be in the file; those parameters are not changed.
    """
    state = _named_weights(state, path)
    problems = misfits(module.state_dict(), state, may_miss)
    if problems:
        different = differing_sizes(shapes_by_original_name(state), shapes_by_original_name(module.state_dict()))
        sizes = "; ".join(different.values())
        reason = f"{sizes}. Set them to the file's, or give another file." if sizes else _OTHER_PROJECTS
        raise CheckpointError(f"{path}: does not fit this model: {reason}\n{problems}")
    check_finite(state.items(), path)
    module.load_state_dict(state, strict=False)  # strictly checked above, counters aside


def shapes_by_original_name(state: Mapping[str, Tensor]) -> dict[str, tuple[int, ...]]:
    """The shapes of weights by their original names, which do not depend on the module that they belong to."""
    return {original: tuple(value.shape) for name, value in state.items() if (original := mxnet_name(name))}


def check_finite(named: Iterable[tuple[str, Tensor]], path: str | os.PathLike) -> None:
    """Raise CheckpointError for NaN or infinite weights, which would otherwise show as NaN boxes hours later."""
    bad = [name for name, value in named if value.is_floating_point() and not bool(value.isfinite().all())]
    if bad:
        raise CheckpointError(f"{path}: NaN or infinite values in {some_of(bad, 5)}; take another file")
