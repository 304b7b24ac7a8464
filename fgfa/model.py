"""Flow-Guided Feature Aggregation: averages the warped features of neighbouring frames (Zhu et al., ICCV 2017)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor, nn

from fgfa.window import Neighbourhood, Window
from lib.config import Config, ConfigError
from lib.models.aggregation import EmbedNet, aggregation_weights, cosine_similarity
from lib.models.build import build_detector, build_features, build_flow_net, fix_parameters
from lib.models.detector import Detector
from lib.models.features import Features
from lib.models.flownet_s import FlowNetS
from lib.models.frame_batches import stack_frames
from lib.models.postprocess import RawDetections
from lib.models.video_model import KnownFlow
from lib.ops import flow_warp
from lib.structures import Frame, Inside, TrainingBatch


@dataclass(frozen=True)
class AggregationRule:
    """What differs between the originals' training and testing (docs/rules.md, section 1).

    aggregate_current: the current frame is averaged too, read along the flow to itself like any other, and what the
    others are compared with is its embedding read in the same way; otherwise its embedding as it is.
    embed_after_warp: embeddings are computed from the warped features; otherwise from each frame's own, and warped
    with them.
    """

    aggregate_current: bool
    embed_after_warp: bool


@dataclass
class CachedFrame:
    """What is kept of a frame while the window covers it.

    frame: which one it is. half: (3, H/2, W/2), its image as the flow network reads it. maps: (C + E, H/16, W/16),
    features and, if it is computed before the warp, the embedding. im_info: (3,), on the model's device.
    """

    frame: Frame
    half: Tensor
    maps: Tensor
    im_info: Tensor


class FGFA(nn.Module):
    """Detects in the average of the features of a frame's neighbours, warped to the frame and weighted by similarity.

    A `VideoModel`. reach: K, KEY_FRAME_INTERVAL of the originals: in testing the K frames before and the K after are
    averaged. causal: only those before, so that each frame is answered at once.
    known_flow: takes the place of the learned flow in testing.
    """

    lr_mult: dict[str, float] = {}

    def __init__(
        self,
        features: Features,
        flow_net: FlowNetS,
        embed_net: EmbedNet,
        detector: Detector,
        reach: int,
        *,
        train_rule: AggregationRule,
        test_rule: AggregationRule,
        causal: bool = False,
        known_flow: KnownFlow | None = None,
    ) -> None:
        super().__init__()
        if reach < 0 or (reach == 0 and not test_rule.aggregate_current):
            raise ValueError(f"FGFA's window must hold a frame to average; a reach of {reach} gives none")
        self.features, self.flow_net, self.embed_net, self.detector = features, flow_net, embed_net, detector
        self.reach, self.causal, self.train_rule, self.test_rule = reach, causal, train_rule, test_rule
        self.known_flow = known_flow

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
        flow = self._flow(halves[:, 0], halves[:, first:])  # (B, T - first, 2, h, w)
        return self.aggregate(maps[:, 0], maps[:, first:], flow, self.train_rule)[0]

    def begin_clip(self, batch_images: int = 1, inside: bool = False) -> FGFAClip:
        """See `VideoModel.begin_clip`. Answers come `reach` frames late, unless causal."""
        return FGFAClip(self, batch_images, inside)

    @torch.no_grad()
    def cache(self, frames: Sequence[Frame]) -> list[CachedFrame]:
        """What the window keeps of B frames of one size."""
        images, im_info = stack_frames(frames, next(self.parameters()).device)  # (B, 3, H, W), (B, 3)
        halves = self.flow_net.halve(images)  # (B, 3, H/2, W/2)
        maps = self._maps(images, self.test_rule).contiguous()  # once here, not for every warp that reads it
        return [CachedFrame(f.without_image(), *part) for f, *part in zip(frames, halves, maps, im_info, strict=True)]

    @torch.no_grad()
    def detect(self, neighbourhood: Neighbourhood[CachedFrame], inside: bool = False) -> RawDetections:
        """Boxes and class probabilities in the frame at the centre of `neighbourhood`."""
        centre, averaged = neighbourhood.centre, neighbourhood.averaged
        if self.known_flow is not None:
            others = [cached.frame for cached in averaged]
            flow = self.known_flow([centre.frame] * len(others), others).to(centre.maps)[None]  # (1, N, 2, h, w)
        else:
            flow = self._flow(centre.half[None], torch.stack([cached.half for cached in averaged])[None])
        features, weights = self.aggregate(
            centre.maps[None],
            torch.stack([cached.maps for cached in averaged])[None],  # (1, N, C', h, w)
            flow,
            self.test_rule,
            torch.tensor(neighbourhood.counts, device=centre.maps.device),
        )  # (1, C, h, w), (1, N, 1, h, w)
        if inside:
            references = [cached.frame.index for cached in averaged]
            centre.frame.inside = Inside(features[0], references, flow[0], weights[0, :, 0])
        return RawDetections([centre.frame], *self.detector.predict(features, centre.im_info[None]))

    def aggregate(
        self, maps: Tensor, other_maps: Tensor, flow: Tensor, rule: AggregationRule, counts: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """The averaged features (B, C, h, w) of B current frames from N frames for each, and the weights (B, N, 1, h,
        w).

        maps: (B, C', h, w) of the current frames, as in `CachedFrame`; other_maps: (B, N, C', h, w) of those to
        average, the current frame first if the rule averages it; flow: (B, N, 2, h, w) from the current frames to them,
        in cells. counts: (N,) how often each counts, None: once.
        """
        frames = other_maps.shape[:2]
        warped = flow_warp(other_maps.flatten(0, 1), flow.flatten(0, 1))  # (B*N, C', h, w)
        features, embeddings = (x.unflatten(0, frames) for x in self._split(warped, rule))  # (B, N, C or E, h, w)
        reference = embeddings[:, 0] if rule.aggregate_current else self._split(maps, rule)[1]  # (B, E, h, w)
        similarities = cosine_similarity(embeddings.to(features.dtype), reference[:, None].to(features.dtype))
        weights = aggregation_weights(similarities, counts)  # (B, N, 1, h, w)
        return (weights * features).sum(dim=1), weights  # (B, C, h, w), (B, N, 1, h, w)

    def _flow(self, half: Tensor, other_halves: Tensor) -> Tensor:
        """The flow from each of B current frames, (B, 3, H/2, W/2), to N frames for each: (B, N, 2, h, w) in cells."""
        halves = half[:, None].expand_as(other_halves).flatten(0, 1)
        flow, _ = self.flow_net.between_halves(halves, other_halves.flatten(0, 1))  # (B*N, 2, h, w)
        return flow.unflatten(0, other_halves.shape[:2])

    def _maps(self, images: Tensor, rule: AggregationRule) -> Tensor:
        """What is warped of each image: features, followed by the embedding if it is computed before the warp."""
        features = self.features(images)  # (B, C, H/16, W/16)
        return features if rule.embed_after_warp else torch.cat((features, self.embed_net(features)), dim=1)

    def _split(self, maps: Tensor, rule: AggregationRule) -> tuple[Tensor, Tensor]:
        """Features (B, C, h, w) and embedding (B, E, h, w) of `_maps`, warped or not."""
        if rule.embed_after_warp:
            return maps, self.embed_net(maps)
        return maps[:, : self.features.out_channels], maps[:, self.features.out_channels :]


@dataclass
class FGFAClip:
    """FGFA over one clip (a `ClipDetector`): holds the window's frames and one batch, whatever the clip's length.

    The first and the last frame stand in for those before and after the clip.
    """

    model: FGFA
    batch_images: int
    inside: bool = False
    waiting: list[Frame] = field(default_factory=list)

    def __post_init__(self) -> None:
        future = 0 if self.model.causal else self.model.reach
        self.window: Window[CachedFrame] = Window(self.model.reach, future, self.model.test_rule.aggregate_current)

    def add(self, frame: Frame) -> list[RawDetections]:
        self.waiting.append(frame)
        return self._batch() if len(self.waiting) == self.batch_images else []

    def close(self) -> list[RawDetections]:
        return self._batch() + [self.model.detect(rest, self.inside) for rest in self.window.close()]

    def _batch(self) -> list[RawDetections]:
        """Compute the features of the waiting frames; answer those whose window is full."""
        frames, self.waiting = self.waiting, []
        ready = [self.window.add(cached) for cached in (self.model.cache(frames) if frames else [])]
        return [self.model.detect(neighbourhood, self.inside) for neighbourhood in ready if neighbourhood is not None]


def reach(cfg: Config) -> int:
    """K of the 2K+1 frames; the originals' 9 where `cfg` does not say."""
    return cfg.TEST.KEY_FRAME_INTERVAL or 9


