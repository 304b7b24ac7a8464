"""Initial weights of a training: load the files that the configuration names into the parts of a new model."""

from __future__ import annotations

import logging
import os
from collections.abc import Collection, Mapping
from pathlib import Path

from torch import Tensor

from lib.checkpoints.conversion import WeightsError
from lib.checkpoints.resnet_import import SOURCES
from lib.checkpoints.sizes import differing_sizes
from lib.checkpoints.torchvision_weights import fetch_torchvision, is_torchvision_name, torchvision_file
from lib.config import Config
from lib.data.classes import Classes
from lib.engine.checkpoint import CheckpointError, read_identity, weights_file
from lib.engine.class_transfer import copy_classes, match_classes
from lib.engine.compatibility import require_same_function, warn_of_differences
from lib.engine.weights import (
    box_rule_of,
    load_backbone,
    load_flow,
    load_state,
    read_weights,
    shapes_by_original_name,
)
from lib.models.video_model import VideoModel, parts_of

_LOGGER = logging.getLogger(__name__)
_CLASS_LAYER = "detector.head.rfcn_cls"  # the only layer with channels for each class: boxes are class-agnostic
_SUFFIXES = (".pth", ".params", ".pt", ".tar", ".pkl")  # of whole names; a prefix may have a dot in it


def load_pretrained(model: VideoModel, cfg: Config, classes: Classes) -> None:
    """Load the files that `cfg.network` names into `model`, a new model for `classes`.

    pretrained_model: a detector of any method and any classes, from which `model` takes all parts that both have
    (`load_parts`). The others come from pretrained, the backbone, and from pretrained_flow, the flow network. Warns of
    a part that keeps random weights although it hardly learns from them. Raises CheckpointError.
    """
    network = cfg.network
    given = load_parts(model, network.pretrained_model, cfg, classes) if network.pretrained_model else set()
    if "features" not in given:
        _load_backbone(model, network)
    if model.flow_net is not None and "flow_net" not in given:
        _load_flow(model, network)


def _load_backbone(model: VideoModel, network: Config) -> None:
    resnet, name = model.features.resnet, network.pretrained
    other_images = _other_images(network)
    if is_torchvision_name(name):
        if other_images:
            raise CheckpointError(f"network.pretrained: '{name}' {other_images}")
        try:
            load_backbone(resnet, fetch_torchvision(name))
        except WeightsError as error:
            raise CheckpointError(f"network.pretrained: {error}") from error
    elif name:
        path = checkpoint_file(name, network.pretrained_epoch)
        if load_backbone(resnet, path) and other_images:
            _LOGGER.warning("%s: has torchvision's names; if it is torchvision's, it %s", path, other_images)
    elif network.NORM == "frozen":
        _LOGGER.warning(
            "network.pretrained is empty and network.NORM is 'frozen': the normalisation keeps its initial "
            "statistics, and such a network hardly learns; give pre-trained weights or NORM=trained"
        )


def _other_images(network: Config) -> str:
    """How the network's images differ from those that torchvision trained on; "" where they do not."""
    images = SOURCES["torchvision"].images
    for key, rgb, most in (("PIXEL_MEANS", images.means, 2.0), ("PIXEL_STDS", images.stds, 0.5)):
        bgr = list(rgb[::-1])
        if any(abs(a - b) > most for a, b in zip(network[key], bgr, strict=True)):
            return (
                f"was trained with the {key} {bgr} (B, G, R), and network.{key} is {list(network[key])}; "
                "add --preset configs/presets/torchvision_backbone.yaml"
            )
    return ""


def _load_flow(model: VideoModel, network: Config) -> None:
    if network.pretrained_flow:
        load_flow(model.flow_net, checkpoint_file(network.pretrained_flow, network.pretrained_epoch))
    else:
        _LOGGER.warning(
            "network.pretrained_flow is empty: the flow network begins with random weights and hardly learns flow from "
            "the detection losses alone; tools/pretrain_flownet.py pre-trains one"
        )


