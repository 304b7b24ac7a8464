"""The way of fixed shapes, which a GPU takes, finds what the CPU's way finds, in the same order and bits."""

from __future__ import annotations

import math

import pytest
import torch

from lib.models.postprocess import PostProcess, RawDetections
from lib.structures import Frame


def raw_of(boxes: torch.Tensor, probabilities: torch.Tensor) -> RawDetections:
    return RawDetections([Frame(torch.zeros(3, 1, 1), 1.0) for _ in boxes], boxes, probabilities)


def random_raw(frames=3, boxes=60, classes=7, seed=0) -> RawDetections:
    """Boxes that overlap, and probabilities of two decimals, so that many tie."""
    generator = torch.Generator().manual_seed(seed)
    corner = 60 * torch.rand(frames, boxes, 2, generator=generator)
    corners = torch.cat((corner, corner + 5 + 40 * torch.rand(frames, boxes, 2, generator=generator)), 2)
    probabilities = (2 * torch.randn(frames, boxes, classes, generator=generator)).softmax(2)
    return raw_of(corners, (probabilities * 100).round() / 100)


def assert_same(first, second) -> None:
    assert len(first) == len(second)
    for a, b in zip(first, second, strict=True):
        for name in ("boxes", "scores", "labels"):
            one, other = getattr(a, name), getattr(b, name)
            assert one.dtype == other.dtype
            assert torch.equal(one, other)


@pytest.mark.parametrize("threshold", [0.0, 0.05, 0.3, 1.0])
@pytest.mark.parametrize("nms_threshold", [None, 0.0, 0.3, 1.0])
@pytest.mark.parametrize("most", [None, 1, 7, 50, 10**6])
def test_same_detections(threshold, nms_threshold, most):
    rule, found = PostProcess(threshold, nms_threshold, most), 0
    for seed in range(4):
        raw = random_raw(seed=seed)
        expected = rule.with_found_only(raw)
        assert_same(rule.with_fixed_shapes(raw), expected)
        found += sum(len(detections) for detections in expected)
    assert (found > 0) == (threshold < 1)


def test_frames_do_not_mix():
    raw, rule = random_raw(frames=4), PostProcess(0.05, 0.3, 20)
    together = rule.with_fixed_shapes(raw)
    alone = [rule.with_fixed_shapes(raw_of(raw.boxes[i : i + 1], raw.probabilities[i : i + 1]))[0] for i in range(4)]
    assert_same(together, alone)


def test_cap_keeps_what_ties_with_the_last():
    boxes = torch.arange(6.0)[:, None] * 100 + torch.tensor([0.0, 0, 10, 10])
    probabilities = torch.tensor([[0.0, s] for s in (0.9, 0.5, 0.5, 0.4, 0.5, 0.8)])
    for nms_threshold, expected in ((0.3, [0.9, 0.8, 0.5, 0.5, 0.5]), (None, [0.9, 0.5, 0.5, 0.5, 0.8])):
        rule = PostProcess(0.1, nms_threshold, 3)
        (found,) = rule.with_fixed_shapes(raw_of(boxes[None], probabilities[None]))
        assert found.scores.tolist() == pytest.approx(expected)


def test_frames_with_nothing_and_with_less_than_the_cap():
    raw = random_raw()
    raw.probabilities[1] = 0
    raw.probabilities[2, 5:] = 0
    rule = PostProcess(0.01, 0.3, 25)
    found = rule.with_fixed_shapes(raw)
    assert_same(found, rule.with_found_only(raw))
    assert len(found[0]) >= 25 > len(found[2]) > len(found[1]) == 0


@pytest.mark.parametrize("nms_threshold", [None, 0.3])
def test_probability_that_is_no_number_is_not_found(nms_threshold):
    raw, rule = random_raw(), PostProcess(0.05, nms_threshold, 10)
    raw.probabilities[0, 3, 2] = raw.probabilities[1, 0, 1] = math.nan
    assert_same(rule.with_fixed_shapes(raw), rule.with_found_only(raw))


@pytest.mark.parametrize(("frames", "boxes", "classes"), [(0, 5, 3), (2, 0, 3), (2, 5, 1), (1, 1, 2)])
@pytest.mark.parametrize("nms_threshold", [None, 0.3])
def test_least_sizes(frames, boxes, classes, nms_threshold):
    raw, rule = random_raw(frames, boxes, classes), PostProcess(0.0, nms_threshold, 1)
    assert_same(rule.with_fixed_shapes(raw), rule.with_found_only(raw))


@pytest.mark.gpu
@pytest.mark.parametrize("nms_threshold", [None, 0.3])
def test_a_gpu_finds_the_same_and_copies_once(cuda_kernels, nms_threshold, monkeypatch):
    raw, rule = random_raw(boxes=300, classes=31), PostProcess(1e-3, nms_threshold, 300)
    on_gpu = RawDetections(raw.frames, raw.boxes.to(cuda_kernels), raw.probabilities.to(cuda_kernels))
    rule(on_gpu)
    torch.cuda.synchronize()
    copies, copy = [], torch.Tensor.cpu
    monkeypatch.setattr(torch.Tensor, "cpu", lambda tensor: copies.append(tensor) or _allowed(copy, tensor))
    torch.cuda.set_sync_debug_mode("error")  # all but the copy must not wait
    try:
        found = rule(on_gpu)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert len(copies) == 1
    assert_same(found, rule.with_found_only(raw))


def _allowed(copy, tensor: torch.Tensor) -> torch.Tensor:
    torch.cuda.set_sync_debug_mode("default")
    try:
        return copy(tensor)
    finally:
        torch.cuda.set_sync_debug_mode("error")
