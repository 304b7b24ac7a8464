"""FGFA: its own promises, over small networks."""

from __future__ import annotations

import weakref
from dataclasses import replace
from itertools import product

import numpy as np
import pytest
import torch

import fgfa.model as fgfa_module
from fgfa.model import FGFA, ORIGINAL_TESTING, ORIGINAL_TRAINING, AggregationRule, CachedFrame, build_fgfa
from lib.models.postprocess import PostProcess
from lib.ops import flow_warp
from lib.structures import Frame, TrainingBatch
from tests.models.small import (
    NUM_CLASSES,
    assert_same_detections,
    random_batch,
    random_frames,
    small_config,
    small_rfcn,
    with_video_keys,
)
from tests.models.small_video import small_fgfa


def _aggregated(model: FGFA, frames: list[Frame], monkeypatch, batch_images: int = 1) -> list[torch.Tensor]:
    """The feature maps (C, h, w) that the frames are detected in."""
    with monkeypatch.context() as patch:
        patch.setattr(model.detector, "predict", lambda features, im_info: [features[0]])
        return list(model.detect(frames, lambda raw: raw, batch_images))


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


def test_the_rules_are_the_originals_unless_said_otherwise():
    model = build_fgfa(with_video_keys(small_config(), 4, 0.125, 48), NUM_CLASSES)
    assert (model.train_rule, model.test_rule) == (ORIGINAL_TRAINING, ORIGINAL_TESTING)
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
    model, plain, postprocess = small_fgfa(reach), small_rfcn(), PostProcess(0.05)
    (frame,) = random_frames([(96, 128)])
    with torch.no_grad():
        features = plain.features(frame.image[None])
        flow, _ = model.flow_net(frame.image[None], frame.image[None])
        (expected,) = plain.detector.predict(flow_warp(features, flow), frame.im_info[None])
    assert flow.abs().mean() > 0.1
    assert_same_detections(model.detect([frame], postprocess), [postprocess(expected)])


def test_zero_flow_over_a_still_video_changes_nothing():
    model, postprocess = small_fgfa(), PostProcess(0.05)
    with torch.no_grad():
        model.flow_net.Convolution5.weight.zero_()
    still = [replace(frame, image=random_frames([(96, 128)])[0].image) for frame in random_frames([(96, 128)] * 4)]
    assert_same_detections(model.detect(still, postprocess), small_rfcn().detect(still, postprocess))


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

    def aggregate(half, maps, halves, other_maps, rule, counts):
        assert torch.equal(halves, other_maps)
        numbers = halves[0, :, 0, 0, 0].repeat_interleave(counts)
        rows.append(sorted(numbers.int().tolist()))
        return half

    monkeypatch.setattr(model, "aggregate", aggregate)
    monkeypatch.setattr(model, "_maps", lambda images, rule: images)
    monkeypatch.setattr(model.flow_net, "halve", lambda images: images)
    monkeypatch.setattr(model.detector, "predict", lambda features, im_info: [int(features[0, 0, 0, 0])])
    frames, number = [], 0
    for length in videos:
        for offset in range(length):
            frames.append(Frame(torch.full((3, 4, 4), float(number)), 1.0, number + 1, first=offset == 0))
            number += 1
    assert list(model.detect(frames, lambda raw: raw, batch_images)) == list(range(number))
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
            taken.append(frame.frame_id)
            yield frame

    assert [len(taken) for _ in small_fgfa(2, causal=True).detect(frames(), PostProcess())] == [1, 2, 3]


@pytest.mark.parametrize("batch_images", [3, 8])
def test_batch_equals_single(batch_images):
    """Also over a change of size and a new video."""
    model, postprocess = small_fgfa(2), PostProcess(0.05)
    frames = random_frames([(96, 128)] * 5 + [(80, 112)] * 2 + [(96, 128)])
    frames[3].first = True
    alone = list(model.detect(frames, postprocess))
    assert all(len(found) for found in alone)
    assert_same_detections(model.detect(frames, postprocess, batch_images), alone)
    parts = (frames[:3], frames[3:5], frames[5:7], frames[7:])
    assert_same_detections(alone, [found for part in parts for found in model.detect(part, postprocess)])


@pytest.mark.parametrize("length", [0, 1, 2, 3, 4, 6])
def test_every_length_has_one_answer_per_frame(length):
    """For K = 2: none, 1, 2, K + 1, K + 2, 2K + 2 frames."""
    assert len(list(small_fgfa(2).detect(random_frames([(64, 64)] * length), PostProcess()))) == length


def test_scale_and_size_are_the_centre_frames_own():
    """The boxes of a frame whose scale is twice as large are half as large."""
    model, postprocess = small_fgfa(1), PostProcess(0.0, None, None)
    frames = random_frames([(96, 128)] * 3)
    plain = list(model.detect(frames, postprocess))
    frames[1].scale = 4.0
    scaled = list(model.detect(frames, postprocess))
    assert_same_detections(scaled[::2], plain[::2])
    torch.testing.assert_close(scaled[1].boxes * 2, plain[1].boxes)


def test_memory_is_bounded_by_the_window(monkeypatch):
    model, alive, most = small_fgfa(1), [], []

    def cache(*parts):
        cached = CachedFrame(*parts)
        alive.append(weakref.ref(cached))
        return cached

    monkeypatch.setattr(fgfa_module, "CachedFrame", cache)
    for _ in model.detect(random_frames([(32, 32)] * 12), PostProcess()):
        most.append(sum(reference() is not None for reference in alive))
        assert torch.is_grad_enabled()
    assert len(alive) == 12
    assert max(most) <= 2 * 1 + 1 + 1  # and the one that was just read


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


@pytest.mark.parametrize("rule", [ORIGINAL_TRAINING, ORIGINAL_TESTING], ids=str)
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
    for reach, rule in ((-1, ORIGINAL_TESTING), (0, ORIGINAL_TRAINING)):
        with pytest.raises(ValueError, match="window"):
            small_fgfa(reach, test_rule=rule)
