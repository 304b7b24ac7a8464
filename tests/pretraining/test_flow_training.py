import math

import numpy as np
import pytest
import torch
from torch import nn

from lib.models.flownet_s import FlowNetS
from lib.pretraining.flow_loader import FlowBatch
from lib.pretraining.flow_training import OBJECT_WEIGHT, FlowTraining, held_out_errors, points_inside

MEANS_BGR = [10.0, 20.0, 30.0]


class Known(nn.Module):
    """Gives flows that are known, and keeps what it was asked about."""

    def __init__(self, flows):
        super().__init__()
        self.flows = flows

    def all_flows(self, images, others):
        self.asked = images, others
        return self.flows

    def forward(self, images, others):
        return self.flows[-1], None


def batch_of_noise(height, width, count=2):
    rng = np.random.default_rng(0)
    h, w = math.ceil(height / 16), math.ceil(width / 16)
    return FlowBatch(
        torch.from_numpy(rng.integers(0, 255, (count, 2, 3, height, width), dtype=np.uint8)),
        torch.from_numpy(rng.normal(0, 2, (count, 2, h, w)).astype(np.float32)),
        torch.from_numpy(rng.random((count, h, w)) < 0.3),
    )


def coarser(values, weights):
    """Weighted means over blocks of 2 x 2, and the blocks' mean weights, where they are cut by the edge too."""
    h, w = (math.ceil(side / 2) for side in values.shape[-2:])
    means, totals = np.zeros((*values.shape[:-2], h, w)), np.zeros((*weights.shape[:-2], h, w))
    for y in range(h):
        for x in range(w):
            block = (..., slice(2 * y, 2 * y + 2), slice(2 * x, 2 * x + 2))
            totals[..., y, x] = weights[block].mean(axis=(-2, -1))
            means[..., y, x] = (values[block] * weights[block]).mean(axis=(-2, -1)) / totals[..., y, x]
    return means, totals


@pytest.mark.parametrize(("height", "width"), [(96, 128), (100, 150)])
def test_loss_is_the_papers_with_objects_weighted(height, width):
    batch = batch_of_noise(height, width)
    rng = np.random.default_rng(1)
    sides = [(math.ceil(height / stride), math.ceil(width / stride)) for stride in (128, 64, 32, 16, 16)]
    flows = [rng.normal(0, 1, (2, 2, *side)).astype(np.float32) for side in sides]
    model = FlowTraining(Known([torch.from_numpy(flow) for flow in flows]), MEANS_BGR)
    losses = model.losses(batch, np.random.RandomState(0))

    target = batch.flow_cells.double().numpy()
    weights = np.where(batch.objects.numpy()[:, None], OBJECT_WEIGHT, 1.0)
    levels = [(target, weights)]
    for _ in range(3):
        levels.append(coarser(*levels[-1]))
    expected, total = 0.0, 0.0
    for flow, level, paper, cells in zip(
        flows, (3, 2, 1, 0, 0), (0.32, 0.08, 0.02, 0.01, 0.005), (1, 4, 16, 64, 256), strict=True
    ):
        at, weight = levels[level]
        error = np.sqrt(((flow - at) ** 2).sum(axis=1))
        expected += paper * cells * (error * weight[:, 0]).sum() / weight.sum()
        total += paper * cells
    assert float(losses["flow_loss"]) == pytest.approx(expected / total, rel=1e-5)
    last = np.sqrt(((flows[-1] - target) ** 2).sum(axis=1)).mean()
    assert float(losses["end_point_error"]) == pytest.approx(last, rel=1e-5)
    assert float(losses["of_zero_flow"]) == pytest.approx(np.sqrt((target**2).sum(axis=1)).mean(), rel=1e-5)


def test_means_are_subtracted_from_red_first_pictures():
    batch = batch_of_noise(32, 32)
    model = FlowTraining(Known([batch.flow_cells]), MEANS_BGR)
    current, reference = model.pictures(batch)
    for found, given in ((current, batch.images[:, 0]), (reference, batch.images[:, 1])):
        np.testing.assert_array_equal(found.numpy(), given.numpy() - np.float32([30, 20, 10]).reshape(3, 1, 1))


def test_means_are_not_among_the_weights():
    assert all(name.startswith("flow_net.") for name in FlowTraining(FlowNetS(0.05), MEANS_BGR).state_dict())


def test_held_out_errors_by_hand():
    target = torch.zeros(1, 2, 2, 3)
    target[0, 0, 0] = torch.tensor([0.4, 1.0, 5.0])  # still; moving; out of the frame
    target[0, 1, 1] = torch.tensor([-1.0, -0.5, 0.0])
    objects = torch.tensor([[[True, True, True], [False, True, False]]])
    batch = FlowBatch(torch.zeros(1, 2, 3, 32, 48, dtype=torch.uint8), target, objects)
    model = FlowTraining(Known([target + torch.tensor([3.0, 4.0]).view(1, 2, 1, 1)]), MEANS_BGR)
    found = held_out_errors(model, [batch, batch], "cpu")
    assert not model.training
    expected = {"all_zero": 7.9 / 6, "moving_zero": 7.5 / 4, "objects_zero": 1.5 / 2}
    assert found == pytest.approx(expected | {"all": 5.0, "moving": 5.0, "objects": 5.0})


def test_pointing_inside():
    flow = torch.zeros(1, 2, 2, 3)
    flow[0, :, 0, 0] = torch.tensor([2.0, 1.0])
    flow[0, :, 0, 1] = torch.tensor([1.5, 0.0])
    flow[0, :, 1, 2] = torch.tensor([0.0, -1.5])
    assert points_inside(flow).tolist() == [[[True, False, True], [True, True, False]]]


def test_training_gets_away_from_zero_flow():
    """Four shifts of noise, learnt by heart."""
    rng = np.random.default_rng(3)
    texture = np.kron(rng.integers(0, 255, (3, 48, 48)), np.ones((4, 4), int)).astype(np.uint8)
    ways = np.array([(1, 0), (-1, 0), (0, 1), (0, -1)])
    here = texture[:, 64:128, 64:128]
    pairs = [(here, texture[:, 64 - 16 * y : 128 - 16 * y, 64 - 16 * x : 128 - 16 * x]) for x, y in ways]
    flow = np.broadcast_to(ways[:, :, None, None], (4, 2, 4, 4)).astype(np.float32)
    batch = FlowBatch(
        torch.from_numpy(np.array(pairs)), torch.from_numpy(flow.copy()), torch.zeros(4, 4, 4, dtype=torch.bool)
    )
    torch.manual_seed(0)
    model = FlowTraining(FlowNetS(0.125), MEANS_BGR)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    for _ in range(60):
        optimizer.zero_grad()
        losses = model.losses(batch, np.random.RandomState(0))
        losses["flow_loss"].backward()
        optimizer.step()
    assert float(losses["of_zero_flow"]) == 1.0
    assert held_out_errors(model, [batch], "cpu")["all"] < 0.5
