"""FGFA: its own promises, over small networks."""

from __future__ import annotations

import copy
import weakref
from dataclasses import replace
from itertools import product

import numpy as np
import pytest
import torch

import fgfa.model as fgfa_module
from fgfa.model import FGFA, AggregationRule, CachedFrame, build_fgfa
from lib.engine.inference import detect_frames
from lib.models.inference_form import prepare_for_inference
from lib.models.postprocess import RawDetections
from lib.ops import flow_warp
from lib.structures import Frame, TrainingBatch
from tests.models.small import (
    EVERY_BOX,
    NUM_CLASSES,
    POSTPROCESS,
    assert_same_detections,
    detect,
    random_batch,
    random_frames,
    small_config,
    small_rfcn,
    with_video_keys,
)
from tests.models.small_video import small_fgfa
from tools.parity.original_rules import TESTING, TRAINING


def _aggregated(model: FGFA, frames: list[Frame], monkeypatch, batch_images: int = 1) -> list[torch.Tensor]:
    """The feature maps (C, h, w) that the frames are detected in."""
    with monkeypatch.context() as patch:
        patch.setattr(model.detector, "predict", lambda features, im_info: (features, im_info))
        return detect(model, frames, lambda raw: list(raw.boxes), batch_images)


def _training_features(model: FGFA, frames: list[Frame]) -> torch.Tensor:
    """The feature map of frames[0] as it trains, with the others for neighbours: (C, h, w)."""
    images = torch.stack([frame.image for frame in frames])[None]
    with torch.no_grad():
        return model.training_features(
            TrainingBatch(images, torch.zeros(1, 3), [], [], torch.zeros(1, len(frames) - 1, dtype=torch.bool))
        )[0]


RULES = [AggregationRule(*flags) for flags in product((True, False), repeat=2)]


@pytest.mark.parametrize("rule", RULES, ids=str)
def test_training_and_testing_are_one_graph_under_one_rule(rule, monkeypatch):
    """A window of three frames, and a video of two whose ends are repeated."""
    model = small_fgfa(1, train_rule=rule, test_rule=rule)
    a, b, c = random_frames([(96, 128)] * 3)
    torch.testing.assert_close(
        _aggregated(model, [a, b, c], monkeypatch)[1], _training_features(model, [b, a, c]), atol=1e-5, rtol=1e-5
    )
    torch.testing.assert_close(
        _aggregated(model, [a, b], monkeypatch)[0], _training_features(model, [a, a, b]), atol=1e-5, rtol=1e-5
    )


def test_rules_make_a_difference(monkeypatch):
    frames = random_frames([(96, 128)] * 3)
    maps = [_aggregated(small_fgfa(1, test_rule=rule), frames, monkeypatch)[1] for rule in RULES]
    assert all(not torch.allclose(maps[i], maps[j], atol=1e-4) for i in range(4) for j in range(i))


@pytest.mark.parametrize("rule", RULES, ids=str)
def test_every_rule_in_bfloat16(rule, monkeypatch):
    """Every rule adds up in float32, so only the maps are rounded."""
    frames, model = random_frames([(96, 128)] * 3), small_fgfa(1, test_rule=rule).eval()
    expected = _aggregated(prepare_for_inference(copy.deepcopy(model)), frames, monkeypatch)
    found = _aggregated(prepare_for_inference(model, torch.bfloat16), frames, monkeypatch)
    for own, other in zip(found, expected, strict=True):
        assert own.dtype == torch.float32
        assert 0 < (own - other).abs().max() < 0.05 * other.abs().max()


