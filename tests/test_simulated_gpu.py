"""Every method on a simulated GPU: it answers and learns what it does on the CPU, and no operation mixes devices."""

from __future__ import annotations

import contextlib
import importlib

import numpy as np
import pytest
import torch

from lib import load_detector
from tests.models.small import assert_same_detections
from tests.models.small_checkpoints import clip, write_checkpoint
from tests.simulated_gpu import GPUTensor, simulated_gpu
from tests.test_end_to_end import CFG, VIDEO_METHODS, overrides, weights_of

OPTIONS = [
    ("rfcn", ()),
    ("dff", ()),
    ("dff", ("TEST.KEY_FRAME_POLICY=adaptive",)),
    ("dff", ("TEST.PROPAGATE_FROM=both_by_similarity", "TEST.KEY_FRAME_POSITION=middle")),
    ("fgfa", ()),
    ("fgfa", ("TEST.CAUSAL=true", "TEST.EMBED_AFTER_WARP=true")),
    ("fgfa", ("TEST.AGGREGATE_CURRENT=false", "TEST.SEQ_NMS=true")),
]


@pytest.mark.parametrize("batch_images", [1, 3])
@pytest.mark.parametrize(("method", "options"), OPTIONS, ids=str)
def test_a_detector_answers_what_it_does_on_the_cpu(method, options, batch_images, tmp_path):
    path = write_checkpoint(tmp_path / "small.pth", method)
    answers = {}
    for device in ("cpu", "cuda"):
        with simulated_gpu() if device == "cuda" else contextlib.nullcontext():
            detector = load_detector(path, device=device, overrides=options, batch_images=batch_images)
            assert all(p.device.type == device for p in detector.model.parameters())
            answers[device] = list(detector(clip(7), inside=True))
    for (frame, found), (other, expected) in zip(answers["cuda"], answers["cpu"], strict=True):
        assert frame.index == other.index
        assert_same_detections([found], [expected])
        assert isinstance(frame.inside.features, GPUTensor)
        assert not isinstance(found.boxes, GPUTensor)


@pytest.mark.parametrize(("method", "cfg"), {"rfcn": CFG, **VIDEO_METHODS}.items())
def test_a_training_learns_what_it_does_on_the_cpu(method, cfg, tiny_dataset, tmp_path):
    """With validation, and from a checkpoint on."""
    train = importlib.import_module(f"{method}.train_end2end").main
    learned = {}
    for device in ("cpu", "cuda"):
        out = tmp_path / device
        common = ["--cfg", cfg, *overrides(tiny_dataset, out), "--device", device, "TRAIN.BATCH_IMAGES=2"]
        common += ["TRAIN.VALIDATE_EPOCHS=1", "TRAIN.VALIDATE_VIDEOS=1"]
        with simulated_gpu() if device == "cuda" else contextlib.nullcontext():
            train(common)
            train([*common, "TRAIN.end_epoch=2", "TRAIN.RESUME=true"])
        learned[device] = weights_of(next(out.rglob("*-0002.pth")))
        assert next(out.rglob("*-best.pth"))
    torch.testing.assert_close(learned["cuda"], learned["cpu"], atol=1e-5, rtol=1e-4)


class TestTheSimulation:
    """It refuses what a GPU refuses, and allows what a GPU allows."""

    @pytest.fixture(autouse=True)
    def _gpu(self):
        with simulated_gpu():
            yield

    def test_devices_do_not_mix(self):
        gpu, cpu = torch.ones(3, device="cuda"), torch.ones(3)
        for mix in (
            lambda: gpu + cpu,
            lambda: cpu @ gpu,
            lambda: torch.cat([gpu, cpu]),
            lambda: torch.where(cpu > 0, gpu, gpu),
        ):
            with pytest.raises(RuntimeError, match=r"expected all tensors on cuda:0, .* \[\(3,\)\] on the CPU"):
                mix()
        with pytest.raises(RuntimeError, match="on the CPU"):
            torch.nn.Linear(3, 3).to("cuda")(cpu)
        with pytest.raises(RuntimeError, match="on the CPU"):
            gpu[torch.tensor([0], device="cuda")] = cpu[:1]
        for array in (lambda: gpu.numpy(), lambda: np.asarray(gpu)):
            with pytest.raises(TypeError, match="numpy"):
                array()

    def test_what_crosses(self):
        gpu, cpu = torch.arange(3.0, device="cuda"), torch.arange(3.0)
        assert gpu.device == torch.device("cuda", 0)
        assert gpu.is_cuda
        assert (gpu + torch.tensor(1.0)).tolist() == [1, 2, 3]
        assert gpu[torch.tensor([2, 0])].device.type == "cuda"
        gpu[:2] = cpu[1:]
        assert gpu.copy_(cpu * 2) is gpu
        assert gpu.cpu().numpy().tolist() == [0, 2, 4]
        assert gpu.to(cpu).device.type == cpu.to(gpu).to(torch.float64).cpu().device.type == "cpu"
        assert gpu.new_zeros(2).is_cuda
        assert not gpu.new_zeros(2, device="cpu").is_cuda
        assert gpu.cpu() is not gpu
        assert cpu.to("cpu") is cpu

    def test_gradients_stay_on_the_gpu(self):
        layer = torch.nn.Linear(3, 1).to("cuda")
        layer(torch.ones(2, 3, device="cuda")).sum().backward()
        assert layer.weight.grad.is_cuda
        assert layer.weight.grad.tolist() == [[2, 2, 2]]
        leaf = torch.zeros(2, device="cuda", requires_grad=True)
        (leaf * 3).sum().backward()
        assert leaf.grad.tolist() == [3, 3]
