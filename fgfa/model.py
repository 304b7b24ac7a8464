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
from lib.ops import aggregate, flow_warp
from lib.structures import Frame, Inside, TrainingBatch

_PAIRS_ON_CPU = 5  # that go through the flow network together; fewer or more take longer (docs/performance.md)


@dataclass(frozen=True)
class AggregationRule:
    """The options in which the originals' training and testing differ (docs/rules.md, section 1).

    aggregate_current: average the current frame too, warped along the flow to itself like the others, and compare the
    others with its warped embedding; otherwise compare them with its embedding without warping.
    embed_after_warp: compute embeddings from the warped features; otherwise compute them from each frame's own features
    and warp both.
    """

    aggregate_current: bool
    embed_after_warp: bool


@dataclass
class CachedFrame:
    """The data of a frame that is kept while the window covers it.

    frame: the frame, without its image. half: (1, 3, H/2, W/2), its image as the flow network reads it; flow_part: its
    part of the flow network's first layer as the frame that a flow points into (`FlowNetS.other_part`). slot: the index
    of its maps in the clip's pool.
    im_info: (3,), on the model's device.
    """

    frame: Frame
    half: Tensor
    flow_part: Tensor
    slot: int
    im_info: Tensor


class FGFA(nn.Module):
    """Detects in the average of the features of neighbouring frames, warped to the frame and weighted by similarity.

    A `VideoModel`. reach: K, KEY_FRAME_INTERVAL of the originals: in testing the K frames before and the K frames after
    a frame are averaged. causal: average only those before, so that each frame is answered at once.
    known_flow: replaces the learned flow in testing.
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
        """The features (B, C, H/16, W/16) from which the losses of `batch` are computed."""
        samples, together = batch.frames.shape[:2]
        if together < 2 and not self.train_rule.aggregate_current:
            raise ValueError("FGFA trains on a frame and its neighbours, and this batch has no neighbours")
        images = batch.frames.flatten(0, 1)  # (B*T, 3, H, W)
        halves, maps = self.flow_net.halve(images), self._maps(images, self.train_rule)
        halves, maps = (x.unflatten(0, (samples, together)) for x in (halves, maps))  # (B, T, ...)
        first = 0 if self.train_rule.aggregate_current else 1
        others = halves[:, first:]  # (B, N, 3, H/2, W/2)
        currents = halves[:, :1].expand_as(others).flatten(0, 1)
        flow, _ = self.flow_net.between(
            self.flow_net.current_part(currents), self.flow_net.other_part(others.flatten(0, 1))
        )
        flow = flow.unflatten(0, others.shape[:2])  # (B, N, 2, h, w)
        return self.average(maps[:, 0], maps[:, first:], flow, self.train_rule)[0]

    def begin_clip(self, batch_images: int = 1, inside: bool = False) -> FGFAClip:
        """See `VideoModel.begin_clip`. Answers come `reach` frames late, unless causal."""
        return FGFAClip(self, batch_images, inside)

    @torch.no_grad()
    def compute_maps(self, frames: Sequence[Frame]) -> tuple[Tensor, Tensor, Tensor]:
        """Maps (B, C', H/16, W/16), halves (B, 3, H/2, W/2) and im_info (B, 3) of B frames of one size."""
        images, im_info = stack_frames(frames, next(self.parameters()).device)  # (B, 3, H, W), (B, 3)
        return self._maps(images, self.test_rule), self.flow_net.halve(images), im_info

    @torch.no_grad()
    def detect(
        self, neighbourhoods: Sequence[Neighbourhood[CachedFrame]], pool: Tensor, inside: bool = False
    ) -> RawDetections:
        """Boxes and class probabilities in the B frames at the centres of `neighbourhoods`.

        pool: (M, C', H/16, W/16), the maps of all frames that these average, at their slots.
        """
        most = max(len(one.averaged) for one in neighbourhoods)
        shape = (len(neighbourhoods), most)
        flow = torch.zeros(*shape, 2, *pool.shape[2:], device=pool.device)  # (B, N, 2, h, w)
        slots = torch.zeros(shape, dtype=torch.int64)
        counts = torch.zeros(shape)
        for b, one in enumerate(neighbourhoods):
            flow[b, : len(one.averaged)] = self._flow(one)
            slots[b, : len(one.averaged)] = torch.tensor([cached.slot for cached in one.averaged])
            counts[b, : len(one.averaged)] = torch.tensor(one.counts)
        slots, counts = (x.to(pool.device, non_blocking=True) for x in (slots, counts))
        features, weights = self._average_pool(pool, neighbourhoods, slots, flow, counts)
        centres = [one.centre for one in neighbourhoods]
        if inside:
            for b, one in enumerate(neighbourhoods):
                found = slice(len(one.averaged))
                references = [cached.frame.index for cached in one.averaged]
                one.centre.frame.inside = Inside(features[b], references, flow[b, found], weights[b, found])
        im_info = torch.stack([centre.im_info for centre in centres])
        return RawDetections([centre.frame for centre in centres], *self.detector.predict(features, im_info))

    def _flow(self, neighbourhood: Neighbourhood[CachedFrame]) -> Tensor:
        """The flow from a frame to each of the N that are averaged for it: (N, 2, h, w) in cells."""
        centre, averaged = neighbourhood.centre, neighbourhood.averaged
        if self.known_flow is not None:
            return self.known_flow([centre.frame] * len(averaged), [cached.frame for cached in averaged])
        current = self.flow_net.current_part(centre.half)
        parts = [cached.flow_part for cached in averaged]
        most = _PAIRS_ON_CPU if current.is_cpu else len(parts)
        flows = [self.flow_net.between(current, parts[i : i + most])[0] for i in range(0, len(parts), most)]
        return flows[0] if len(flows) == 1 else torch.cat(flows)

    def _average_pool(
        self,
        pool: Tensor,
        neighbourhoods: Sequence[Neighbourhood[CachedFrame]],
        slots: Tensor,
        flow: Tensor,
        counts: Tensor,
    ) -> tuple[Tensor, Tensor]:
        """The averaged features (B, C, h, w) and the weights (B, N, h, w) from the maps in `pool`; by the test's rule.

        slots: (B, N) of the frames averaged. counts: (B, N) how often each counts; 0: there is no such frame.
        """
        rule, channels = self.test_rule, self.features.out_channels
        centres = torch.tensor([one.centre.slot for one in neighbourhoods]).to(pool.device, non_blocking=True)
        if rule.embed_after_warp:
            maps, others = (pool[places].to(flow.dtype) for places in (centres, slots))
            features, weights = self.average(maps, others, flow, rule, counts)
            return features, weights[:, :, 0]
        reference = None if rule.aggregate_current else pool[:, channels:][centres].to(flow.dtype)
        return aggregate(pool, slots, flow, counts.log(), channels, reference)

    def average(
        self, maps: Tensor, other_maps: Tensor, flow: Tensor, rule: AggregationRule, counts: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """The averaged features (B, C, h, w) of B current frames from N frames for each; weights (B, N, 1, h, w).

        maps: (B, C', h, w) of the current frames, as `compute_maps` gives them; other_maps: (B, N, C', h, w) of those
        to average, the current frame first if the rule averages it; flow: (B, N, 2, h, w) from the current frames to
        them, in cells. counts: (B, N) how often each counts, None: once. The readable form of `lib.ops.aggregate`, and
        what training uses.
        """
        frames = other_maps.shape[:2]
        warped = flow_warp(other_maps.flatten(0, 1), flow.flatten(0, 1))  # (B*N, C', h, w)
        features, embeddings = (x.unflatten(0, frames) for x in self._split(warped, rule))  # (B, N, C or E, h, w)
        reference = embeddings[:, 0] if rule.aggregate_current else self._split(maps, rule)[1]  # (B, E, h, w)
        similarities = cosine_similarity(embeddings.to(features.dtype), reference[:, None].to(features.dtype))
        weights = aggregation_weights(similarities, counts)  # (B, N, 1, h, w)
        return (weights * features).sum(dim=1), weights  # (B, C, h, w), (B, N, 1, h, w)

    def _maps(self, images: Tensor, rule: AggregationRule) -> Tensor:
        """The maps to warp: features, followed by the embedding if it is computed before the warp."""
        features = self.features(images)  # (B, C, H/16, W/16)
        return features if rule.embed_after_warp else torch.cat((features, self.embed_net(features)), dim=1)

    def _split(self, maps: Tensor, rule: AggregationRule) -> tuple[Tensor, Tensor]:
        """Features (B, C, h, w) and embedding (B, E, h, w) of `_maps`, warped or not."""
        if rule.embed_after_warp:
            return maps, self.embed_net(maps)
        return maps[:, : self.features.out_channels], maps[:, self.features.out_channels :]


@dataclass
class FGFAClip:
    """FGFA over one clip (a `ClipDetector`). It holds the window's frames and one batch, whatever the clip's length.

    Beyond the ends of the clip, its first or last frame is repeated.
    """

    model: FGFA
    batch_images: int
    inside: bool = False
    waiting: list[Frame] = field(default_factory=list)
    pool: Tensor | None = None  # (slots, C', H/16, W/16): the maps of the frames that are held
    count: int = 0  # frames whose maps were computed

    def __post_init__(self) -> None:
        future = 0 if self.model.causal else self.model.reach
        self.window: Window[CachedFrame] = Window(self.model.reach, future, self.model.test_rule.aggregate_current)

    def add(self, frame: Frame) -> list[RawDetections]:
        self.waiting.append(frame)
        return self._detect(self._ready()) if len(self.waiting) == self.batch_images else []

    def close(self) -> list[RawDetections]:
        return self._detect(self._ready() + self.window.close())

    def _ready(self) -> list[Neighbourhood[CachedFrame]]:
        """Compute the maps of the waiting frames; returns the neighbourhoods whose window is then full."""
        frames, self.waiting = self.waiting, []
        if not frames:
            return []
        maps, halves, im_info = self.model.compute_maps(frames)
        if self.pool is None:
            slots = self.window.past + 1 + self.window.future + self.batch_images
            self.pool = maps.new_empty(slots, *maps.shape[1:]).contiguous(memory_format=torch.channels_last)
        flow_parts = self.model.flow_net.other_part(halves)
        ready = []
        for n, frame in enumerate(frames):
            slot = self.count % len(self.pool)
            self.pool[slot] = maps[n]
            self.count += 1
            cached = CachedFrame(frame.without_image(), halves[n : n + 1], flow_parts[n : n + 1], slot, im_info[n])
            ready.append(self.window.add(cached))
        return [neighbourhood for neighbourhood in ready if neighbourhood is not None]

    def _detect(self, ready: list[Neighbourhood[CachedFrame]]) -> list[RawDetections]:
        batches = (ready[i : i + self.batch_images] for i in range(0, len(ready), self.batch_images))
        return [self.model.detect(batch, self.pool, self.inside) for batch in batches]


def reach(cfg: Config) -> int:
    """K of the 2K+1 frames; the originals' 9 if `cfg` has 0."""
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
