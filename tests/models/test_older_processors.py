"""The form for inference on processors with fewer instructions than this one, of which oneDNN is told."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from lib.models.inference_form import prepare_for_inference
from lib.models.precision import set_precision
from tests.models.small_video import small_dff

ROOT = Path(__file__).resolve().parents[2]
PRECISIONS = {"float32": 1e-5, "bfloat16": 0.03, "int8": 0.1}  # with the largest difference, of the largest value
pytestmark = pytest.mark.skipif(
    platform.machine() not in ("x86_64", "AMD64") or not torch.backends.mkldnn.is_available(),
    reason="needs oneDNN on an x86 processor",
)


@torch.no_grad()
def outputs(precision: str) -> dict[str, torch.Tensor]:
    """The features, flow, scale map, scores and deltas of a small DFF with random weights for two random images."""
    torch.manual_seed(0)
    model = small_dff().eval()
    reduced = set_precision(precision, torch.device("cpu"))
    prepare_for_inference(model, reduced, int8=precision == "int8")
    torch.manual_seed(1)
    first, second = torch.randn(2, 1, 3, 64, 96)
    features = model.features(second).float()
    flow, scale = model.flow_net(first, second)
    head = model.detector.head(features.chunk(2, dim=1)[1], torch.tensor([[0.0, 3, 5, 60, 50], [0.0, 20, 8, 90, 40]]))
    return {"features": features, "flow": flow, "scale": scale, "scores": head[0], "deltas": head[1]}


def main(path: str, precisions: list[str]) -> None:
    """In a process of its own, as oneDNN looks at its variable only once."""
    torch.cpu._is_avx512_bf16_supported = lambda: False  # torch looks at the processor, not at the variable
    torch.save({precision: outputs(precision) for precision in precisions}, path)


@pytest.mark.parametrize(
    ("instructions", "precisions"),
    [
        ("SSE41", ("float32", "bfloat16")),
        ("AVX2", ("float32", "bfloat16")),
        ("AVX512_CORE", ("float32", "bfloat16")),
        pytest.param(
            "AVX512_CORE_VNNI",
            ("int8",),
            marks=pytest.mark.skipif(not torch.cpu._is_vnni_supported(), reason="needs AVX-512 VNNI"),
        ),
    ],
)
def test_fewer_instructions_give_the_same(tmp_path, instructions, precisions):
    path = tmp_path / "outputs.pth"
    code = f"from tests.models.test_older_processors import main; main({str(path)!r}, {precisions})"
    environment = {**os.environ, "ONEDNN_MAX_CPU_ISA": instructions}
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=environment, check=True, timeout=300)
    expected = outputs("float32")
    for precision, found in torch.load(path, weights_only=True).items():
        for name, right in expected.items():
            assert found[name].dtype == torch.float32, (precision, name)
            difference = (found[name] - right).abs().max() / right.abs().max()
            assert difference <= PRECISIONS[precision], (precision, name)
