"""One configuration: the defaults below, changed by a YAML file, changed by `KEY=VALUE` on the command line.

The key names are those of the originals, so that their YAML files load as they are; keys that only MXNet had a use for
are accepted and named in one warning. Everything else that is unknown, or of another type than its default, is an error
that names the key and the file.
"""

from __future__ import annotations

import copy
import logging
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml
from easydict import EasyDict

from lib.errors import InputError

Config = EasyDict

_DEFAULTS: dict[str, Any] = {
    "output_path": "",  # runs go to <output_path>/<config name>/<image set>/
    "gpus": "",  # "0,1,2,3": one update SUMS the gradients of this many batches, as the originals' GPUs did
    "SCALES": [[600, 1000]],  # short side, and the most that the long side may have, in pixels
    "CLASS_AGNOSTIC": True,  # one box per RoI for all classes; the only form there is
    "default": {"frequent": 20},  # iterations between two lines of the training log
    "network": {
        "DEPTH": 101,  # ResNet-v1: 18, 34, 50, 101 or 152
        "WIDTH": 64,  # channels of conv1; 64 is ResNet's own
        "NORM": "frozen",  # "frozen": stored statistics, as the originals; "trained": for nets without pre-training
        "BN_EPS": 0.0,  # 0: the method's own, R-FCN and DFF 1e-5, FGFA 2e-5
        "FEAT_DIM": 1024,  # channels of feat_conv_3x3: one half for the RPN, the other for the R-FCN head
        "FGFA_FEAT_DIM": 3072,  # channels of feature and embedding together
        "FLOW_WIDTH": 1.0,  # multiplies FlowNet-S's channels
        "PIXEL_MEANS": [0.0, 0.0, 0.0],  # B, G, R
        "IMAGE_STRIDE": 0,  # pad the input to a multiple of this; 0: do not
        "RPN_FEAT_STRIDE": 16,
        "RCNN_FEAT_STRIDE": 16,
        "ANCHOR_RATIOS": [0.5, 1.0, 2.0],
        "ANCHOR_SCALES": [8.0, 16.0, 32.0],
        "NUM_ANCHORS": 9,
        "ANCHOR_MEANS": [0.0, 0.0, 0.0, 0.0],
        "ANCHOR_STDS": [0.1, 0.1, 0.4, 0.4],
        "NORMALIZE_RPN": True,
        "FIXED_PARAMS": ["gamma", "beta"],  # beginnings of the original parameter names that are not trained
        "pretrained_model": "",  # a trained detector of any method, to begin from its parts; those it lacks come from:
        "pretrained": "",  # backbone weights to begin from
        "pretrained_epoch": 0,
        "pretrained_flow": "",  # FlowNet-S weights to begin from
    },
    "dataset": {
        "dataset_path": "./data/ILSVRC2015",
        "root_path": "./data",  # the annotation index is cached in <root_path>/cache
        "image_set": "DET_train_30classes+VID_train_15frames",
        "test_image_set": "VID_val_videos",
        "CLASSES": "",  # a class file; "": <dataset_path>/classes.txt, or else ImageNet VID's 30
        "NUM_CLASSES": 0,  # with background; 0: as many as the class list says
        "motion_iou_path": "",  # "": computed from the track ids
        "enable_detailed_eval": True,  # report slow, medium and fast objects too
    },
    "TRAIN": {
        "BATCH_IMAGES": 2,
        "WORKERS": 2,  # processes that read images
        "SEED": 0,
        "RESUME": False,
        "begin_epoch": 0,
        "end_epoch": 0,
        "model_prefix": "",
        "CHECKPOINT_MINUTES": 10.0,  # between two checkpoints inside an epoch; each epoch's end has one too
        "OPTIMIZER": "sgd",  # "sgd": the originals' rule; "adamw": for small nets without pre-training
        "lr": 0.0,
        "lr_step": "",  # epochs, fractions allowed, separated by commas
        "lr_factor": 0.1,
        "LR_SCHEDULE": "step",  # "step"; "linear": from the first lr_step in a straight line to 0 at the end
        "warmup": False,
        "warmup_lr": 0.0,
        "warmup_step": 0,
        "momentum": 0.9,
        "wd": 0.0005,
        "CLIP_GRADIENT": 0.0,  # largest norm of an update's gradient; 0: any
        "FLIP": True,
        "SHUFFLE": True,
        "ASPECT_GROUPING": True,
        "ENABLE_OHEM": False,
        "BATCH_ROIS": 128,  # RoIs per image; -1: all proposals and the ground truth
        "BATCH_ROIS_OHEM": 128,
        "FG_FRACTION": 0.25,
        "FG_THRESH": 0.5,
        "BG_THRESH_HI": 0.5,
        "BG_THRESH_LO": 0.0,
        "BBOX_MEANS": [0.0, 0.0, 0.0, 0.0],
        "BBOX_STDS": [0.1, 0.1, 0.2, 0.2],
        "BBOX_WEIGHTS": [1.0, 1.0, 1.0, 1.0],
        "MIN_OFFSET": 0,  # reference frames are drawn from MIN_OFFSET to MAX_OFFSET frames away;
        "MAX_OFFSET": 0,  # both 0: as far as TEST.KEY_FRAME_INTERVAL reaches
        "AGGREGATE_CURRENT": False,  # FGFA: average the current frame too
        "EMBED_AFTER_WARP": True,  # FGFA: embeddings of warped features, not warped embeddings
        "RPN_BATCH_SIZE": 256,
        "RPN_FG_FRACTION": 0.5,
        "RPN_POSITIVE_OVERLAP": 0.7,
        "RPN_NEGATIVE_OVERLAP": 0.3,
        "RPN_CLOBBER_POSITIVES": False,
        "RPN_BBOX_WEIGHTS": [1.0, 1.0, 1.0, 1.0],
        "RPN_NMS_THRESH": 0.7,
        "RPN_PRE_NMS_TOP_N": 12000,
        "RPN_POST_NMS_TOP_N": 2000,
        "RPN_MIN_SIZE": 16,
    },
    "TEST": {
        "BATCH_IMAGES": 1,
        "test_epoch": 0,
        "SCORE_THRESH": -1.0,  # below 0: the method's own, R-FCN and FGFA 1e-3, DFF 1e-4
        "KEY_FRAME_INTERVAL": 0,  # DFF: frames per key frame; FGFA: K of 2K+1 frames; 0: the method's own, 10 and 9
        "CAUSAL": False,  # FGFA: past frames only
        "AGGREGATE_CURRENT": True,
        "EMBED_AFTER_WARP": False,
        "NMS": 0.3,
        "SEQ_NMS": False,  # re-score boxes along tracks, then NMS; TEST.max_per_image does not apply then
        "max_per_image": 300,
        "RPN_NMS_THRESH": 0.7,
        "RPN_PRE_NMS_TOP_N": 6000,
        "RPN_POST_NMS_TOP_N": 300,
        "RPN_MIN_SIZE": 16,
    },
}

