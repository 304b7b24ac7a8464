"""Deep Feature Flow: its own promises, over small networks."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch

import dff.model as dff_module
from dff.model import DFF, key_frame_batches
from lib.models.postprocess import PostProcess
from lib.structures import Frame
from tests.models.small import (
    assert_same_detections,
    random_batch,
    random_frames,
    small_rfcn,
)
from tests.models.small_video import small_dff


def _pair_batch(objects: list[int], same: list[bool]):
    batch = random_batch(objects)
    references = random_batch(objects, seed=1).frames
    chosen = torch.where(torch.tensor(same)[:, None, None, None, None], batch.frames, references)
    return replace(batch, frames=torch.cat((batch.frames, chosen), dim=1), same_frame=torch.tensor(same)[:, None])


class _Trace:
    """Stands in for all parts of a model over images whose pixels are the number of their frame, and writes down what
    happens to which: `rows` as the originals' loop was recorded, (0 key or 2 current, frame, key frame)."""

    out_channels = 2

    def __init__(self) -> None:
        self.rows: list[tuple[int, int, int]] = []
        self.features_of: list[int] = []

    def features(self, images):
        self.features_of += images[:, 0, 0, 0].int().tolist()
        return images[:, :2, :1, :1]

    def halve(self, images):
        return images

    def between_halves(self, images, others):
        numbers = torch.stack((images[:, 0, 0, 0], others[:, 0, 0, 0]), dim=1)
        return numbers, None

    def predict(self, features, im_info):
        return list(zip(features, im_info, strict=True))


def _trace(videos: list[int], interval: int, batch_images: int, monkeypatch) -> list[list[int]]:
    trace = _Trace()
    rows = []

    def warp(feature, numbers, scale):
        rows.extend([2, *pair] for pair in numbers.int().tolist())
        assert (feature[:, 0, 0, 0].int() == numbers[:, 1].int()).all()
        return numbers[:, :, None, None]

    model = small_dff(interval)
    monkeypatch.setattr(dff_module, "flow_warp", warp)
    for part, stand_in in (("features", trace.features), ("detector", trace), ("flow_net", trace)):
        monkeypatch.setitem(model._modules, part, stand_in)
    monkeypatch.setattr(model, "parameters", lambda: iter([torch.zeros(1)]))
    frames, number = [], 0
    for length in videos:
        for offset in range(length):
            frames.append(Frame(torch.full((3, 4, 4), float(number)), 1.0, number + 1, first=offset == 0))
            number += 1
    answered = list(model.detect(frames, lambda raw: int(raw[0][0]), batch_images))
    assert answered == list(range(number))
    return sorted([*rows, *([0, i, i] for i in trace.features_of)], key=lambda row: row[1])


@pytest.mark.parametrize("batch_images", [1, 3, 10, 16])
def test_loop_uses_the_frames_that_the_original_did(golden, batch_images, monkeypatch):
    recording = golden("loops_dff_public")
    begins = np.concatenate(([0], np.cumsum(recording["lengths"])))
    kind, video, frame, key_video, key_frame = recording["loop_trace"].T
    expected = np.stack((kind, begins[video] + frame, begins[key_video] + key_frame), axis=1)
    rows = _trace(recording["lengths"].tolist(), int(recording["key_frame_interval"][0]), batch_images, monkeypatch)
    np.testing.assert_array_equal(rows, expected)
    np.testing.assert_array_equal(recording["loop_frame_ids"], expected[:, 1] + 1)


@pytest.mark.parametrize("batch_images", [1, 4])
def test_interval_one_is_rfcn(batch_images):
    frames, postprocess = random_frames([(96, 128)] * 3), PostProcess(0.05)
    found = small_dff(1).detect(frames, postprocess, batch_images)
    assert_same_detections(found, small_rfcn().detect(frames, postprocess))


@pytest.mark.parametrize("batch_images", [2, 3, 8])
def test_batch_equals_single(batch_images):
    """Also over a change of size and a new video, which begin with a key frame each."""
    model, postprocess = small_dff(3), PostProcess(0.05)
    frames = random_frames([(96, 128)] * 7 + [(80, 112)] * 2 + [(96, 128)] * 3)
    frames[4].first = True
    alone = list(model.detect(frames, postprocess))
    assert all(len(found) for found in alone)
    assert_same_detections(model.detect(frames, postprocess, batch_images), alone)
    restarted = [found for part in (frames[:4], frames[4:7], frames[7:9]) for found in model.detect(part, postprocess)]
    assert_same_detections(alone[:9], restarted)