def test_the_rules_are_the_originals_unless_said_otherwise():
    model = build_fgfa(with_video_keys(small_config(), 4, 0.125, 48), NUM_CLASSES)
    assert (model.train_rule, model.test_rule) == (TRAINING, TESTING)
    assert (model.reach, model.causal) == (4, False)
    cfg = with_video_keys(small_config(), 4, 0.25, 48)
    cfg.TEST.CAUSAL = cfg.TRAIN.AGGREGATE_CURRENT = cfg.TEST.EMBED_AFTER_WARP = True
    model = build_fgfa(cfg, NUM_CLASSES)
    assert (model.train_rule, model.test_rule) == (AggregationRule(True, True), AggregationRule(True, True))
    assert model.causal
    assert model.flow_net.flow_conv1.out_channels == 16
    assert [conv.out_channels for conv in model.embed_net.children()] == [4, 4, 16]


@pytest.mark.parametrize("reach", [0, 2])
def test_one_frame_is_rfcn_along_its_own_flow(reach):
    model, plain = small_fgfa(reach), small_rfcn()
    (frame,) = random_frames([(96, 128)])
    with torch.no_grad():
        features = plain.features(frame.image[None])
        flow, _ = model.flow_net(frame.image[None], frame.image[None])
        raw = RawDetections([frame], *plain.detector.predict(flow_warp(features, flow), frame.im_info[None]))
    assert flow.abs().mean() > 0.1
    assert_same_detections(detect(model, [frame]), POSTPROCESS(raw))


def test_zero_flow_over_a_still_video_changes_nothing():
    model = small_fgfa()
    with torch.no_grad():
        model.flow_net.Convolution5.weight.zero_()
    still = [replace(frame, image=random_frames([(96, 128)])[0].image) for frame in random_frames([(96, 128)] * 4)]
    assert_same_detections(detect(model, still), detect(small_rfcn(), still))


def test_zero_flow_averages_with_weights_of_likeness(monkeypatch):
    """In NumPy, from features and embeddings of the frames as they are."""
    model, frames = small_fgfa(1), random_frames([(64, 96)] * 3)
    with torch.no_grad():
        model.flow_net.Convolution5.weight.zero_()
        features = model.features(torch.stack([frame.image for frame in frames]))
        embeddings = model.embed_net(features).double().numpy()
    features = features.double().numpy()
    unit = embeddings / np.sqrt((embeddings**2).sum(axis=1, keepdims=True) + 1e-10)
    weights = np.exp((unit * unit[1]).sum(axis=1, keepdims=True))
    expected = (weights * features).sum(axis=0) / weights.sum(axis=0)
    np.testing.assert_allclose(_aggregated(model, frames, monkeypatch)[1], expected, atol=1e-5)


def _window_trace(model: FGFA, videos: list[int], batch_images: int, monkeypatch) -> list[list[int]]:
    """Of videos whose pixels are the number of their frame, the numbers averaged for each answer, sorted."""
    rows = []

    def between(current, others):
        number, others = current[0, 0, 0, 0].item(), torch.cat(others)
        if not asked or asked[-1][0] != number:  # a long window comes in several calls
            asked.append((number, []))
        asked[-1][1].extend(others[:, 0, 0, 0].tolist())
        return torch.zeros_like(others[:, :2]), None

    def average_pool(pool, neighbourhoods, slots, flow, counts):
        centres = pool[[one.centre.slot for one in neighbourhoods]]
        for centre, own, count, (asked_centre, asked_others) in zip(
            centres, slots, counts.int(), asked[-len(slots) :], strict=True
        ):
            numbers = pool[own[count > 0], 0, 0, 0]
            assert (asked_centre, asked_others) == (centre[0, 0, 0].item(), numbers.tolist())
            rows.append(sorted(numbers.repeat_interleave(count[count > 0]).int().tolist()))
        return centres, torch.ones(*slots.shape, *pool.shape[2:])

    asked = []
    monkeypatch.setattr(model, "_average_pool", average_pool)
    monkeypatch.setattr(model, "_maps", lambda images, rule: images)
    monkeypatch.setattr(model.flow_net, "halve", lambda images: images)
    monkeypatch.setattr(model.flow_net, "between", between)
    monkeypatch.setattr(model.detector, "predict", lambda features, im_info: (features[:, :1, :1, 0], im_info))
    frames, number = [], 0
    for length in videos:
        for offset in range(length):
            pixels = torch.full((3, 4, 4), float(number))
            frames.append(Frame(pixels, 1.0, number + 1, first=offset == 0, index=offset))
            number += 1
    assert detect(model, frames, lambda raw: raw.boxes[:, 0, 0].int().tolist(), batch_images) == list(range(number))
    return rows


