"""Deep Feature Flow: its own promises, over small networks."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

import dff.model as dff_module
from dff.model import DFF
from lib.engine.inference import detect_frames
from lib.structures import Frame
from tests.models.small import (
    POSTPROCESS,
    assert_same_detections,
    detect,
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
    anchors = torch.zeros(1)

    def __init__(self) -> None:
        self.rows: list[tuple[int, int, int]] = []
        self.features_of: list[int] = []

    def features(self, images):
        self.features_of += images[:, 0, 0, 0].int().tolist()
        return images[:, :2, :1, :1].clone()

    def halve(self, images):
        return images

    def current_part(self, halves):
        return halves

    def other_part(self, halves):
        return halves

    def between(self, images, others):
        others = others.expand_as(images)  # one of the two may be of one image for all
        numbers = torch.stack((images[:, 0, 0, 0], others[:, 0, 0, 0]), dim=1)
        return numbers, torch.ones(len(images), 2, 1, 1)

    def predict(self, features, im_info):
        return features[:, :1, :, 0], im_info


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
            pixels = torch.full((3, 4, 4), float(number))
            frames.append(Frame(pixels, 1.0, number + 1, first=offset == 0, index=offset))
            number += 1
    # The answer is the number in the features: of the frame itself, as `warp` gives it back
    assert detect(model, frames, lambda raw: raw.boxes[:, 0, 0].int().tolist(), batch_images) == list(range(number))
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
    frames = random_frames([(96, 128)] * 3)
    found = detect(small_dff(1), frames, batch_images=batch_images)
    assert_same_detections(found, detect(small_rfcn(), frames))


@pytest.mark.parametrize("batch_images", [2, 3, 8])
def test_batch_equals_single(batch_images):
    """Also over a change of size and a new video, which begin with a key frame each."""
    model = small_dff(3)
    frames = random_frames([(96, 128)] * 7 + [(80, 112)] * 2 + [(96, 128)] * 3)
    frames[4].first = True
    alone = detect(model, frames)
    assert all(len(found) for found in alone)
    assert_same_detections(detect(model, frames, batch_images=batch_images), alone)
    restarted = [found for part in (frames[:4], frames[4:7], frames[7:9]) for found in detect(model, part)]
    assert_same_detections(alone[:9], restarted)


@pytest.mark.parametrize("length", [0, 1, 2, 4, 5, 8])
def test_every_length_has_one_answer_per_frame(length):
    model = small_dff(4)
    assert len(detect(model, random_frames([(64, 64)] * length))) == length


def test_zero_flow_and_scale_one_change_nothing():
    model = small_dff(3)
    with torch.no_grad():
        for conv in (model.flow_net.Convolution5, model.flow_net.Convolution5_scale):
            conv.weight.zero_()
    still = [replace(frame, image=random_frames([(96, 128)])[0].image) for frame in random_frames([(96, 128)] * 3)]
    assert_same_detections(detect(model, still), detect(small_rfcn(), still))


def test_moved_features_are_detected_where_the_flow_says():
    """All cells read one cell to the right: the features of the key frame arrive one cell further left."""
    model = small_dff(2)
    with torch.no_grad():
        for conv in (model.flow_net.Convolution5, model.flow_net.Convolution5_scale):
            conv.weight.zero_()
        model.flow_net.Convolution5.bias.copy_(torch.tensor([1 / 2.5, 0.0]))
        frames = random_frames([(96, 128)] * 2)
        images = torch.stack([frame.image for frame in frames])
        key = dff_module.KeyFrame(frames[0], 0, model.flow_net.halve(images[:1]), model.features(images[:1]))
        moved = model.propagate(frames[1:], [[(key, 1.0)]])
    torch.testing.assert_close(moved[..., :-1], key.features[..., 1:], atol=1e-5, rtol=1e-5)
    assert not moved[..., -1].any()


def test_detect_reads_no_further_than_its_batch():
    taken = []

    def frames():
        for frame in random_frames([(64, 64)] * 7):
            taken.append(frame.frame_id)
            yield frame

    stream = detect_frames(small_dff(3), frames(), POSTPROCESS, batch_images=2)
    read = []
    for _ in stream:
        read.append(len(taken))
        assert torch.is_grad_enabled()
    assert read == [2, 2, 3, 5, 5, 6, 7]


def test_a_batch_ends_before_the_next_key_frame(monkeypatch):
    """Also of an interval that is no multiple of the batch, and where the size changes."""
    batches = []
    whole_detect = DFF.detect

    def detected(self, frames, sources, *rest):
        begins_with_key = sources[0][0][0].frame.index == frames[0].index
        batches.append(([frame.frame_id for frame in frames], begins_with_key))
        return whole_detect(self, frames, sources, *rest)

    monkeypatch.setattr(DFF, "detect", detected)
    detect(small_dff(4), random_frames([(64, 64)] * 5 + [(64, 80)] * 3), batch_images=3)
    assert batches == [([1, 2, 3], True), ([4], False), ([5], True), ([6, 7, 8], True)]


@pytest.mark.parametrize("batch_images", [1, 4])
def test_inside_says_which_key_frame_and_how(batch_images):
    model, frames = small_dff(3), random_frames([(96, 128)] * 5)
    inside = [f.inside for f, _ in detect_frames(model, frames, POSTPROCESS, batch_images, inside=True)]
    assert [one.references for one in inside] == [[], [0], [0], [], [3]]
    with torch.no_grad():
        key = model.features(frames[0].image[None])
        flow, scale = model.flow_net(frames[2].image[None], frames[0].image[None])
    torch.testing.assert_close(inside[0].features, key[0], atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(inside[2].flow, flow, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(inside[2].scale, scale[0], atol=1e-4, rtol=1e-4)
    warped = dff_module.flow_warp(key, flow, scale)[0]
    torch.testing.assert_close(inside[2].features, warped, atol=1e-4, rtol=1e-4)
    assert inside[0].flow is inside[0].scale is inside[0].weights is inside[2].weights is None


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