# Keys of the originals that have no meaning here, each with the reason. Loading one is not an error.
WITHOUT_MEANING: dict[str, str] = {
    "MXNET_VERSION": "there is no MXNet",
    "symbol": "the method's script and network.DEPTH say which network it is",
    "network.DFF_FEAT_DIM": "network.FEAT_DIM says it",
    "default.kvstore": "there is no MXNet key-value store",
    "dataset.dataset": "dataset.CLASSES says what the classes are",
    "dataset.proposal": "proposals always come from the RPN",
    "TRAIN.CXX_PROPOSAL": "there is one implementation of proposals",
    "TEST.CXX_PROPOSAL": "there is one implementation of proposals",
    "TRAIN.END2END": "training is always end to end",
    "TEST.HAS_RPN": "there is always an RPN",
    "TRAIN.BBOX_NORMALIZATION_PRECOMPUTED": "box targets are always normalised with BBOX_MEANS and BBOX_STDS",
    "TRAIN.BBOX_REGRESSION_THRESH": "only training on stored proposals had a use for it",
    "TRAIN.RPN_POSITIVE_WEIGHT": "RPN_BBOX_WEIGHTS on positive anchors is the rule",
}


class ConfigError(InputError):
    """A configuration that cannot be used; the message names the file or argument, the key and what to do."""


def default_config() -> Config:
    """A fresh copy of the defaults."""
    return EasyDict(copy.deepcopy(_DEFAULTS))


def load_config(
    path: str | os.PathLike | None = None,
    overrides: Sequence[str] = (),
    presets: Sequence[str | os.PathLike] = (),
) -> Config:
    """The defaults, changed by the YAML file at `path`, then by each of `presets`, then by `overrides`.

    presets: YAML files of a few keys that go with any configuration, such as configs/presets/vid_only.yaml.
    overrides: such as `"TRAIN.lr=1e-3"`.
    Raises ConfigError for a missing or unreadable file, an unknown key, a wrong type or a value that cannot work.
    """
    cfg = default_config()
    ignored: list[str] = []
    for file in ([] if path is None else [path]) + list(presets):
        _merge(cfg, _DEFAULTS, _read_yaml(Path(file)), "", str(file), ignored)
    for override in overrides:
        key, sep, text = override.partition("=")
        if not sep:
            raise ConfigError(f"command line: '{override}' is not KEY=VALUE, for example TRAIN.lr=1e-3")
        value: Any = _parse_scalar(text, f"command line: {override}")
        for part in reversed(key.split(".")):
            value = {part: value}
        _merge(cfg, _DEFAULTS, value, "", "command line", ignored)
    if ignored:
        logging.getLogger(__name__).warning("%s: keys without a meaning here, ignored: %s", path, ", ".join(ignored))
    _validate(cfg, "command line" if path is None else str(path))
    return cfg


