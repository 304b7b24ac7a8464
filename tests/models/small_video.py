"""A small DFF and a small FGFA, whose shared parts have the weights of `small_rfcn`."""

from __future__ import annotations

import torch

from dff.model import DFF, build_dff
from fgfa.model import FGFA, build_fgfa
from tests.models.small import NUM_CLASSES, let_flow, small_config, small_rfcn, with_video_keys
from tools.parity.original_rules import TESTING, TRAINING


def small_dff(interval: int = 3, *overrides: str) -> DFF:
    """With a flow and a scale map that do something."""
    torch.manual_seed(1)
    model = build_dff(with_video_keys(small_config(*overrides), interval, 0.125), NUM_CLASSES)
    model.load_state_dict(small_rfcn(*overrides).state_dict(), strict=False)
    let_flow(model.flow_net)
    return model


def small_fgfa(reach: int = 2, **options) -> FGFA:
    """With a flow that does something. options: of `FGFA`; its rules are the originals' unless given."""
    torch.manual_seed(1)
    built = build_fgfa(with_video_keys(small_config(), reach, 0.125, 32 + 16), NUM_CLASSES)
    rules = {"train_rule": TRAINING, "test_rule": TESTING} | options
    model = FGFA(built.features, built.flow_net, built.embed_net, built.detector, reach, **rules)
    model.load_state_dict(small_rfcn().state_dict(), strict=False)
    let_flow(model.flow_net)
    with torch.no_grad():  # no position without an embedding: of such a one rounding decides the direction
        torch.nn.init.normal_(model.embed_net.em_conv3.bias)
    return model