def load_parts(model: VideoModel, path: str | os.PathLike, cfg: Config, classes: Classes) -> set[str]:
    """Load the parts that `model` and the detector at `path` have in common (features, detector, flow_net, embed_net).

    All methods use the same names of parts, so that DFF and FGFA can begin from a trained R-FCN, and a second phase of
    training from the first. A part must match as strictly as in `lib.engine.weights.load_weights`, with two exceptions:
    a flow network without a scale map fits one with it, and the file's classes may differ from `classes`, those of the
    model: the class layer is copied class by class (`lib.engine.class_transfer`). The log names the parts that only one
    of the two has, and the classes that are copied, new or unused. Returns the names of the parts loaded. Raises
    CheckpointError, also for a file whose configuration computes other features than `cfg`.
    """
    state = read_weights(path, "correct network.pretrained_model", model, box_rule=box_rule_of(model))
    parts = parts_of(model)
    in_file = {name.partition(".")[0] for name in state}
    loaded = parts.keys() & in_file
    if not loaded:
        raise CheckpointError(f"{path}: has none of this model's parts, {', '.join(parts)}; is it a trained detector?")
    identity = read_identity(path)
    if identity is not None:
        require_same_function(identity, cfg, path)
        warn_of_differences(identity, cfg, path)
    state = _with_classes(state, model, classes, None if identity is None else identity.classes, path)
    _require_same_size(state, model, loaded, path)
    for part in sorted(loaded):
        own = {name.partition(".")[2]: value for name, value in state.items() if name.partition(".")[0] == part}
        load_state(parts[part], own, path, may_miss="Convolution5_scale." if part == "flow_net" else None)
    _LOGGER.info(
        "%s: gave %s; not in the file: %s; not in this model: %s",
        path,
        ", ".join(sorted(loaded)),
        ", ".join(sorted(parts.keys() - loaded)) or "-",
        ", ".join(sorted(in_file - loaded)) or "-",
    )
    return set(loaded)


def _with_classes(
    state: dict[str, Tensor], model: VideoModel, own: Classes, theirs: Classes | None, path: str | os.PathLike
) -> dict[str, Tensor]:
    """`state` with the initial class layer of `model`: matched classes from the file, the others new.

    theirs: the file's classes, if it names them. Entries without the shape of a class layer are left for `load_state`
    to report.
    """
    head = model.detector.head
    bins = head.pooled_size**2
    initial = {f"{_CLASS_LAYER}.{name}": value for name, value in head.rfcn_cls.state_dict().items()}
    given = {name: state[name] for name in initial if name in state}
    channels = {value.shape[0] if value.ndim else 0 for value in given.values()}
    alike = all(given[name].shape[1:] == initial[name].shape[1:] for name in given)
    count = next(iter(channels), 0) // bins
    if len(given) < len(initial) or not alike or channels != {count * bins} or count < 2:
        return state
    if theirs is not None and theirs.num_classes != count:
        raise CheckpointError(
            f"{path}: names {len(theirs.names)} classes, but its layer rfcn_cls has {count - 1} and the background; "
            "take another file"
        )
    match = match_classes(own, theirs, count)
    if match.assumption:
        _LOGGER.warning("%s: %s", path, match.assumption)
    _LOGGER.info("%s: classes of rfcn_cls: %s", path, match.describe(own))
    return state | {name: copy_classes(initial[name], given[name], match, bins) for name in given}


def _require_same_size(
    state: Mapping[str, Tensor], model: VideoModel, parts: Collection[str], path: str | os.PathLike
) -> None:
    """Raise CheckpointError, which names the keys, if the parts in the file have another size than the model's."""
    theirs, own = (
        shapes_by_original_name({name: value for name, value in values.items() if name.partition(".")[0] in parts})
        for values in (state, model.state_dict())
    )
    different = differing_sizes(theirs, own)
    if different:
        raise CheckpointError(
            f"{path}: is another network: {'; '.join(different.values())}. Set these to the file's, or begin from "
            "backbone weights (network.pretrained) without network.pretrained_model"
        )


def checkpoint_file(name: str, epoch: int) -> Path:
    """`name` if it names a file, else the originals' form, prefix and epoch: <prefix>-0000.pth, or .params.

    For a name of torchvision's weights: the file in torch hub's cache. Raises InputError for an unknown name.
    """
    if is_torchvision_name(name):
        return torchvision_file(name)
    path = Path(name)
    return path if path.is_file() or path.suffix in _SUFFIXES else weights_file(path, epoch)