def build_fgfa(cfg: Config, num_classes: int, known_flow: KnownFlow | None = None) -> FGFA:
    """FGFA as `cfg` describes it, with random weights; `num_classes` counts the background.

    EmbedNet's first layers have a quarter of the embedding's channels. The originals' batch-norm epsilon is FGFA's own.
    """
    embedding = cfg.network.FGFA_FEAT_DIM - cfg.network.FEAT_DIM
    if embedding < 4:
        raise ConfigError(
            f"'network.FGFA_FEAT_DIM' {cfg.network.FGFA_FEAT_DIM} leaves no channels for the embedding beside the "
            f"{cfg.network.FEAT_DIM} of FEAT_DIM; it is their sum"
        )
    model = FGFA(
        build_features(cfg, bn_eps=2e-5),
        build_flow_net(cfg),
        EmbedNet(cfg.network.FEAT_DIM, embedding // 4, embedding),
        build_detector(cfg, num_classes),
        reach(cfg),
        causal=cfg.TEST.CAUSAL,
        train_rule=AggregationRule(cfg.TRAIN.AGGREGATE_CURRENT, cfg.TRAIN.EMBED_AFTER_WARP),
        test_rule=AggregationRule(cfg.TEST.AGGREGATE_CURRENT, cfg.TEST.EMBED_AFTER_WARP),
        known_flow=known_flow,
    )
    return fix_parameters(model, cfg)
