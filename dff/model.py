"""Deep Feature Flow: computes features in key frames and warps them to the frames between (Zhu et al., CVPR 2017)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor, nn

from dff.key_frames import KeyFrameRule, key_frame_rule
from dff.similarity import similarity_weights
from lib.config import Config
from lib.models.build import build_detector, build_features, build_flow_net, fix_parameters
from lib.models.detector import Detector
from lib.models.features import Features
from lib.models.flownet_s import FlowNetS
from lib.models.frame_batches import stack_im_info, stack_images
from lib.models.postprocess import RawDetections
from lib.models.video_model import KnownFlow
from lib.ops import flow_warp, warp_format
from lib.structures import Frame, Inside, TrainingBatch


@dataclass
class KeyFrame:
    """The data of a key frame that is kept for later frames.

    frame: the frame, without its image. index: its position in the clip, from 0. flow_part: its part of the flow
    network's first layer as the frame that a flow points into (`FlowNetS.other_part`). features: (1, C, H/16, W/16).
    embedding: (1, 64, H/16, W/16), `FlowNetS.embedding`, where the rule weighs by similarity.
    """

    frame: Frame
    index: int
    flow_part: Tensor
    features: Tensor
    embedding: Tensor | None = None


Sources = list[tuple[KeyFrame, float]]  # the key frames that a frame's features come from, and their shares
Pairs = list[tuple[int, KeyFrame, float]]  # of M frames and their sources: which frame, key frame, share
Flow = tuple[Tensor, Tensor]  # (M, 2, h, w) in cells, and the scale map (M, C, h, w)


class DFF(nn.Module):
    """Detects in key frames' own features, and in any other frame in features warped from key frames. A `VideoModel`.

    For each cell of a frame, the flow network predicts the corresponding position in the key frame; the key frame's
    features are read there and multiplied by the scale map. Features are always warped from a key frame directly, never
    from frame to frame. rule: which frames are key frames, and which of them a frame's features come from.
    known_flow: replaces the learned flow in testing; the scale map stays the learned one.
    """

    lr_mult = {"Convolution5_scale_bias": 0.0}  # as the originals train

    def __init__(
        self,
        features: Features,
        flow_net: FlowNetS,
        detector: Detector,
        rule: KeyFrameRule,
        known_flow: KnownFlow | None = None,
    ) -> None:
        super().__init__()
        self.features, self.flow_net, self.detector = features, flow_net, detector
        self.rule, self.known_flow = rule, known_flow

    def losses(self, batch: TrainingBatch, rng: np.random.RandomState) -> dict[str, Tensor]:
        """Named loss terms and metrics of a batch of (current, reference) pairs; see `Detector.losses`.

        Features are computed for the reference only. If it is the current frame itself, they are used without warping,
        and the sample does not pass through the flow network. Raises ValueError unless there is one reference per
        sample.
        """
        return self.detector.losses(self.training_features(batch), batch, rng)

    def training_features(self, batch: TrainingBatch) -> Tensor:
        """The features (B, C, H/16, W/16) from which the losses of `batch` are computed."""
        if batch.frames.shape[1] != 2:
            raise ValueError(f"DFF trains on a frame and one reference frame, not {batch.frames.shape[1]} frames")
        currents, references = batch.frames.unbind(dim=1)  # (B, 3, H, W) each
        features = self.features(references)  # (B, C, H/16, W/16)
        moved = torch.nonzero(~batch.same_frame[:, 0])[:, 0].to(features.device, non_blocking=True)  # (M,)
        if len(moved) == 0:
            return features
        warped = flow_warp(features[moved], *self.flow_net(currents[moved], references[moved]))  # (M, C, H/16, W/16)
        return features.to(warped.dtype).index_copy(0, moved, warped)

    def begin_clip(self, batch_images: int = 1, inside: bool = False) -> DFFClip:
        """See `VideoModel.begin_clip`. With the originals' key-frame rule, frames are answered at once or by batch."""
        return DFFClip(self, batch_images, inside)

    @torch.no_grad()
    def key_frame(self, frame: Frame, index: int, images: Tensor | None = None) -> KeyFrame:
        """Compute the features of a key frame.

        index: its position in the clip. images: its image (1, 3, H, W) on the model's device, if it is there already.
        """
        images = self.images([frame]) if images is None else images
        half = self.flow_net.halve(images)
        flow_part = self.flow_net.other_part(half)
        embedding = self.flow_net.embedding(half) if self.rule.by_similarity else None
        features = self.features(images).to(images.dtype)  # the warp is not in reduced precision
        features = features.contiguous(memory_format=warp_format(images.device))  # once, not for every frame
        return KeyFrame(frame.without_image(), index, flow_part, features, embedding)

    @torch.no_grad()
    def flow_to(self, frame: Frame, images: Tensor, key: KeyFrame) -> Flow:
        """The flow from one frame, given with its image (1, 3, H, W), to a key frame, and the scale map."""
        return self._flow([frame], self.flow_net.halve(images), [key])

    def images(self, frames: Sequence[Frame]) -> Tensor:
        """The images (B, 3, H, W) of frames of one size, on the model's device."""
        return stack_images(frames, next(self.parameters()).device)

    @torch.no_grad()
    def detect(
        self, frames: Sequence[Frame], sources: Sequence[Sources], inside: bool = False, flow: Flow | None = None
    ) -> RawDetections:
        """Boxes and class probabilities in B frames of one size.

        sources: for each frame, the key frames that its features come from; a key frame's source is itself. flow: of
        the frames that are not key frames, in order, if it has been computed already.
        """
        moved = [n for n, frame in enumerate(frames) if sources[n][0][0].frame.index != frame.index]
        parts = [None if n in moved else sources[n][0][0].features for n in range(len(frames))]  # (1, C, h, w) each
        if moved:
            arrived = self.propagate([frames[n] for n in moved], [sources[n] for n in moved], inside, flow)
            if len(moved) == len(frames):
                parts = [arrived]
            else:
                for m, n in enumerate(moved):
                    parts[n] = arrived[m : m + 1]
        features = parts[0] if len(parts) == 1 else torch.cat(parts)  # (B, C, h, w)
        for n, frame in enumerate(frames):
            frame.key_frame = n not in moved
            if inside and frame.key_frame:
                frame.inside = Inside(features[n], references=[])
        im_info = stack_im_info(frames, features.device)  # (B, 3)
        return RawDetections(frames, *self.detector.predict(features, im_info))

    def propagate(
        self,
        frames: Sequence[Frame],
        sources: Sequence[Sources],
        inside: bool = False,
        flow: Flow | None = None,
    ) -> Tensor:
        """The features of M frames from key frames: (M, C, H/16, W/16).

        sources, flow: as for `detect`. inside: fill in `Frame.inside`.
        """
        pairs = [(m, key, share) for m, own in enumerate(sources) for key, share in own]
        rows, keys = [m for m, _, _ in pairs], [key for _, key, _ in pairs]
        unblended = all(key is keys[0] and share == 1 for _, key, share in pairs)
        if flow is None or not unblended:
            halves = self.flow_net.halve(self.images(frames))  # (M, 3, H/2, W/2)
        if flow is None:
            flow = self._flow([frames[m] for m in rows], _rows(halves, rows), keys)  # (P, 2, h, w), (P, C, h, w)
        if unblended:
            features = flow_warp(keys[0].features, *flow)
        else:
            features = _blended(pairs, flow, self._weights(pairs, halves, flow[0]), len(frames))
        if inside:
            for m, frame in enumerate(frames):
                own = [p for p, row in enumerate(rows) if row == m]
                references = [keys[p].frame.index for p in own]
                frame.inside = Inside(features[m], references, _rows(flow[0], own), scale=flow[1][own[0]])
        return features

    def _weights(self, pairs: Pairs, halves: Tensor, flow: Tensor) -> Tensor:
        """The weights of P warped maps, (P, 1, 1, 1) or, by similarity, (P, 1, h, w)."""
        shares = torch.tensor([share for _, _, share in pairs])[:, None, None, None]
        shares = shares.to(halves, non_blocking=True)
        if not self.rule.by_similarity:
            return shares
        rows, keys = [m for m, _, _ in pairs], [key.embedding for _, key, _ in pairs]
        return similarity_weights(rows, shares, self.flow_net.embedding(halves), keys, flow)

    def _flow(self, frames: Sequence[Frame], halves: Tensor, keys: Sequence[KeyFrame]) -> Flow:
        """The flow from each of P frames, given with their halves, to the key frame at the same index of `keys`."""
        one = all(key is keys[0] for key in keys)
        others = keys[0].flow_part if one else torch.cat([key.flow_part for key in keys])
        flow, scale = self.flow_net.between(self.flow_net.current_part(halves), others)
        if self.known_flow is not None:
            flow = self.known_flow(frames, [key.frame for key in keys]).to(flow)
        return flow, scale


