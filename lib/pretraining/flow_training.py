"""Pre-training of a flow network on pairs with known flow (Dosovitskiy et al. 2015), and its end-point errors."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lib.pretraining.flow_loader import FlowBatch

# The paper weights sums over all cells by 0.32, 0.08, 0.02, 0.01, 0.005 from coarse to fine. Each level has four times
# as many cells as the one before it, so means get these weights. The finest is pooled to stride 16 here.
_LEVEL_WEIGHTS = (1 / 9, 1 / 9, 1 / 9, 2 / 9, 4 / 9)
OBJECT_WEIGHT = 4.0  # of a cell that shows an object: backgrounds, large and all of one motion, are learnt soon enough
MOVING = 0.5  # cells: half of one, from where reading at the same place reads something else


class FlowTraining(nn.Module):
    """What trains `flow_net`.

    flow_net: has `all_flows(images, others)`, the flows (B, 2, h, w) in cells of stride 16, coarse to fine, each side
    half as long as that of the next or equal to it. means_bgr: of the channels, subtracted from the images.
    """

    def __init__(self, flow_net: nn.Module, means_bgr: Sequence[float]) -> None:
        super().__init__()
        self.flow_net = flow_net
        self.register_buffer("means", torch.tensor(means_bgr[::-1]).view(1, 3, 1, 1), persistent=False)

    def losses(self, batch: FlowBatch, rng: np.random.RandomState) -> dict[str, Tensor]:
        """The weighted end-point error of all levels; as metrics that of the last one alone, and of zero flow.

        Cells that show an object count OBJECT_WEIGHT times. A coarser level's target is the mean, so weighted, of the
        cells that it stands for. `rng` is not used.
        """
        flows = self.flow_net.all_flows(*self.pictures(batch))
        target = batch.flow_cells
        weight = 1 + (OBJECT_WEIGHT - 1) * batch.objects[:, None].to(target.dtype)  # (B, 1, h, w)
        loss = target.new_zeros(())
        for share, flow in zip(reversed(_LEVEL_WEIGHTS), reversed(flows), strict=True):  # fine to coarse
            if flow.shape[2:] != target.shape[2:]:
                pooled = F.avg_pool2d(torch.cat((weight * target, weight), dim=1), 2, stride=2, ceil_mode=True)
                target, weight = pooled[:, :2] / pooled[:, 2:], pooled[:, 2:]  # (B, 2 and 1, ceil(h/2), ceil(w/2))
            loss = loss + share * (end_point_error(flow, target) * weight[:, 0]).sum() / weight.sum()
        return {
            "flow_loss": loss,
            "end_point_error": end_point_error(flows[-1].detach(), batch.flow_cells).mean(),
            "of_zero_flow": batch.flow_cells.norm(dim=1).mean(),
        }

    def pictures(self, batch: FlowBatch) -> tuple[Tensor, Tensor]:
        """The current and the reference frames as networks read them, (B, 3, H, W) float32 each."""
        current, reference = (images.float() - self.means for images in batch.images.unbind(1))
        return current, reference

    @torch.no_grad()
    def flow(self, batch: FlowBatch) -> Tensor:
        """The flow found in `batch`, (B, 2, h, w) in cells."""
        return self.flow_net(*self.pictures(batch))[0]


def end_point_error(flow: Tensor, target: Tensor) -> Tensor:
    """(B, 2, h, w) twice -> (B, h, w): the distance between where the two point to."""
    return torch.linalg.vector_norm(flow - target, dim=1)


def points_inside(flow: Tensor) -> Tensor:
    """(B, 2, h, w) -> (B, h, w) bool: whether it points to a cell of the map."""
    height, width = flow.shape[2:]
    x = torch.arange(width, device=flow.device) + flow[:, 0]
    y = torch.arange(height, device=flow.device)[:, None] + flow[:, 1]
    return (x >= 0) & (x <= width - 1) & (y >= 0) & (y <= height - 1)


def held_out_errors(model: FlowTraining, batches: Iterable[FlowBatch], device: torch.device | str) -> dict[str, float]:
    """Mean end-point errors in cells of `model`, and of zero flow under the name with `_zero` behind it.

    all: over all cells. moving: over those whose true flow is at least half a cell long. objects: over those of them
    that show an object and point into the reference frame. NaN where there is no such cell.
    `model` is left in evaluation mode.
    """
    model.eval()
    found, zero, objects = [], [], []
    for batch in batches:
        batch = batch.to(device)
        found.append(end_point_error(model.flow(batch), batch.flow_cells).flatten().cpu())
        zero.append(batch.flow_cells.norm(dim=1).flatten().cpu())
        objects.append((batch.objects & points_inside(batch.flow_cells)).flatten().cpu())
    error, length = torch.cat(found), torch.cat(zero)
    moving = length >= MOVING
    cells = {"all": torch.ones_like(moving), "moving": moving, "objects": moving & torch.cat(objects)}
    means = {}
    for name, counted in cells.items():
        means |= {name: float(error[counted].mean()), f"{name}_zero": float(length[counted].mean())}
    return means