def to_dict(cfg: Config) -> dict[str, Any]:
    """`cfg` as plain dictionaries and lists, fit for YAML, JSON and checkpoints."""
    if isinstance(cfg, dict):
        return {key: to_dict(value) for key, value in cfg.items()}
    if isinstance(cfg, (list, tuple)):
        return [to_dict(value) for value in cfg]
    return cfg


def _parse_scalar(text: str, where: str) -> Any:
    try:
        return yaml.safe_load(text) if text else ""
    except yaml.YAMLError as error:
        raise ConfigError(f"{where}: not a YAML value ({error})") from error


def _read_yaml(path: Path) -> dict[str, Any]:
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror or error}); give a configuration file") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: not a text file; give a YAML configuration") from error
    try:
        tree = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ConfigError(f"{path}: not valid YAML: {error}") from error
    if tree is None:
        return {}
    if not isinstance(tree, dict):
        raise ConfigError(f"{path}: must hold 'key: value' lines, not a {type(tree).__name__}")
    return tree


def _merge(
    cfg: Config, defaults: dict[str, Any], tree: dict[str, Any], prefix: str, where: str, ignored: list[str]
) -> None:
    """Put the values of `tree` into `cfg`. Types are those of `defaults`: a list in `cfg` may have become empty."""
    for key, value in tree.items():
        name = f"{prefix}{key}"
        if name in WITHOUT_MEANING:
            ignored.append(name)
        elif key not in cfg:
            known = ", ".join(sorted(cfg))
            raise ConfigError(f"{where}: unknown key '{name}'; known here: {known}")
        elif isinstance(cfg[key], dict):
            if not isinstance(value, dict):
                raise ConfigError(f"{where}: '{name}' is a section and needs keys under it, not {value!r}")
            _merge(cfg[key], defaults[key], value, f"{name}.", where, ignored)
        else:
            if name == "SCALES" and isinstance(value, list) and len(value) == 2 and not isinstance(value[0], list):
                value = [value]  # the originals' files give the pair without the outer list
            cfg[key] = _convert(value, defaults[key], name, where)


def _convert(value: Any, default: Any, name: str, where: str) -> Any:
    """`value` as the type of `default`, or ConfigError."""
    if isinstance(default, bool):
        if isinstance(value, bool):
            return value
    elif isinstance(default, float):
        # YAML 1.1 reads 1e-3 (no dot) as text
        if isinstance(value, (int, float, str)) and not isinstance(value, bool):
            try:
                return float(value)
            except ValueError:
                pass
    elif isinstance(default, int):
        if isinstance(value, int) and not isinstance(value, bool):
            return value
    elif isinstance(default, str):
        if value is None:
            return ""
        if isinstance(value, (str, int, float)) and not isinstance(value, bool):
            return str(value)
    elif isinstance(default, list) and isinstance(value, (list, tuple)):
        return [_convert(item, default[0], f"{name}[{i}]", where) for i, item in enumerate(value)]
    raise ConfigError(
        f"{where}: '{name}' wants a value of type {type(default).__name__} like {default!r}, not {value!r}"
    )


def _validate(cfg: Config, where: str) -> None:
    """Raise ConfigError, which names the key, for a value that cannot work."""
    _check_choices(cfg, where)
    _check_numbers(cfg, where)
    _check_what_goes_together(cfg, where)
    _check_lists_in_text(cfg, where)


def _check_choices(cfg: Config, where: str) -> None:
    network, train = cfg.network, cfg.TRAIN
    choices = {
        "network.DEPTH": (network.DEPTH, (18, 34, 50, 101, 152)),
        "network.NORM": (network.NORM, ("frozen", "trained")),
        "TRAIN.OPTIMIZER": (train.OPTIMIZER, ("sgd", "adamw")),
        "TRAIN.LR_SCHEDULE": (train.LR_SCHEDULE, ("step", "linear")),
        "CLASS_AGNOSTIC": (cfg.CLASS_AGNOSTIC, (True,)),
        "network.NORMALIZE_RPN": (network.NORMALIZE_RPN, (True,)),
        "network.RPN_FEAT_STRIDE": (network.RPN_FEAT_STRIDE, (16,)),
        "network.RCNN_FEAT_STRIDE": (network.RCNN_FEAT_STRIDE, (16,)),
    }
    for key, (value, allowed) in choices.items():
        if value not in allowed:
            raise ConfigError(f"{where}: '{key}' must be one of {list(allowed)}, not {value!r}")