@pytest.mark.parametrize("batch_images", [1, 4])
def test_loop_uses_the_frames_that_the_original_did(golden, batch_images, monkeypatch):
    recording = golden("loops_fgfa_public")
    model = small_fgfa(int(recording["key_frame_interval"][0]))
    begins = np.concatenate(([0], np.cumsum(recording["lengths"])))
    expected = recording["loop_trace"][:, 1:] + begins[recording["loop_trace"][:, :1]]
    rows = _window_trace(model, recording["lengths"].tolist(), batch_images, monkeypatch)
    np.testing.assert_array_equal(rows, expected)
    np.testing.assert_array_equal(recording["loop_frame_ids"], np.arange(len(rows)) + 1)


def test_causal_window_looks_back_only_and_answers_at_once(monkeypatch):
    model = small_fgfa(2, causal=True)
    assert _window_trace(model, [4, 1], 1, monkeypatch) == [[0, 0, 0], [0, 0, 1], [0, 1, 2], [1, 2, 3], [4, 4, 4]]
    taken = []

    def frames():
        for frame in random_frames([(64, 64)] * 3):
            taken.append(frame.index)
            yield frame

    answers = detect_frames(small_fgfa(2, causal=True), frames(), POSTPROCESS)
    assert [len(taken) for _ in answers] == [1, 2, 3]


@pytest.mark.parametrize("batch_images", [3, 8])
def test_batch_equals_single(batch_images):
    """Also over a change of size and a new video."""
    model = small_fgfa(2)
    frames = random_frames([(96, 128)] * 5 + [(80, 112)] * 2 + [(96, 128)])
    frames[3].first = True
    alone = detect(model, frames)
    assert all(len(found) for found in alone)
    assert_same_detections(detect(model, frames, batch_images=batch_images), alone)
    parts = (frames[:3], frames[3:5], frames[5:7], frames[7:])
    assert_same_detections(alone, [found for part in parts for found in detect(model, part)])


@pytest.mark.parametrize("length", [0, 1, 2, 3, 4, 6])
def test_every_length_has_one_answer_per_frame(length):
    """For K = 2: none, 1, 2, K + 1, K + 2, 2K + 2 frames."""
    assert len(detect(small_fgfa(2), random_frames([(64, 64)] * length))) == length


def test_scale_and_size_are_the_centre_frames_own():
    """The boxes of a frame whose scale is twice as large are half as large."""
    model = small_fgfa(1)
    frames = random_frames([(96, 128)] * 3)
    plain = detect(model, frames, EVERY_BOX)
    frames[1] = replace(frames[1], scale=4.0, im_info=None)
    scaled = detect(model, frames, EVERY_BOX)
    assert_same_detections(scaled[::2], plain[::2])
    torch.testing.assert_close(scaled[1].boxes * 2, plain[1].boxes)


def test_memory_is_bounded_by_the_window(monkeypatch):
    model, alive, most = small_fgfa(1), [], []

    def cache(*parts):
        cached = CachedFrame(*parts)
        alive.append(weakref.ref(cached))
        return cached

    monkeypatch.setattr(fgfa_module, "CachedFrame", cache)
    for _ in detect_frames(model, random_frames([(32, 32)] * 12), POSTPROCESS):
        most.append(sum(reference() is not None for reference in alive))
        assert torch.is_grad_enabled()
    assert len(alive) == 12
    assert max(most) <= 2 * 1 + 1 + 1  # and the one that was just read


