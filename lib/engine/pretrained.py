"""What a training begins from: the weights that the configuration names, put into the parts of a new model."""

from __future__ import annotations

import logging
import os
from pathlib import Path

from lib.config import Config
from lib.engine.checkpoint import CheckpointError, weights_file
from lib.engine.weights import box_rule_of, load_backbone, load_flow, load_state, read_weights
from lib.models.video_model import VideoModel, parts_of

_LOGGER = logging.getLogger(__name__)
_SUFFIXES = (".pth", ".params", ".pt", ".tar", ".pkl")  # of whole names; a prefix may have a dot in it


def load_pretrained(model: VideoModel, cfg: Config) -> None:
    """Put the files that `cfg.network` names into `model`.

    pretrained_model: a detector of any of the methods, whose parts `model` takes over (`load_parts`). What it does not
    have comes from pretrained, the backbone, and from pretrained_flow, the flow network.
    Warns of a part that begins at random although it hardly learns so. Raises CheckpointError.
    """
    network = cfg.network
    given = load_parts(model, network.pretrained_model) if network.pretrained_model else set()
    if "features" not in given:
        _load_backbone(model, network)
    if model.flow_net is not None and "flow_net" not in given:
        _load_flow(model, network)


def _load_backbone(model: VideoModel, network: Config) -> None:
    if network.pretrained:
        load_backbone(model.features.resnet, checkpoint_file(network.pretrained, network.pretrained_epoch))
    elif network.NORM == "frozen":
        _LOGGER.warning(
            "network.pretrained is empty and network.NORM is 'frozen': the normalisation keeps its initial "
            "statistics, and a network like that hardly learns; give pre-trained weights or NORM=trained"
        )


def _load_flow(model: VideoModel, network: Config) -> None:
    if network.pretrained_flow:
        load_flow(model.flow_net, checkpoint_file(network.pretrained_flow, network.pretrained_epoch))
    else:
        _LOGGER.warning(
            "network.pretrained_flow is empty: the flow network begins at random, and detection alone hardly "
            "teaches it flow; tools/pretrain_flownet.py makes a start"
        )


def load_parts(model: VideoModel, path: str | os.PathLike) -> set[str]:
    """Load into each part of `model` (features, detector, flow_net, embed_net) what the detector at `path` has for it.

    The methods name their parts alike, so that DFF and FGFA can begin from a trained R-FCN, and a second phase of
    training from the first. A part that is in the file must fit as strictly as in `lib.engine.checkpoint.load_weights`,
    except that a flow network without a scale map fits one with it; parts that only one of the two has are named in
    the log. Returns the names of the parts loaded. Raises CheckpointError.
    """
    state = read_weights(path, "correct network.pretrained_model", model, box_rule=box_rule_of(model))
    in_file: dict[str, dict] = {}
    for name, value in state.items():
        part, _, rest = name.partition(".")
        in_file.setdefault(part, {})[rest] = value
    parts = parts_of(model)
    loaded = parts.keys() & in_file.keys()
    if not loaded:
        raise CheckpointError(f"{path}: has none of this model's parts, {', '.join(parts)}; is it a trained detector?")
    for name in sorted(loaded):
        load_state(parts[name], in_file[name], path, may_miss="Convolution5_scale." if name == "flow_net" else None)
    _LOGGER.info(
        "%s: gave %s; not in the file: %s; not in this model: %s",
        path,
        ", ".join(sorted(loaded)),
        ", ".join(sorted(parts.keys() - loaded)) or "-",
        ", ".join(sorted(in_file.keys() - loaded)) or "-",
    )
    return set(loaded)


def checkpoint_file(name: str, epoch: int) -> Path:
    """`name` if it names a file, else the originals' form, prefix and epoch: <prefix>-0000.pth, or .params."""
    path = Path(name)
    return path if path.is_file() or path.suffix in _SUFFIXES else weights_file(path, epoch)
