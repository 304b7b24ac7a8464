"""layers_*: training targets of anchors and RoIs."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch

from lib.models.anchors import all_anchors, make_anchors
from lib.models.targets import AnchorTargets, assign_anchors, assign_proposals
from tools.parity.original_rules import ANCHOR_RULE, ROI_RULE
from tools.parity.rows import Recording, Tolerance, as_array

_TARGETS = Tolerance(absolute=1e-5)
_SEED = 7  # of the draws in assign_<batch size>
_EVERYTHING = 10**6  # a batch size from which nothing is drawn
_BATCH_SIZES = {"all": _EVERYTHING, "nogt": _EVERYTHING}


def compare_anchor_assignment(recording: Recording) -> None:
    """assign_<case>_*; a number as the case is the batch size."""
    for match in recording.matching(r"assign_(all|nogt|\d+)_label"):
        case = match[1]
        boxes = recording.input("assign_gt")[:, :4] if case != "nogt" else np.zeros((0, 4), np.float32)
        height, width = recording.input("assign_feat_hw").tolist()
        image_height, image_width, _ = recording.input("assign_im_info")[0].tolist()
        anchors = all_anchors(make_anchors(16, [0.5, 1, 2], [8, 16, 32]), height, width, 16)
        rule = replace(ANCHOR_RULE, batch_size=_BATCH_SIZES.get(case) or int(case))
        rng = np.random.RandomState(_SEED)
        targets = assign_anchors(torch.from_numpy(boxes), anchors, image_height, image_width, rule, rng)
        arrays = _as_recorded(targets, height, width)
        for array, tolerance in (("label", Tolerance()), ("bbox_target", _TARGETS), ("bbox_weight", Tolerance())):
            if case != "nogt" or f"assign_{case}_{array}" in recording:
                recording.compare(f"assign_{case}_{array}", arrays[array], tolerance)


def _as_recorded(targets: AnchorTargets, height: int, width: int) -> dict[str, np.ndarray]:
    """Our (row, column, anchor) order -> the originals' label (1, A*h*w) and (1, 4A, h, w) arrays."""
    maps = {"bbox_target": targets.deltas, "bbox_weight": targets.weights}
    return {"label": targets.labels.numpy().reshape(height, width, -1).transpose(2, 0, 1).reshape(1, -1)} | {
        name: value.numpy().reshape(1, height, width, -1).transpose(0, 3, 1, 2) for name, value in maps.items()
    }


def compare_proposal_targets(recording: Recording) -> None:
    """ptarget_*: all proposals and all objects, nothing drawn."""
    if "ptarget_rois" not in recording:
        return
    rois, boxes = (torch.from_numpy(recording.input(f"ptarget_{name}")) for name in ("rois", "gt"))
    recording.compare_with("ptarget_rois", np.zeros(len(rois)), rois[:, 0], note="batch index")
    rng = np.random.RandomState(0)
    targets = assign_proposals(rois[:, 1:], boxes[:, :4], boxes[:, 4].long(), ROI_RULE, rng)
    recording.compare("ptarget_out_rois", in_columns(targets.rois, 5))
    recording.compare("ptarget_out_label", targets.labels)
    recording.compare("ptarget_out_bbox_target", in_columns(targets.deltas, 8), _TARGETS)
    recording.compare("ptarget_out_bbox_weight", in_columns(targets.weights, 8))


def in_columns(values: torch.Tensor, columns: int) -> np.ndarray:
    """`values` (n, 4) as the last of `columns`; the first hold 0, as the originals' background box and batch index."""
    return np.pad(as_array(values), ((0, 0), (columns - 4, 0)))
