"""A tiny model and a tiny loader with everything that a resumed run could get wrong."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lib.config import load_config


@dataclass
class Points:
    """inputs (n, 4) float32, targets (n, 2) float32, extra: tensors that only travel along."""

    inputs: Tensor
    targets: Tensor
    extra: list[Tensor]

    def __len__(self) -> int:
        return len(self.inputs)

    def to(self, device) -> Points:
        return replace(self, inputs=self.inputs.to(device), targets=self.targets.to(device))


class TinyModel(nn.Module):
    """Batch statistics (buffers), dropout (torch's generator), noise from `rng`: all must survive a resume."""

    def __init__(self, dropout: float = 0.2) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.first = nn.Linear(4, 8)
        self.bn = nn.BatchNorm1d(8)
        self.drop = nn.Dropout(dropout)
        self.second = nn.Linear(8, 2)

    def losses(self, batch: Points, rng: np.random.RandomState) -> dict[str, Tensor]:
        hidden = self.drop(F.relu(self.bn(self.first(batch.inputs))))
        noise = torch.from_numpy(rng.standard_normal(batch.targets.shape).astype(np.float32))
        error = self.second(hidden) - batch.targets - 0.1 * noise
        return {"square_loss": (error**2).mean(), "l1_loss": error.abs().mean(), "largest": error.detach().abs().max()}


def points_of(seed: int, epoch: int, batch: int, size: int = 4) -> Points:
    rs = np.random.RandomState([seed, epoch, batch])
    inputs = torch.from_numpy(rs.standard_normal((size, 4)).astype(np.float32))
    targets = torch.stack([inputs.sum(1), inputs[:, 0] * 2], 1)
    return Points(inputs, targets, [torch.tensor([batch])])


def loader_of(epoch: int, start_batch: int):
    """The six batches of an epoch; four samples each."""
    return (points_of(0, epoch, batch) for batch in range(start_batch, 6))


NUM_SAMPLES = 24


def config(*overrides: str):
    texts = [
        "TRAIN.BATCH_IMAGES=4",
        "TRAIN.BATCHES_PER_UPDATE=1",
        "TRAIN.lr=0.05",
        "TRAIN.lr_step='1.5'",
        "TRAIN.end_epoch=2",
        "TRAIN.model_prefix=tiny",
        "TRAIN.SEED=3",
        "network.FIXED_PARAMS=[]",
        "default.frequent=2",
        *overrides,
    ]
    return load_config(None, texts)
