"""The aggregation step of FGFA as a module of tensors alone, for export."""

from __future__ import annotations

from torch import Tensor, nn

from fgfa.model import FGFA


class AggregationNetwork(nn.Module):
    """Detects in the average of the features of N frames, by the rule of testing.

    image (1, 3, H, W) of the current frame and maps (1, C', h, w), as `MapNetwork` gave them; images (N, 3, H, W) and
    other_maps (N, C', h, w) of the frames averaged, the current one first if the rule averages it; im_info (1, 3) ->
    boxes (1, R, 4), probabilities (1, R, K) of the current frame. Beyond a video's ends its first or last frame is
    given again.
    """

    def __init__(self, model: FGFA) -> None:
        super().__init__()
        self.model = model

    def forward(
        self, image: Tensor, maps: Tensor, images: Tensor, other_maps: Tensor, im_info: Tensor
    ) -> tuple[Tensor, Tensor]:
        flow, _ = self.model.flow_net(image.expand_as(images), images)  # (N, 2, h, w)
        features, _ = self.model.average(maps, other_maps[None], flow[None], self.model.test_rule)
        return self.model.detector.predict(features, im_info)
