"""Rules for key frames, and for the key frames that a frame's features come from."""

from __future__ import annotations

from dataclasses import dataclass

from lib.config import Config, ConfigError

ORIGINAL_INTERVAL = 10


@dataclass(frozen=True)
class KeyFrameRule:
    """Key frames of a clip, and how features are propagated from them to the other frames.

    interval: frames from one key frame to the next; with flow_limit the largest such number.
    offset: index of the first key frame; 0 is the originals' rule, interval // 2 puts key frames into the middle of
    their segments, which makes answers up to that many frames late.
    both: a frame between two key frames takes features from both, weighted by nearness in time; otherwise from the key
    frame of its own segment, which is the one before it where offset is 0.
    flow_limit: above 0, a frame also becomes a key frame where its flow to the key frame before it is longer than this
    anywhere, in feature cells; then key frames are not known in advance, and offset and both must be off.
    """

    interval: int = ORIGINAL_INTERVAL
    offset: int = 0
    both: bool = False
    by_similarity: bool = False
    flow_limit: float = 0.0

    def __post_init__(self) -> None:
        if self.interval < 1 or not 0 <= self.offset < self.interval:
            raise ValueError(
                f"the key frame interval must be at least 1, and the first key frame within it, not {self.interval} "
                f"and {self.offset}"
            )
        if self.by_similarity and not self.both:
            raise ValueError("by_similarity weighs two key frames, so both must be on")
        if self.flow_limit and (self.offset or self.both):
            raise ValueError("key frames chosen by the flow exclude offset and both: segments are not known in advance")

    def is_key(self, index: int) -> bool:
        """Whether frame `index` of a clip, from 0, is a key frame; only for fixed key frames (flow_limit 0)."""
        return index % self.interval == self.offset

    def key_frames(self, length: int) -> list[int]:
        """The key frames of a clip of `length` frames. A last segment that ends before its key frame has one in its
        middle instead."""
        keys = list(range(self.offset, length, self.interval))
        begin = keys[-1] - self.offset + self.interval if keys else 0
        return keys + ([begin + (length - begin) // 2] if begin < length else [])

    def waits(self, index: int) -> bool:
        """Whether frame `index`, which is no key frame, needs the next key frame."""
        return self.both or (index - self.offset) % self.interval >= self.interval - self.offset

    def shares(self, index: int, before: int, after: int) -> tuple[float, float]:
        """The shares of frame `index`'s features from the key frames before and after it; they sum to 1.

        before, after: the indices of these key frames.
        """
        if self.both:
            share = (index - before) / (after - before)
            return 1.0 - share, share
        return (0.0, 1.0) if self.waits(index) else (1.0, 0.0)

    def training_offsets(self) -> tuple[int, int]:
        """Smallest (negative: before the frame) and largest offset from a frame to its key frames."""
        if self.both:
            return 1 - self.interval, self.interval - 1
        return 1 - self.interval + self.offset, self.offset


def key_frame_rule(cfg: Config) -> KeyFrameRule:
    """The rule that `cfg.TEST` describes; an interval of 0 means the originals' 10. Raises ConfigError."""
    test = cfg.TEST
    interval = test.KEY_FRAME_INTERVAL or ORIGINAL_INTERVAL
    adaptive = test.KEY_FRAME_POLICY == "adaptive"
    middle, by_similarity = test.KEY_FRAME_POSITION == "middle", test.PROPAGATE_FROM == "both_by_similarity"
    both = test.PROPAGATE_FROM == "both" or by_similarity
    if adaptive and (middle or both):
        raise ConfigError(
            "'TEST.KEY_FRAME_POLICY' adaptive goes with KEY_FRAME_POSITION first and PROPAGATE_FROM own: the next key "
            "frame is not known before it comes"
        )
    flow_limit = test.KEY_FRAME_FLOW if adaptive else 0.0
    return KeyFrameRule(interval, interval // 2 if middle else 0, both, by_similarity, flow_limit)