def test_testing_warps_no_maps_one_by_one(monkeypatch):
    """The average is made in one pass, without warped maps in memory (tests/ops/test_aggregate.py)."""
    frames = random_frames([(96, 128)] * 3)
    expected = detect(small_fgfa(1), frames)
    monkeypatch.setattr(fgfa_module, "flow_warp", None)
    assert_same_detections(detect(small_fgfa(1), frames), expected)
    with pytest.raises(TypeError):
        detect(small_fgfa(1, test_rule=AggregationRule(aggregate_current=True, embed_after_warp=True)), frames)


@pytest.mark.parametrize("rule", RULES, ids=str)
def test_inside_is_what_was_averaged_and_how(rule):
    """At the ends of the clip too, where a frame stands in for those that are missing and weighs as much as they."""
    model, frames = small_fgfa(1, test_rule=rule), random_frames([(96, 128)] * 3)
    inside = [frame.inside for frame, _ in detect_frames(model, frames, POSTPROCESS, 2, inside=True)]
    centre = [[0], [1], [2]] if rule.aggregate_current else [[], [], []]
    assert [sorted(one.references) for one in inside] == [
        sorted({*centre[0], 0, 1}),
        sorted({*centre[1], 0, 2}),
        sorted({*centre[2], 1, 2}),
    ]
    for one, frame in zip(inside, frames, strict=True):
        count = len(one.references)
        assert one.flow.shape == (count, 2, 6, 8)
        assert one.weights.shape == (count, 6, 8)
        torch.testing.assert_close(one.weights.sum(dim=0), torch.ones(6, 8))
        assert one.scale is None
        with torch.no_grad():
            others = torch.stack([frames[i].image for i in one.references])
            flow, _ = model.flow_net(frame.image.expand_as(others), others)
            warped = flow_warp(model.features(others), flow)
        torch.testing.assert_close(one.flow, flow, atol=1e-4, rtol=1e-4)
        averaged = (one.weights[:, None] * warped).sum(dim=0)
        torch.testing.assert_close(one.features, averaged, atol=1e-4, rtol=1e-4)


def _triple_batch(objects: list[int], still: bool = False) -> TrainingBatch:
    frames = [random_batch(objects, seed=0 if still else seed).frames for seed in range(3)]
    same = torch.full((len(objects), 2), still)
    return replace(random_batch(objects), frames=torch.cat(frames, dim=1), same_frame=same)


@pytest.mark.parametrize("still", [False, True])
def test_losses_reach_every_part(still):
    """Of stills too, where the flow between equal images is really evaluated."""
    model = small_fgfa()
    terms = model.losses(_triple_batch([2, 3], still), np.random.RandomState(0))
    sum(term for name, term in terms.items() if name.endswith("_loss")).backward()
    without = [name for name, p in model.named_parameters() if p.grad is None or not p.grad.any()]
    # equal neighbours weigh the same whatever their embedding
    assert all(name.startswith("embed_net.") for name in without) if still else without == []


def test_samples_of_a_batch_do_not_mix():
    model, batch = small_fgfa(), _triple_batch([2, 3])
    together = model.training_features(batch)
    for i in range(2):
        alone = model.training_features(replace(batch, frames=batch.frames[i : i + 1]))
        torch.testing.assert_close(together[i : i + 1], alone, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("rule", [TRAINING, TESTING], ids=str)
def test_autocast_stays_close(rule):
    model, batch = small_fgfa(train_rule=rule), _triple_batch([2, 3])
    expected = model.losses(batch, np.random.RandomState(0))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        terms = model.losses(batch, np.random.RandomState(0))
    for name in ("rpn_cls_loss", "rcnn_cls_loss"):
        assert terms[name].dtype == torch.float32
        torch.testing.assert_close(terms[name], expected[name], atol=0.03, rtol=0.1)


def test_what_leaves_nothing_to_average_is_refused():
    with pytest.raises(ValueError, match="no neighbours"):
        small_fgfa().losses(random_batch([1]), np.random.RandomState(0))
    for reach, rule in ((-1, TESTING), (0, TRAINING)):
        with pytest.raises(ValueError, match="window"):
            small_fgfa(reach, test_rule=rule)
