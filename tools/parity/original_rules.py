"""The numbers that the recorded layers and networks of the originals were run with."""

from __future__ import annotations

from fgfa.model import AggregationRule
from lib.models.postprocess import PostProcess
from lib.models.targets import AnchorRule, RoIRule

ANCHOR_RULE = AnchorRule(
    batch_size=256,
    foreground_fraction=0.5,
    positive_overlap=0.7,
    negative_overlap=0.3,
    clobber_positives=False,
    weights=(1.0, 1.0, 1.0, 1.0),
    means=(0.0, 0.0, 0.0, 0.0),
    stds=(0.1, 0.1, 0.4, 0.4),
)
ROI_RULE = RoIRule(  # with OHEM: all proposals and all objects
    rois_per_image=-1,
    foreground_fraction=0.25,
    foreground_overlap=0.5,
    background_below=0.5,
    background_from=0.0,
    weights=(1.0, 1.0, 1.0, 1.0),
    means=(0.0, 0.0, 0.0, 0.0),
    stds=(0.1, 0.1, 0.2, 0.2),
)
POSTPROCESS = PostProcess(score_threshold=1e-3, nms_threshold=0.3, max_per_image=300)
# FGFA
TRAINING = AggregationRule(aggregate_current=False, embed_after_warp=True)
TESTING = AggregationRule(aggregate_current=True, embed_after_warp=False)
