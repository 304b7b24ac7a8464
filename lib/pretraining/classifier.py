"""A backbone with global average pooling and a linear classifier, for pre-training on labelled images."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lib.pretraining.crops import LabelledImages


class Classifier(nn.Module):
    """images (B, 3, H, W) -> class scores before the softmax (B, num_classes).

    backbone: a map (B, out_channels, h, w) of the images, with the attribute `out_channels`.
    """

    def __init__(self, backbone: nn.Module, num_classes: int) -> None:
        super().__init__()
        self.backbone = backbone
        self.classifier = nn.Linear(backbone.out_channels, num_classes)
        nn.init.normal_(self.classifier.weight, std=0.01)
        nn.init.zeros_(self.classifier.bias)

    def forward(self, images: Tensor) -> Tensor:
        features = self.backbone(images)  # (B, C, h, w)
        return self.classifier(features.mean(dim=(2, 3)))  # (B, num_classes)

    def losses(self, batch: LabelledImages, rng: np.random.RandomState) -> dict[str, Tensor]:
        """Cross-entropy with 0.1 of the label's weight spread over all classes, and the accuracy; `rng` is not used."""
        scores = self(batch.images)
        return {
            "class_loss": F.cross_entropy(scores, batch.labels, label_smoothing=0.1),
            "accuracy": (scores.argmax(1) == batch.labels).float().mean(),
        }


@torch.no_grad()
def accuracy(model: Classifier, batches: Iterable[LabelledImages], device: torch.device | str) -> float:
    """Share of the images whose highest score is their label's. `model` is left in evaluation mode."""
    model.eval()
    right = total = 0
    for batch in batches:
        right += int((model(batch.images.to(device)).argmax(1).cpu() == batch.labels).sum())
        total += len(batch)
    return right / max(1, total)