def _rows(x: Tensor, rows: list[int]) -> Tensor:
    """`x[rows]`; rows that follow each other are not copied, and a GPU is not waited for."""
    first, end = rows[0], rows[0] + len(rows)
    if rows == list(range(first, end)):
        return x[first:end]
    return x[torch.tensor(rows).to(x.device, non_blocking=True)]


def _blended(pairs: Pairs, flow: Flow, weights: Tensor, count: int) -> Tensor:
    """The features (M, C, h, w) of `count` frames: sums of P warped maps, each times its weight."""
    parts: list[list[Tensor]] = [[] for _ in range(count)]
    for key in {id(key): key for _, key, _ in pairs}.values():  # the maps of one key frame are read by many flows
        own = [p for p, (_, other, _) in enumerate(pairs) if other is key]
        warped = flow_warp(key.features, _rows(flow[0], own), _rows(flow[1], own))  # (P', C, h, w)
        for n, p in enumerate(own):
            row, _, share = pairs[p]
            parts[row].append(warped[n : n + 1] if share == 1 else weights[p : p + 1] * warped[n : n + 1])
    return torch.cat([sum(part[1:], part[0]) for part in parts])


@dataclass
class DFFClip:
    """Deep Feature Flow over one clip (a `ClipDetector`).

    Frames wait for the key frame that they need and for their batch: a key frame and the frames after it go through
    the networks together. If the flow decides on key frames, every frame is answered alone and at once.
    """

    model: DFF
    batch_images: int
    inside: bool = False
    key: KeyFrame | None = None  # the latest one
    count: int = 0  # frames taken
    waiting: list[tuple[int, Frame]] = field(default_factory=list)

    def add(self, frame: Frame) -> list[RawDetections]:
        rule, index = self.model.rule, self.count
        self.count += 1
        if rule.flow_limit:
            return self._add_by_flow(frame, index)
        answers: list[RawDetections] = []
        if rule.is_key(index):
            key = self.model.key_frame(frame, index)
            answers = self._answer(after=key)
            self.key = key
        self.waiting.append((index, frame))
        more_can_join = not rule.is_key(self.count) and not rule.waits(self.count)
        if self._have_their_keys() and (len(self.waiting) >= self.batch_images or not more_can_join):
            answers += self._answer()
        return answers

    def _add_by_flow(self, frame: Frame, index: int) -> list[RawDetections]:
        """Detect in a frame that becomes a key frame if its flow to the latest key frame is too long."""
        rule, flow = self.model.rule, None
        images = self.model.images([frame])
        if self.key is not None and index - self.key.index < rule.interval:
            flow = self.model.flow_to(frame, images, self.key)
            if float(flow[0].norm(dim=1).max()) > rule.flow_limit:
                flow = None
        if flow is None:
            self.key = self.model.key_frame(frame, index, images)
        return [self.model.detect([frame], [[(self.key, 1.0)]], self.inside, flow)]

    def close(self) -> list[RawDetections]:
        # If the last segment ends before its key frame, its middle frame becomes a key frame
        rule = self.model.rule
        begin = 0 if self.key is None else self.key.index - rule.offset + rule.interval
        last_segment = [(index, frame) for index, frame in self.waiting if index >= begin]
        if not last_segment:
            return self._answer()
        index, frame = last_segment[len(last_segment) // 2]
        after = self.model.key_frame(frame, index)
        return self._answer(after)

    def _have_their_keys(self) -> bool:
        """Whether the key frames of all waiting frames are available."""
        if self.key is None:
            return False
        return not any(index > self.key.index and self.model.rule.waits(index) for index, _ in self.waiting)

    def _answer(self, after: KeyFrame | None = None) -> list[RawDetections]:
        """Detect in the waiting frames; after: the next key frame, if it is known."""
        waiting, self.waiting = self.waiting, []
        batches = (waiting[i : i + self.batch_images] for i in range(0, len(waiting), self.batch_images))
        return [
            self.model.detect([f for _, f in batch], [self._sources(i, after) for i, _ in batch], self.inside)
            for batch in batches
        ]

    def _sources(self, index: int, after: KeyFrame | None) -> Sources:
        if self.key is None or (after is not None and index >= after.index):
            return [(after, 1.0)]
        if after is None or index <= self.key.index:
            return [(self.key, 1.0)]
        shares = self.model.rule.shares(index, self.key.index, after.index)
        return [(key, share) for key, share in zip((self.key, after), shares, strict=True) if share]


def build_dff(cfg: Config, num_classes: int, known_flow: KnownFlow | None = None) -> DFF:
    """Deep Feature Flow as `cfg` describes it, with random weights; `num_classes` counts the background."""
    features, flow_net = build_features(cfg), build_flow_net(cfg, scale_channels=cfg.network.FEAT_DIM)
    model = DFF(features, flow_net, build_detector(cfg, num_classes), key_frame_rule(cfg), known_flow)
    return fix_parameters(model, cfg)
