"""From the configuration to the parts: fixed parameters and the rule of post-processing."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
import torch

from dff.model import build_dff
from fgfa.model import build_fgfa
from lib.config import load_config
from lib.models.anchors import make_anchors
from lib.models.build import build_postprocess
from lib.models.postprocess import RawDetections
from rfcn.model import build_rfcn

CONFIGS = Path(__file__).resolve().parents[2] / "configs"
BUILD = {"rfcn": build_rfcn, "dff": build_dff, "fgfa": build_fgfa}


def warnings_of_building(caplog, method: str, *overrides: str) -> list[str]:
    (path,) = (CONFIGS / method).glob("resnet_v1_101*.yaml")
    small = ["network.DEPTH=18", "network.WIDTH=4", "network.FEAT_DIM=8", "network.FGFA_FEAT_DIM=24"]
    with caplog.at_level(logging.WARNING):
        BUILD[method](load_config(path, [*small, "network.FLOW_WIDTH=0.05", *overrides]), 4)
    return [record.getMessage() for record in caplog.records]


@pytest.mark.parametrize("method", BUILD)
def test_the_originals_lists_of_fixed_parameters_give_no_warning(caplog, method):
    assert warnings_of_building(caplog, method) == []


@pytest.mark.parametrize(
    ("entries", "idle"),
    [
        ("[layer1, conv1]", "layer1"),
        ("[features.resnet.conv1, gamma]", "features.resnet.conv1"),
        ("[res9, Conv1, beta]", "res9, Conv1"),
        ("[conv1_weightx]", "conv1_weightx"),
    ],
)
def test_entries_that_fix_nothing_are_named(caplog, entries, idle):
    (message,) = warnings_of_building(caplog, "rfcn", f"network.FIXED_PARAMS={entries}")
    assert f"network.FIXED_PARAMS: no parameter's original name begins with {idle}, so" in message


@pytest.mark.parametrize("ratio", [0.05, 0.051, 0.3, 1, 3.3, 12.9, 19.7, 20])
@pytest.mark.parametrize("scale", [0.5, 0.51, 32, 1000])
def test_anchors_of_every_accepted_shape_are_at_least_a_pixel_wide(ratio, scale):
    network = load_config(overrides=[f"network.ANCHOR_RATIOS=[{ratio}]", f"network.ANCHOR_SCALES=[{scale}]"]).network
    (anchor,) = make_anchors(16, network.ANCHOR_RATIOS, network.ANCHOR_SCALES)
    assert anchor.isfinite().all()
    assert (anchor[2:] - anchor[:2] + 1 >= 1).all()


def detections(cfg, score_threshold=0.5, **options) -> list[int]:
    """How many of 400 boxes that are far from each other are left, of scores 0.0025, 0.005, ..., 1."""
    corner = torch.arange(400)[:, None] * torch.tensor([20.0, 0, 20, 0])
    boxes = corner + torch.tensor([0.0, 0, 9, 9])
    scores = torch.arange(1, 401) / 400
    raw = RawDetections([None], boxes[None], torch.stack((1 - scores, scores), dim=1)[None])
    (found,) = build_postprocess(cfg, score_threshold, **options)(raw)
    return len(found.scores)


@pytest.mark.parametrize(("limit", "left"), [(0, 200), (-1, 200), (-300, 200), (7, 7), (200, 200), (201, 200)])
def test_a_limit_of_0_or_less_is_any_number(limit, left):
    assert detections(load_config(overrides=[f"TEST.max_per_image={limit}"])) == left


def test_the_limit_does_not_apply_before_seq_nms():
    settings = ["TEST.max_per_image=7"]
    assert detections(load_config(overrides=[*settings, "TEST.SEQ_NMS=true"])) == 200
    assert detections(load_config(overrides=settings), raw=True) == 200


def test_the_threshold_is_the_methods_unless_the_configuration_has_one():
    unlimited = ["TEST.max_per_image=0"]
    assert detections(load_config(overrides=unlimited), score_threshold=0.9) == 40
    assert detections(load_config(overrides=[*unlimited, "TEST.SCORE_THRESH=0.75"]), score_threshold=0.9) == 100
    assert detections(load_config(overrides=[*unlimited, "TEST.SCORE_THRESH=0"]), score_threshold=0.9) == 400
