"""The operators of namespace `vod`: compiled kernels, and a readable PyTorch reference of each.

Importing this package needs the compiled extension (`lib/ops/dispatch.py` says how to build it).
"""

from lib.ops.aggregate import aggregate, aggregate_reference
from lib.ops.flow_warp import flow_warp, flow_warp_reference, warp_format
from lib.ops.nms import nms, nms_reference
from lib.ops.nms_padded import nms_padded, nms_padded_reference
from lib.ops.proposals import proposals, proposals_reference
from lib.ops.psroi_pool import psroi_pool, psroi_pool_reference
from lib.ops.psroi_vote import psroi_vote, psroi_vote_reference
from lib.ops.quantize import quantize, quantize_reference

__all__ = [
    "aggregate",
    "aggregate_reference",
    "flow_warp",
    "flow_warp_reference",
    "nms",
    "nms_padded",
    "nms_padded_reference",
    "nms_reference",
    "proposals",
    "proposals_reference",
    "psroi_pool",
    "psroi_pool_reference",
    "psroi_vote",
    "psroi_vote_reference",
    "quantize",
    "quantize_reference",
    "warp_format",
]
