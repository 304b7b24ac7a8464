"""Flow-Guided Feature Aggregation: each frame sees by its neighbours' features too (Zhu et al., ICCV 2017)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from fgfa.window import Neighbourhood, Window
from lib.config import Config
from lib.models.aggregation import EmbedNet, aggregation_weights, cosine_similarity
from lib.models.build import build_detector, build_features, build_flow_net, fix_parameters
from lib.models.detector import Detector
from lib.models.features import Features
from lib.models.flownet_s import FlowNetS
from lib.models.frame_batches import begins_clip, equal_sized, stack_images
from lib.models.postprocess import PostProcess
from lib.ops import flow_warp
from lib.structures import Detections, Frame, TrainingBatch


@dataclass(frozen=True)
class AggregationRule:
    """What differs between the originals' training and testing (docs/rules.md, section 1).

    aggregate_current: the current frame is averaged too, read along the flow to itself like any other, and what the
    others are compared with is its embedding read in the same way; otherwise its embedding as it is.
    embed_after_warp: embeddings are made of the warped features; otherwise of each frame's own, and warped with them.
    """

    aggregate_current: bool
    embed_after_warp: bool


ORIGINAL_TRAINING = AggregationRule(aggregate_current=False, embed_after_warp=True)
ORIGINAL_TESTING = AggregationRule(aggregate_current=True, embed_after_warp=False)


@dataclass
class CachedFrame:
    """What is kept of a frame while the window covers it.

    half: (3, H/2, W/2), as the flow network looks at it. maps: (C + E, H/16, W/16), features and, if it is made before
    the warp, the embedding. im_info: (3,).
    """

    half: Tensor
    maps: Tensor
    im_info: Tensor


class FGFA(nn.Module):
    """Detects in the average of a frame's neighbours' features, moved to the frame and weighed by their likeness to it.

    reach: K, KEY_FRAME_INTERVAL of the originals: in testing the K frames before and the K after are averaged.
    causal: only those before, so that each frame is answered at once.
    """

    def __init__(
        self,
        features: Features,
        flow_net: FlowNetS,
        embed_net: EmbedNet,
        detector: Detector,
        reach: int = 9,
        *,
        causal: bool = False,
        train_rule: AggregationRule = ORIGINAL_TRAINING,
        test_rule: AggregationRule = ORIGINAL_TESTING,
    ) -> None:
        super().__init__()
        if reach < 0 or (reach == 0 and not test_rule.aggregate_current):
            raise ValueError(f"FGFA's window must hold a frame to average; a reach of {reach} gives none")
        self.features, self.flow_net, self.embed_net, self.detector = features, flow_net, embed_net, detector
        self.reach, self.causal, self.train_rule, self.test_rule = reach, causal, train_rule, test_rule

    def losses(self, batch: TrainingBatch, rng: np.random.RandomState) -> dict[str, Tensor]:
        """Named loss terms and metrics of a batch of current frames with their neighbours; see `Detector.losses`.

        Raises ValueError for a batch that leaves nothing to average.
        """
        return self.detector.losses(self.training_features(batch), batch, rng)

    def training_features(self, batch: TrainingBatch) -> Tensor:
        """The map (B, C, H/16, W/16) that the losses of `batch` are about."""
        samples, together = batch.frames.shape[:2]
        if together < 2 and not self.train_rule.aggregate_current:
            raise ValueError("FGFA trains on a frame and its neighbours, and this batch has no neighbours")
        images = batch.frames.flatten(0, 1)  # (B*T, 3, H, W)
        halves, maps = self.flow_net.halve(images), self._maps(images, self.train_rule)
        halves, maps = (x.unflatten(0, (samples, together)) for x in (halves, maps))  # (B, T, ...)
        first = 0 if self.train_rule.aggregate_current else 1
        return self.aggregate(halves[:, 0], maps[:, 0], halves[:, first:], maps[:, first:], self.train_rule)

    def aggregate(
        self,
        half: Tensor,
        maps: Tensor,
        other_halves: Tensor,
        other_maps: Tensor,
        rule: AggregationRule,
        counts: Tensor | None = None,
    ) -> Tensor:
        """The averaged features (B, C, h, w) of B current frames, from N frames for each.

        half: (B, 3, H/2, W/2) and maps: (B, C', h, w) of the current frames, as in `CachedFrame`; other_halves and
        other_maps: (B, N, ...) of those to average, the current frame first if the rule averages it. counts: (N,) how
        often each counts, None: once.
        """
        frames = other_maps.shape[:2]
        flow, _ = self.flow_net.between_halves(
            half[:, None].expand_as(other_halves).flatten(0, 1), other_halves.flatten(0, 1)
        )  # (B*N, 2, h, w)
        warped = flow_warp(other_maps.flatten(0, 1), flow)  # (B*N, C', h, w)
        features, embeddings = (x.unflatten(0, frames) for x in self._split(warped, rule))  # (B, N, C or E, h, w)
        reference = embeddings[:, 0] if rule.aggregate_current else self._split(maps, rule)[1]  # (B, E, h, w)
        similarities = cosine_similarity(embeddings.to(features.dtype), reference[:, None].to(features.dtype))
        weights = aggregation_weights(similarities, counts)  # (B, N, 1, h, w)
        return (weights * features).sum(dim=1)  # (B, C, h, w)

    def detect(self, frames: Iterable[Frame], postprocess: PostProcess, batch_images: int = 1) -> Iterator[Detections]:
        """One `Detections` per frame, in order, in original pixels; answers come K frames late, unless causal.

        The first and the last frame of a video stand in for those before and after it. Features of up to
        `batch_images` consecutive frames are computed together; the detections are the same. Besides those, only the
        window's frames are held, whatever the video's length. Another frame size begins a new video.
        """
        future = 0 if self.causal else self.reach
        window: Window[CachedFrame] = Window(self.reach, future, self.test_rule.aggregate_current)
        previous = None
        for batch in equal_sized(frames, batch_images):
            for frame, cached in zip(batch, self._cache(batch), strict=True):
                if begins_clip(frame, previous):
                    for neighbourhood in window.close():
                        yield self._detect(neighbourhood, postprocess)
                previous = frame
                neighbourhood = window.add(cached)
                if neighbourhood is not None:
                    yield self._detect(neighbourhood, postprocess)
        for neighbourhood in window.close():
            yield self._detect(neighbourhood, postprocess)

    @torch.no_grad()
    def _cache(self, batch: list[Frame]) -> list[CachedFrame]:
        images = stack_images(batch, next(self.parameters()).device)  # (B, 3, H, W)
        halves = self.flow_net.halve(images)  # (B, 3, H/2, W/2)
        maps = self._maps(images, self.test_rule).contiguous()  # once here, not for every warp that reads it
        parts = zip(halves, maps, (frame.im_info for frame in batch), strict=True)
        return [CachedFrame(*part) for part in parts]

    @torch.no_grad()
    def _detect(self, neighbourhood: Neighbourhood[CachedFrame], postprocess: PostProcess) -> Detections:
        centre, averaged = neighbourhood.centre, neighbourhood.averaged
        features = self.aggregate(
            centre.half[None],
            centre.maps[None],
            torch.stack([frame.half for frame in averaged])[None],  # (1, N, 3, H/2, W/2)
            torch.stack([frame.maps for frame in averaged])[None],  # (1, N, C', H/16, W/16)
            self.test_rule,
            torch.tensor(neighbourhood.counts, device=centre.maps.device),
        )
        (raw,) = self.detector.predict(features, centre.im_info[None])
        return postprocess(raw)

    def _maps(self, images: Tensor, rule: AggregationRule) -> Tensor:
        """What is warped of each image: features, followed by the embedding if it is made before the warp."""
        features = self.features(images)  # (B, C, H/16, W/16)
        return features if rule.embed_after_warp else torch.cat((features, self.embed_net(features)), dim=1)

    def _split(self, maps: Tensor, rule: AggregationRule) -> tuple[Tensor, Tensor]:
        """Features (B, C, h, w) and embedding (B, E, h, w) of `_maps`, warped or not."""
        if rule.embed_after_warp:
            return maps, self.embed_net(maps)
        return maps[:, : self.features.out_channels], maps[:, self.features.out_channels :]


def reach(cfg: Config) -> int:
    """K of the 2K+1 frames; the originals' 9 where `cfg` does not say."""
    return cfg.TEST.KEY_FRAME_INTERVAL or 9


def build_fgfa(cfg: Config, num_classes: int) -> FGFA:
    """FGFA as `cfg` describes it, with random weights; `num_classes` counts the background.

    EmbedNet's first layers have a quarter of the embedding's channels. The originals' batch-norm epsilon is FGFA's own.
    """
    embedding = cfg.network.FGFA_FEAT_DIM - cfg.network.FEAT_DIM
    model = FGFA(
        build_features(cfg, bn_eps=2e-5),
        build_flow_net(cfg),
        EmbedNet(cfg.network.FEAT_DIM, embedding // 4, embedding),
        build_detector(cfg, num_classes),
        reach(cfg),
        causal=cfg.TEST.CAUSAL,
        train_rule=AggregationRule(cfg.TRAIN.AGGREGATE_CURRENT, cfg.TRAIN.EMBED_AFTER_WARP),
        test_rule=AggregationRule(cfg.TEST.AGGREGATE_CURRENT, cfg.TEST.EMBED_AFTER_WARP),
    )
    return fix_parameters(model, cfg)
