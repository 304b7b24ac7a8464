"""The methods compiled and on a GPU: features of a clip in every form against the CPU's own, and losses."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch

from lib.models.inference_form import prepare_for_inference
from lib.models.postprocess import PostProcess, RawDetections
from lib.models.precision import set_precision
from lib.models.video_model import VideoModel
from tests.models.small import random_batch, random_frames, small_rfcn
from tests.models.small_video import small_dff, small_fgfa

METHODS = {"rfcn": small_rfcn, "dff": small_dff, "fgfa": small_fgfa}
SIZE, FRAMES = (96, 128), 8


@pytest.fixture(autouse=True)
def _nothing_compiled_stays():
    yield
    torch._dynamo.reset()


@pytest.fixture(params=METHODS)
def model(request) -> VideoModel:
    return METHODS[request.param]().eval()


def features_of(model: VideoModel, batch_images: int) -> list[torch.Tensor]:
    """The features (C, h, w) that each frame of a clip is detected in, all of them read after the clip's end."""
    frames = random_frames([SIZE] * FRAMES)
    clip = model.begin_clip(batch_images, inside=True)
    with torch.inference_mode():
        answers = [one for frame in frames for one in clip.add(frame)] + clip.close()
    answered = [frame for one in answers for frame in one.frames]
    assert [frame.index for frame in answered] == list(range(FRAMES))
    for one in answers:
        assert one.boxes.isfinite().all()
        torch.testing.assert_close(one.probabilities.sum(2).cpu(), torch.ones(one.probabilities.shape[:2]))
    return [frame.inside.features.float().cpu() for frame in answered]


def assert_near(found: list[torch.Tensor], expected: list[torch.Tensor], tolerance: float) -> None:
    for n, (own, other) in enumerate(zip(found, expected, strict=True)):
        assert (own - other).abs().max() < tolerance * other.abs().max(), f"frame {n}"


@pytest.mark.gpu
@pytest.mark.parametrize(
    ("precision", "tolerance", "batch_images"), [("float32", 1e-3, 1), ("float32", 1e-3, 3), ("bfloat16", 0.1, 3)]
)
def test_features_are_those_of_the_cpu(cuda, model, precision, tolerance, batch_images):
    expected = features_of(prepare_for_inference(copy.deepcopy(model)), batch_images)
    reduced = set_precision(precision, cuda)
    assert_near(features_of(prepare_for_inference(model.to(cuda), reduced), batch_images), expected, tolerance)


@pytest.mark.gpu
@pytest.mark.parametrize(("precision", "tolerance", "compiled"), [("bfloat16", 0.1, "on"), ("float32", 1e-3, "graphs")])
def test_compiled_features_on_a_gpu_are_those_of_the_cpu(cuda, model, precision, tolerance, compiled):
    expected = features_of(prepare_for_inference(copy.deepcopy(model)), 1)
    reduced = set_precision(precision, cuda)
    assert_near(features_of(prepare_for_inference(model.to(cuda), reduced, compiled), 1), expected, tolerance)


def test_compiled_features_are_those_of_the_form_that_is_not():
    model = small_dff().eval()
    expected = features_of(prepare_for_inference(copy.deepcopy(model)), 1)
    assert_near(features_of(prepare_for_inference(model, compiled="on"), 1), expected, 1e-4)


@pytest.mark.gpu
def test_nothing_waits_for_the_gpu_between_a_frame_and_its_raw_detections(cuda_kernels, model):
    prepare_for_inference(model.to(cuda_kernels))
    frames = random_frames([SIZE] * 12)
    clip = model.begin_clip(2)
    answers = []
    with torch.inference_mode():
        for frame in frames[:6]:  # the first calls choose kernels and take memory
            clip.add(frame)
        torch.cuda.synchronize()
        torch.cuda.set_sync_debug_mode("error")
        try:
            for frame in frames[6:]:
                answers += clip.add(frame)
        finally:
            torch.cuda.set_sync_debug_mode("default")
    assert answers


@pytest.mark.gpu
def test_a_cuda_graph_holds_the_heads_and_the_post_processing(cuda_kernels):
    """From features to rows of detections nothing depends on values, so all of it can be captured."""
    detector = prepare_for_inference(small_rfcn().eval().to(cuda_kernels)).detector
    rule, frames = PostProcess(0.05, 0.3, 20), random_frames([SIZE])
    features, other = torch.randn(2, 1, 32, 6, 8, device=cuda_kernels)
    im_info = torch.tensor([[*SIZE, 1.0]], device=cuda_kernels)

    def rows():
        return rule.rows(RawDetections(frames, *detector.predict(features, im_info)))

    with torch.inference_mode():
        stream = torch.cuda.Stream()  # the first calls choose kernels, on another stream than the captured one
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            rows()
        torch.cuda.current_stream().wait_stream(stream)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            captured = rows()
        for given in (other, features.clone()):
            features.copy_(given)
            graph.replay()
            torch.testing.assert_close(captured, rows(), rtol=1e-4, atol=1e-3)
            assert (captured[..., 5] > 0).any()


@pytest.mark.gpu
def test_losses_and_gradients_are_those_of_the_cpu(cuda, model):
    batch = random_batch([2, 1], *SIZE)
    together = {"RFCN": 1, "DFF": 2, "FGFA": 3}[type(model).__name__]
    generator = torch.Generator().manual_seed(0)
    batch.frames = torch.randn(2, together, 3, *SIZE, generator=generator)
    batch.same_frame = torch.zeros(2, together - 1, dtype=torch.bool)
    on_gpu = copy.deepcopy(model).to(cuda)
    found = on_gpu.losses(batch.to(cuda), np.random.RandomState(0))
    expected = model.losses(batch, np.random.RandomState(0))
    assert set(found) == set(expected)
    for name in (name for name in expected if name.endswith("_loss")):
        torch.testing.assert_close(found[name].cpu(), expected[name], rtol=1e-2, atol=1e-4, msg=name)
    sum(found[name] for name in found if name.endswith("_loss")).backward()
    assert all(p.grad is None or p.grad.isfinite().all() for p in on_gpu.parameters())
    assert any(p.grad is not None and p.grad.abs().max() > 0 for p in on_gpu.parameters())
