"""Key-frame rules: which key frames each frame looks at, against a plain schedule; detections against a plain loop."""

from __future__ import annotations

import itertools

import pytest
import torch

from dff.key_frames import KeyFrameRule, key_frame_rule
from lib.config import ConfigError, load_config
from lib.engine.inference import detect_frames
from lib.ops import flow_warp
from tests.dff.test_similarity import plain_weights
from tests.models.small import POSTPROCESS, assert_same_detections, random_frames
from tests.models.small_video import small_dff

RULES = [
    KeyFrameRule(4),
    KeyFrameRule(4, offset=2),
    KeyFrameRule(4, both=True),
    KeyFrameRule(5, offset=2, both=True),
    KeyFrameRule(4, both=True, by_similarity=True),
    KeyFrameRule(5, offset=2, both=True, by_similarity=True),
    KeyFrameRule(1),
    KeyFrameRule(3, offset=2),
]


def plain_sources(length: int, rule: KeyFrameRule) -> list[dict[int, float]]:
    """Key frame -> share for every frame of a clip, written down segment by segment."""
    keys, owner = [], {}
    for begin in range(0, length, rule.interval):
        segment = range(begin, min(begin + rule.interval, length))
        key = begin + rule.offset if begin + rule.offset < length else segment[len(segment) // 2]
        keys.append(key)
        owner |= dict.fromkeys(segment, key)
    sources = []
    for frame in range(length):
        around = [key for key in keys if key <= frame][-1:] + [key for key in keys if key > frame][:1]
        if frame in keys or not rule.both or len(around) == 1:
            sources.append({frame if frame in keys else owner[frame] if not rule.both else around[0]: 1.0})
        else:
            near = (frame - around[0]) / (around[1] - around[0])
            sources.append({around[0]: 1 - near, around[1]: near})
    return sources


@pytest.mark.parametrize("rule", RULES, ids=str)
@pytest.mark.parametrize(("length", "batch_images"), [(1, 1), (2, 3), (4, 1), (9, 2), (14, 1), (14, 4), (15, 20)])
def test_every_frame_looks_at_the_key_frames_of_the_plain_schedule(rule, length, batch_images):
    model = small_dff()
    model.rule = rule
    frames = random_frames([(64, 64)] * length)
    answers = list(detect_frames(model, frames, POSTPROCESS, batch_images, inside=True))
    wanted = plain_sources(length, rule)
    assert [frame.index for frame, _ in answers] == list(range(length))
    for frame, _ in answers:
        sources = wanted[frame.index]
        assert frame.key_frame == (sources == {frame.index: 1.0})
        assert frame.inside.references == ([] if frame.key_frame else sorted(sources))
    assert rule.key_frames(length) == [frame.index for frame, _ in answers if frame.key_frame]


@pytest.mark.parametrize("rule", RULES, ids=str)
@pytest.mark.parametrize("batch_images", [1, 3])
def test_detections_are_those_of_a_plain_loop(rule, batch_images):
    model, length = small_dff(), 10
    model.rule = rule
    frames = random_frames([(96, 128)] * length)
    expected = []
    with torch.no_grad():
        images = [frame.image[None] for frame in frames]
        for frame, sources in zip(frames, plain_sources(length, rule), strict=True):
            warped, flows = [], []
            for key in sources:
                one, flow = model.features(images[key]), torch.zeros(1, 2, *model.features(images[key]).shape[2:])
                if key != frame.index:
                    flow, scale = model.flow_net(images[frame.index], images[key])
                    one = flow_warp(one, flow, scale)
                warped.append(one)
                flows.append(flow[0])
            weights = [torch.tensor(share) for share in sources.values()]
            if rule.by_similarity:
                embeddings = {
                    i: model.flow_net.embedding(model.flow_net.halve(images[i]))[0] for i in (frame.index, *sources)
                }
                keys = [embeddings[key] for key in sources]
                weights = plain_weights(list(sources.values()), embeddings[frame.index], keys, flows).float()
            features = sum(weight * one for weight, one in zip(weights, warped, strict=True))
            boxes, probabilities = model.detector.predict(features, frame.im_info[None])
            raw = type("Raw", (), {"frames": [frame], "boxes": boxes, "probabilities": probabilities})
            expected += POSTPROCESS(raw)
    found = [found for _, found in detect_frames(model, frames, POSTPROCESS, batch_images)]
    assert sum(map(len, expected)) > 0
    assert_same_detections(found, expected)


@pytest.mark.parametrize("rule", RULES, ids=str)
def test_an_answer_comes_as_soon_as_its_key_frames_have(rule):
    """One frame at a time: a frame is answered when the last key frame that it looks at has been taken."""
    model, length = small_dff(), 14
    model.rule = rule
    clip = model.begin_clip()
    wanted = plain_sources(length, rule)
    answered: set[int] = set()
    for frame in random_frames([(64, 64)] * length):
        answered |= {f.index for raw in clip.add(frame) for f in raw.frames}
        ready = {i for i, sources in enumerate(wanted) if max(i, *sources) <= frame.index}
        # That no regular key frame follows is known only when the clip is over
        known = {i for i in ready if max(wanted[i]) in _regular(rule, length)}
        if rule.both:
            known = {i for i in known if i in wanted[i] or len(wanted[i]) == 2}
        assert known <= answered <= ready


def _regular(rule: KeyFrameRule, length: int) -> set[int]:
    return set(range(rule.offset, length, rule.interval))


@pytest.mark.parametrize("limit", [1e-3, 0.5, 1e6])
def test_a_long_flow_makes_a_key_frame(limit):
    model, length = small_dff(), 9
    model.rule = KeyFrameRule(4, flow_limit=limit)
    frames = random_frames([(64, 64)] * length)
    images = [frame.image[None] for frame in frames]
    keys: list[int] = []
    for index, image in enumerate(images):
        if not keys or index - keys[-1] >= 4:
            keys.append(index)
            continue
        with torch.no_grad():
            flow, _ = model.flow_net(image, images[keys[-1]])
        if max(torch.hypot(*flow[0]).flatten().tolist()) > limit:
            keys.append(index)
    answers = list(detect_frames(model, frames, POSTPROCESS, inside=True))
    assert [frame.index for frame, _ in answers if frame.key_frame] == keys
    if limit == 1e6:
        assert keys == [0, 4, 8]
    if limit == 1e-3:
        assert keys == list(range(length))


def test_flow_of_adaptive_key_frames_is_computed_once(monkeypatch):
    model = small_dff()
    model.rule = KeyFrameRule(4, flow_limit=1e6)
    calls = []
    between = model.flow_net.between
    monkeypatch.setattr(model.flow_net, "between", lambda *parts: calls.append(1) or between(*parts))
    list(detect_frames(model, random_frames([(64, 64)] * 8), POSTPROCESS))
    assert len(calls) == 6  # of 8 frames 2 are key frames


@pytest.mark.parametrize(
    ("overrides", "rule"),
    [
        ([], KeyFrameRule(10)),
        (["TEST.KEY_FRAME_INTERVAL=5", "TEST.KEY_FRAME_POSITION=middle"], KeyFrameRule(5, offset=2)),
        (["TEST.PROPAGATE_FROM=both"], KeyFrameRule(10, both=True)),
        (["TEST.PROPAGATE_FROM=both_by_similarity"], KeyFrameRule(10, both=True, by_similarity=True)),
        (["TEST.KEY_FRAME_POLICY=adaptive", "TEST.KEY_FRAME_FLOW=3"], KeyFrameRule(10, flow_limit=3.0)),
    ],
)
def test_the_configuration_says_which_rule(overrides, rule):
    assert key_frame_rule(load_config(None, overrides)) == rule


@pytest.mark.parametrize(
    "other",
    ["TEST.KEY_FRAME_POSITION=middle", "TEST.PROPAGATE_FROM=both", "TEST.PROPAGATE_FROM=both_by_similarity"],
)
def test_rules_that_cannot_go_together_are_refused(other):
    with pytest.raises(ConfigError, match="KEY_FRAME_POLICY.*adaptive"):
        key_frame_rule(load_config(None, ["TEST.KEY_FRAME_POLICY=adaptive", other]))


@pytest.mark.parametrize("rule", RULES, ids=str)
def test_training_looks_as_far_as_testing(rule):
    lengths = range(1, 40)
    distances = {
        key - frame
        for length in lengths
        for frame, sources in enumerate(plain_sources(length, rule))
        for key in itertools.chain(sources)
        if key in _regular(rule, length)
    }
    first, last = rule.training_offsets()
    assert (first, last) == (min(distances), max(distances))
