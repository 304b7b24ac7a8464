"""Build the parts that all methods share from the configuration, which nothing else in `lib.models` reads."""

from __future__ import annotations

import logging

from torch import nn

from lib.config import Config
from lib.models.anchors import make_anchors
from lib.models.detector import Detector, ProposalRule
from lib.models.features import Features
from lib.models.flownet_s import FlowNetS
from lib.models.mxnet_names import fixed_parameters
from lib.models.postprocess import PostProcess
from lib.models.resnet import ResNet
from lib.models.rfcn_head import RFCNHead
from lib.models.rpn import RPN
from lib.models.targets import AnchorRule, RoIRule

_LOGGER = logging.getLogger(__name__)

_IDLE = ("gamma", "beta")  # in the lists of R-FCN and DFF, where they match nothing (docs/rules.md, section 3)
STRIDE = 16  # network-input pixels per feature cell


def build_features(cfg: Config, bn_eps: float = 1e-5) -> Features:
    """The shared feature extractor that `cfg.network` describes, with random weights. bn_eps: the method's default."""
    network = cfg.network
    resnet = ResNet(network.DEPTH, network.WIDTH, network.NORM, network.BN_EPS or bn_eps, network.STYLE)
    return Features(resnet, network.FEAT_DIM)


def build_flow_net(cfg: Config, scale_channels: int = 0) -> FlowNetS:
    """The flow network that `cfg.network` describes, with random weights; scale_channels > 0 adds a scale map."""
    stds_bgr = cfg.network.PIXEL_STDS
    return FlowNetS(cfg.network.FLOW_WIDTH, scale_channels, pixel_stds=tuple(stds_bgr[::-1]))


def build_detector(cfg: Config, num_classes: int) -> Detector:
    """Everything after the feature map, with random weights; `num_classes` counts the background."""
    network, train = cfg.network, cfg.TRAIN
    half = network.FEAT_DIM // 2
    anchors = make_anchors(STRIDE, network.ANCHOR_RATIOS, network.ANCHOR_SCALES)
    return Detector(
        RPN(half, len(anchors)),
        RFCNHead(half, num_classes, stride=STRIDE),
        anchors,
        STRIDE,
        train_proposals=_proposal_rule(cfg.TRAIN),
        test_proposals=_proposal_rule(cfg.TEST),
        anchor_rule=AnchorRule(
            batch_size=train.RPN_BATCH_SIZE,
            foreground_fraction=train.RPN_FG_FRACTION,
            positive_overlap=train.RPN_POSITIVE_OVERLAP,
            negative_overlap=train.RPN_NEGATIVE_OVERLAP,
            clobber_positives=train.RPN_CLOBBER_POSITIVES,
            weights=tuple(train.RPN_BBOX_WEIGHTS),
            means=tuple(network.ANCHOR_MEANS),
            stds=tuple(network.ANCHOR_STDS),
        ),
        roi_rule=RoIRule(
            rois_per_image=train.BATCH_ROIS,
            foreground_fraction=train.FG_FRACTION,
            foreground_overlap=train.FG_THRESH,
            background_below=train.BG_THRESH_HI,
            background_from=train.BG_THRESH_LO,
            weights=tuple(train.BBOX_WEIGHTS),
            means=tuple(train.BBOX_MEANS),
            stds=tuple(train.BBOX_STDS),
        ),
        ohem_rois=train.BATCH_ROIS_OHEM if train.ENABLE_OHEM else None,
    )


def build_postprocess(cfg: Config, score_threshold: float, raw: bool | None = None) -> PostProcess:
    """The rule that `cfg.TEST` describes; a max_per_image of 0 or less means any number, as in the originals.

    score_threshold: the method's own, where SCORE_THRESH is below 0. raw: keep every box over the threshold, for
    Seq-NMS and the NMS after it; None: as TEST.SEQ_NMS says.
    """
    test = cfg.TEST
    threshold = test.SCORE_THRESH if test.SCORE_THRESH >= 0 else score_threshold
    if test.SEQ_NMS if raw is None else raw:
        return PostProcess(threshold, nms_threshold=None, max_per_image=None)
    return PostProcess(threshold, test.NMS, test.max_per_image if test.max_per_image > 0 else None)


def fix_parameters(model: nn.Module, cfg: Config) -> nn.Module:
    """Fix the parameters that FIXED_PARAMS names; returns `model`. Warns of entries that match nothing."""
    prefixes = cfg.network.FIXED_PARAMS
    fixed = set(fixed_parameters(model, prefixes))
    for name, parameter in model.named_parameters():
        if name in fixed:
            parameter.requires_grad_(False)
    idle = [prefix for prefix in prefixes if prefix not in _IDLE and not fixed_parameters(model, [prefix])]
    if idle:
        _LOGGER.warning(
            "network.FIXED_PARAMS: no parameter's original name begins with %s, so these entries fix nothing",
            ", ".join(idle),
        )
    return model


def _proposal_rule(section: Config) -> ProposalRule:
    """From cfg.TRAIN or cfg.TEST."""
    return ProposalRule(
        section.RPN_PRE_NMS_TOP_N, section.RPN_POST_NMS_TOP_N, section.RPN_NMS_THRESH, section.RPN_MIN_SIZE
    )
