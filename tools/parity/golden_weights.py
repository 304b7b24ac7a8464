"""The networks of the recordings: the originals' configurations, and weights that follow from their names alone."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from zlib import crc32

import numpy as np
import torch
from torch import nn

from dff.key_frames import KeyFrameRule
from dff.model import DFF, build_dff
from fgfa.model import FGFA, build_fgfa
from lib.config import Config, load_config
from lib.models.build import build_detector
from lib.models.detector import Detector
from lib.models.inference_form import prepare_for_inference
from lib.models.mxnet_names import mxnet_names
from rfcn.model import RFCN, build_rfcn
from tools.parity.rows import Recording, Tolerance

_ROOT = Path(__file__).resolve().parents[2]
_CONFIGS = {
    "rfcn": "configs/rfcn/resnet_v1_101_imagenet_vid_rfcn_end2end_ohem.yaml",
    "dff": "configs/dff/resnet_v1_101_flownet_imagenet_vid_rfcn_end2end_ohem.yaml",
    "fgfa": "configs/fgfa/resnet_v1_101_flownet_imagenet_vid_rfcn_end2end_ohem.yaml",
}
_BUILD = {"rfcn": build_rfcn, "dff": build_dff, "fgfa": build_fgfa}
METHODS = tuple(_BUILD)
# The recorded test networks have the deltas' stds in their weights, as the originals' `_test` entries do.
_FOLDED_STDS = "TRAIN.BBOX_STDS=[1.0, 1.0, 1.0, 1.0]"
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


def original_config(method: str, *overrides: str) -> Config:
    """The configuration of a method that has every value of the originals."""
    return load_config(_ROOT / _CONFIGS[method], list(overrides))


@dataclass
class GoldenNetwork:
    """A method's whole network with the rule's weights; `tested` and `trained` share them.

    model: as it trains. test_detector: its detector with the stds folded into its weights.
    device: what it is tested on. optimised: whether it is tested in the form that scripts detect with
    (`prepare_for_inference`), otherwise in the form that it trains in.
    """

    method: str
    seed: int
    model: RFCN | DFF | FGFA
    test_detector: Detector
    device: torch.device = torch.device("cpu")
    optimised: bool = False

    def tested(self, interval: int = 1) -> RFCN | DFF | FGFA:
        """The network as it is tested. interval: frames per key frame of DFF, or K of FGFA's 2K+1 frames."""
        model = self._tested(interval)
        if self.optimised:
            return prepare_for_inference(copy.deepcopy(model).to(self.device))
        return model if self.device.type == "cpu" else copy.deepcopy(model).to(self.device)

    def _tested(self, interval: int) -> RFCN | DFF | FGFA:
        model = self.model
        if self.method == "rfcn":
            return RFCN(model.features, self.test_detector)
        if self.method == "dff":
            return DFF(model.features, model.flow_net, self.test_detector, KeyFrameRule(interval))
        return FGFA(
            model.features,
            model.flow_net,
            model.embed_net,
            self.test_detector,
            interval,
            train_rule=model.train_rule,
            test_rule=model.test_rule,
        )

    @contextmanager
    def trained(self) -> Iterator[RFCN | DFF | FGFA]:
        """The network with gradients for the fixed parameters too, as when recorded; none are left behind."""
        fixed = [parameter for parameter in self.model.parameters() if not parameter.requires_grad]
        self.model.requires_grad_()
        try:
            yield self.model
        finally:
            self.model.zero_grad()
            for parameter in fixed:
                parameter.requires_grad_(False)


def golden_network(method: str, seed: int) -> GoldenNetwork:
    """Build the network of a method at full size; takes seconds and about half a GB."""
    cfg = original_config(method)
    classes = cfg.dataset.NUM_CLASSES
    model = load_golden_weights(_BUILD[method](cfg, classes), seed)
    test_detector = build_detector(original_config(method, _FOLDED_STDS), classes)
    test_detector.load_state_dict(model.detector.state_dict())
    return GoldenNetwork(method, seed, model, test_detector)


def compare_weights(recording: Recording) -> None:
    """weights_check.json, one "array" per parameter: its first values, its sum and the digest of its bytes."""
    for match in recording.matching(r"[^_].*"):
        name = match[0]
        entry = json.loads(recording.input(name).item())
        value = golden_weight(name, tuple(entry["shape"]), entry.get("seed", 20170713))
        digest = sha256(value.astype("<f4").tobytes()).hexdigest()
        recorded = entry["sha256_of_little_endian_float32_bytes"]
        recording.compare_with(name, np.array([digest]), np.array([recorded]), note="SHA-256")
        first, total = np.array(entry["first8"]), np.array([entry["sum_float64"]])
        recording.compare_with(name, value.ravel()[: len(first)].astype(np.float64), first, note="first values")
        roundings = Tolerance(absolute=1e-12 * float(np.abs(value, dtype=np.float64).sum()))
        recording.compare_with(name, value.sum(dtype=np.float64), total, roundings, "sum")
    recording.information(*(match[0] for match in recording.matching(r"_.*")))  # frames, which no rule makes


def compare_shapes(recording: Recording, method: str) -> None:
    """param_shapes_<method>.json, one "array" per parameter: the network has these and no others."""
    with torch.device("meta"):
        model = _BUILD[method](original_config(method), original_config(method).dataset.NUM_CLASSES)
    state = model.state_dict()
    ours = {name: tuple(state[torch_name].shape) for name, torch_name in mxnet_names(model).items()}
    for match in recording.matching(r".*"):
        name = match[0]
        if name in ours:
            recording.compare(name, np.array(ours.pop(name)))
        else:
            recording.fail(name, "the network has no such parameter")
    for name in ours:
        recording.fail(name, "the recording has no such parameter")
