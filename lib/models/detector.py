"""Everything after the shared feature map, the same for R-FCN, DFF and FGFA (docs/rules.md, sections 1 to 3)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from lib import boxes as box_ops
from lib.models.anchors import all_anchors
from lib.models.losses import mean_of, rcnn_losses, rpn_losses
from lib.models.rfcn_head import RFCNHead
from lib.models.rpn import RPN, anchor_probabilities, per_anchor, unnormalise_deltas
from lib.models.targets import AnchorRule, RoIRule, RoITargets, assign_anchors, assign_proposals, ohem
from lib.ops import proposals
from lib.structures import TrainingBatch


@dataclass(frozen=True)
class ProposalRule:
    """Number and selection of the proposals of an image (docs/rules.md, section 2); see `lib.ops.proposals`."""

    pre_nms_top_n: int
    post_nms_top_n: int
    nms_threshold: float
    min_size: float  # original pixels


class Detector(nn.Module):
    """RPN on the first half of the feature channels, R-FCN head on the second.

    anchors: (A, 4), those of one cell. stride: network-input pixels per feature cell.
    ohem_rois: RoIs per image that count in the head's losses; None: all of them.
    The head's deltas are in units of `roi_rule.stds`, in testing as in training: the originals' weights with `_test` in
    their names include that factor and must not be loaded in place of the plain ones. Everything here, convolutions
    included, runs in the module's own dtype, float32, even under autocast.
    """

    def __init__(
        self,
        rpn: RPN,
        head: RFCNHead,
        anchors: Tensor,
        stride: int,
        *,
        train_proposals: ProposalRule,
        test_proposals: ProposalRule,
        anchor_rule: AnchorRule,
        roi_rule: RoIRule,
        ohem_rois: int | None,
    ) -> None:
        super().__init__()
        self.rpn, self.head, self.stride = rpn, head, stride
        self.train_proposals, self.test_proposals = train_proposals, test_proposals
        self.host_anchors = anchors.cpu()  # targets are made on the CPU: fetched anew, they would wait for the device
        self.anchor_rule, self.roi_rule, self.ohem_rois = anchor_rule, roi_rule, ohem_rois
        for name, value in {
            "anchors": anchors,
            "anchor_means": torch.tensor(anchor_rule.means),
            "anchor_stds": torch.tensor(anchor_rule.stds),
            "box_means": torch.tensor(roi_rule.means),
            "box_stds": torch.tensor(roi_rule.stds),
        }.items():
            self.register_buffer(name, value, persistent=False)

    def predict(self, features: Tensor, im_info: Tensor) -> tuple[Tensor, Tensor]:
        """Features (B, C, h, w) and im_info (B, 3) -> boxes (B, R, 4) and class probabilities (B, R, K).

        Boxes are in pixels of the original frames; column 0 of the probabilities is the background.
        """
        with torch.autocast(features.device.type, enabled=False):
            last = features.is_contiguous(memory_format=torch.channels_last)
            halves = features.to(self.anchors.dtype).chunk(2, dim=1)  # (B, C/2, h, w) each
            # In one piece once, not in each of the two convolutions that read them
            rpn_features, head_features = (
                half.contiguous(memory_format=torch.channels_last) if last else half for half in halves
            )
            rois = self.propose(*self.rpn(rpn_features), im_info, self.test_proposals)  # (B*R, 5)
            scores, deltas = self.head(head_features, rois)  # (B*R, K), (B*R, 4)
            deltas = deltas * self.box_stds + self.box_means
            boxes = box_ops.decode(rois[:, 1:], deltas).unflatten(0, (len(features), -1))  # (B, R, 4)
            height, width, scale = im_info.to(boxes)[:, :, None].unbind(1)  # (B, 1) each
            boxes = box_ops.clip(boxes, height, width) / scale[:, :, None]
            return boxes, scores.softmax(dim=1).unflatten(0, (len(features), -1))

    @torch.no_grad()
    def propose(self, scores: Tensor, deltas: Tensor, im_info: Tensor, rule: ProposalRule) -> Tensor:
        """RPN outputs (B, 2A, h, w) and (B, 4A, h, w) -> rois (B * post_nms_top_n, 5), image by image. No gradient."""
        rois, _ = proposals(
            anchor_probabilities(scores),
            unnormalise_deltas(deltas, self.anchor_means, self.anchor_stds),
            im_info,
            self.anchors,
            self.stride,
            rule.pre_nms_top_n,
            rule.post_nms_top_n,
            rule.nms_threshold,
            rule.min_size,
        )
        return rois

    def losses(self, features: Tensor, batch: TrainingBatch, rng: np.random.RandomState) -> dict[str, Tensor]:
        """Losses and metrics of features (B, C, h, w): means over the B images.

        For one image the terms are the originals': the RPN's class loss is the mean over the labelled anchors, its box
        loss a sum divided by RPN_BATCH_SIZE; the head's class loss is the mean over the RoIs that OHEM keeps, its box
        loss a sum divided by BATCH_ROIS_OHEM. Keys: rpn_cls_loss, rpn_bbox_loss, rcnn_cls_loss, rcnn_bbox_loss and the
        originals' metrics.
        """
        with torch.autocast(features.device.type, enabled=False):
            rpn_features, head_features = features.to(self.anchors.dtype).chunk(2, dim=1)  # (B, C/2, h, w) each
            scores, deltas = self.rpn(rpn_features)  # (B, 2A, h, w), (B, 4A, h, w)
            rpn_terms = self._rpn_losses(scores, deltas, batch, rng)
            rois = self.propose(scores, deltas, batch.im_info, self.train_proposals)  # (B*R, 5)
            return {**rpn_terms, **self._rcnn_losses(head_features, rois, batch, rng)}

    def _rpn_losses(
        self, scores: Tensor, deltas: Tensor, batch: TrainingBatch, rng: np.random.RandomState
    ) -> dict[str, Tensor]:
        anchors = all_anchors(self.host_anchors, *scores.shape[2:], self.stride)  # (h*w*A, 4)
        terms = []
        for image, (image_scores, image_deltas) in enumerate(zip(*per_anchor(scores, deltas), strict=True)):
            height, width, _ = batch.im_info[image].tolist()
            targets = assign_anchors(batch.boxes[image], anchors, height, width, self.anchor_rule, rng)
            labels, target_deltas, weights = (
                t.to(scores.device, non_blocking=True) for t in (targets.labels, targets.deltas, targets.weights)
            )
            terms.append(
                rpn_losses(image_scores, image_deltas, labels, target_deltas, weights, self.anchor_rule.batch_size)
            )
        return mean_of(terms)

    def _rcnn_losses(
        self, features: Tensor, rois: Tensor, batch: TrainingBatch, rng: np.random.RandomState
    ) -> dict[str, Tensor]:
        proposals_of = rois[:, 1:].cpu().chunk(len(batch))
        targets = [
            assign_proposals(boxes, batch.boxes[image], batch.labels[image], self.roi_rule, rng)
            for image, boxes in enumerate(proposals_of)
        ]
        sizes = [len(t.rois) for t in targets]
        chosen = torch.cat([t.rois for t in targets])  # (R, 4)
        image_of = torch.repeat_interleave(torch.arange(len(batch)), torch.tensor(sizes))
        chosen = torch.cat((image_of[:, None].to(chosen), chosen), dim=1).to(rois, non_blocking=True)  # (R, 5)
        scores, deltas = self.head(features, chosen)  # (R, K), (R, 4)
        parts = zip(scores.split(sizes), deltas.split(sizes), targets, strict=True)
        return mean_of([self._image_rcnn_losses(*part) for part in parts])

    def _image_rcnn_losses(self, scores: Tensor, deltas: Tensor, targets: RoITargets) -> dict[str, Tensor]:
        labels, target_deltas, weights = (
            t.to(scores.device, non_blocking=True) for t in (targets.labels, targets.deltas, targets.weights)
        )
        batch_size = max(1, len(labels))
        if self.ohem_rois is not None:
            labels, weights = ohem(scores, labels, deltas, target_deltas, weights, self.ohem_rois)
            batch_size = self.ohem_rois
        return rcnn_losses(scores, deltas, labels, target_deltas, weights, batch_size)