@pytest.mark.parametrize("length", [0, 1, 2, 4, 5, 8])
def test_every_length_has_one_answer_per_frame(length):
    model = small_dff(4)
    assert len(list(model.detect(random_frames([(64, 64)] * length), PostProcess()))) == length


def test_zero_flow_and_scale_one_change_nothing():
    model, postprocess = small_dff(3), PostProcess(0.05)
    with torch.no_grad():
        for conv in (model.flow_net.Convolution5, model.flow_net.Convolution5_scale):
            conv.weight.zero_()
    still = [replace(frame, image=random_frames([(96, 128)])[0].image) for frame in random_frames([(96, 128)] * 3)]
    assert_same_detections(model.detect(still, postprocess), small_rfcn().detect(still, postprocess))


def test_moved_features_are_detected_where_the_flow_says():
    """All cells read one cell to the right: the features of the key frame arrive one cell further left."""
    model = small_dff(2)
    with torch.no_grad():
        for conv in (model.flow_net.Convolution5, model.flow_net.Convolution5_scale):
            conv.weight.zero_()
        model.flow_net.Convolution5.bias.copy_(torch.tensor([1 / 2.5, 0.0]))
        images = torch.stack([frame.image for frame in random_frames([(96, 128)] * 2)])
        key = dff_module.KeyFrame(model.flow_net.halve(images[:1]), model.features(images[:1]))
        moved = model.propagate(key, model.flow_net.halve(images[1:]))
    torch.testing.assert_close(moved[..., :-1], key.features[..., 1:], atol=1e-5, rtol=1e-5)
    assert not moved[..., -1].any()


def test_detect_reads_no_further_than_its_batch():
    taken = []

    def frames():
        for frame in random_frames([(64, 64)] * 7):
            taken.append(frame.frame_id)
            yield frame

    stream = small_dff(3).detect(frames(), PostProcess(), batch_images=2)
    read = []
    for _ in stream:
        read.append(len(taken))
        assert torch.is_grad_enabled()
    assert read == [2, 2, 3, 5, 5, 6, 7]


def test_a_batch_ends_before_the_next_key_frame():
    frames = random_frames([(64, 64)] * 5 + [(64, 80)] * 3)
    batches = [([frame.frame_id for frame in batch], key) for batch, key in key_frame_batches(frames, 4, 3)]
    assert batches == [([1, 2, 3], True), ([4], False), ([5], True), ([6, 7, 8], True)]


def test_stills_train_without_a_special_case():
    """Each is its own reference: the losses are R-FCN's, and nothing of them reaches the flow network."""
    model, batch = small_dff(), _pair_batch([2, 3], [True, True])
    terms = model.losses(batch, np.random.RandomState(0))
    expected = small_rfcn().losses(batch, np.random.RandomState(0))
    assert all(torch.equal(terms[name], expected[name]) for name in expected)
    sum(term for name, term in terms.items() if name.endswith("_loss")).backward()
    assert all(parameter.grad is None for parameter in model.flow_net.parameters())


def test_a_batch_of_stills_and_pairs_is_each_for_itself():
    model, batch = small_dff(), _pair_batch([2, 3, 1], [False, True, False])
    together = model.training_features(batch)
    for i in range(3):
        alone = replace(batch, frames=batch.frames[i : i + 1], same_frame=batch.same_frame[i : i + 1])
        torch.testing.assert_close(together[i : i + 1], model.training_features(alone), atol=1e-5, rtol=1e-5)


def test_losses_reach_every_part():
    model, batch = small_dff(), _pair_batch([2, 3], [False, False])
    terms = model.losses(batch, np.random.RandomState(0))
    sum(term for name, term in terms.items() if name.endswith("_loss")).backward()
    assert [name for name, p in model.named_parameters() if p.grad is None or not p.grad.any()] == []


def test_autocast_stays_close():
    model, batch = small_dff(), _pair_batch([2, 3], [False, True])
    expected = model.losses(batch, np.random.RandomState(0))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        terms = model.losses(batch, np.random.RandomState(0))
    for name in ("rpn_cls_loss", "rcnn_cls_loss"):
        assert terms[name].dtype == torch.float32
        torch.testing.assert_close(terms[name], expected[name], atol=0.03, rtol=0.1)


def test_other_than_one_reference_is_refused():
    with pytest.raises(ValueError, match="one reference"):
        small_dff().losses(random_batch([1]), np.random.RandomState(0))
    with pytest.raises(ValueError, match="at least 1"):
        DFF(SimpleNamespace(), SimpleNamespace(), SimpleNamespace(), interval=0)