def _check_numbers(cfg: Config, where: str) -> None:
    network, train = cfg.network, cfg.TRAIN
    positive = {
        "network.WIDTH": network.WIDTH,
        "network.FLOW_WIDTH": network.FLOW_WIDTH,
        "TRAIN.BATCH_IMAGES": train.BATCH_IMAGES,
        "TEST.BATCH_IMAGES": cfg.TEST.BATCH_IMAGES,
        "default.frequent": cfg.default.frequent,
    }
    for key, value in positive.items():
        if value < (1 if isinstance(value, int) else 1e-3):
            raise ConfigError(f"{where}: '{key}' is too small: {value}")
    not_negative = {
        "TRAIN.WORKERS": train.WORKERS,
        "TRAIN.SEED": train.SEED,
        "TRAIN.begin_epoch": train.begin_epoch,
        "TRAIN.lr": train.lr,
        "TRAIN.wd": train.wd,
        "TRAIN.momentum": train.momentum,
        "TEST.test_epoch": cfg.TEST.test_epoch,
        "TEST.NMS": cfg.TEST.NMS,
    }
    for key, value in not_negative.items():
        if not 0 <= value < 2**32:  # what NumPy takes for a seed; a NaN is not in between either
            raise ConfigError(f"{where}: '{key}' must be 0 or more, and finite, not {value}")
    if cfg.TEST.KEY_FRAME_INTERVAL < 0:
        raise ConfigError(f"{where}: 'TEST.KEY_FRAME_INTERVAL' must be at least 1 (0: the method's own)")


def _check_what_goes_together(cfg: Config, where: str) -> None:
    network, train = cfg.network, cfg.TRAIN
    if network.FEAT_DIM < 2 or network.FEAT_DIM % 2:
        raise ConfigError(f"{where}: 'network.FEAT_DIM' is cut in two halves and must be even, not {network.FEAT_DIM}")
    if network.FGFA_FEAT_DIM < network.FEAT_DIM + 4:
        raise ConfigError(
            f"{where}: 'network.FGFA_FEAT_DIM' {network.FGFA_FEAT_DIM} leaves no channels for the embedding beside the "
            f"{network.FEAT_DIM} of FEAT_DIM; it is their sum"
        )
    if train.MIN_OFFSET > train.MAX_OFFSET:
        raise ConfigError(f"{where}: 'TRAIN.MIN_OFFSET' {train.MIN_OFFSET} is above MAX_OFFSET {train.MAX_OFFSET}")
    anchors = len(network.ANCHOR_RATIOS) * len(network.ANCHOR_SCALES)
    if anchors != network.NUM_ANCHORS:
        raise ConfigError(
            f"{where}: 'network.NUM_ANCHORS' is {network.NUM_ANCHORS}, but ANCHOR_RATIOS x ANCHOR_SCALES give {anchors}"
        )
    if len(cfg.SCALES) != 1 or len(cfg.SCALES[0]) != 2 or min(cfg.SCALES[0]) < 1:
        raise ConfigError(f"{where}: 'SCALES' must be one pair [[short side, longest long side]], not {cfg.SCALES}")


def _check_lists_in_text(cfg: Config, where: str) -> None:
    try:
        lr_steps(cfg)
    except ValueError as error:
        wanted = f'wants epochs such as "1.333", not {cfg.TRAIN.lr_step!r}'
        raise ConfigError(f"{where}: 'TRAIN.lr_step' {wanted}") from error
    for part in cfg.gpus.split(","):
        if part.strip() and not part.strip().isdigit():
            raise ConfigError(f"{where}: 'gpus' wants numbers such as \"0,1,2,3\", not {cfg.gpus!r}")


def lr_steps(cfg: Config) -> list[float]:
    """The epochs of `TRAIN.lr_step`."""
    return [float(part) for part in cfg.TRAIN.lr_step.split(",") if part.strip()]


def batches_per_update(cfg: Config) -> int:
    """How many batches one update sums: the number of entries in `gpus`, at least 1."""
    return max(1, sum(1 for part in cfg.gpus.split(",") if part.strip()))
