"""The CUDA sources compile and link wherever an nvcc is, with or without a GPU, apart from the installed build."""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).resolve().parents[2]
WITHOUT = ("FORCE_CUDA", "TORCH_CUDA_ARCH_LIST", "CUDA_HOME")
CHECK = """
import torch
torch.ops.load_library({library!r})
assert torch.ops.vod.has_cuda_kernels()
NAMES = "flow_warp flow_warp_backward psroi_pool psroi_pool_backward psroi_vote nms nms_padded proposals aggregate"
for name in NAMES.split():
    for device in ("CPU", "CUDA"):
        assert torch._C._dispatch_has_kernel_for_dispatch_key("vod::" + name, device), (name, device)
assert torch.ops.vod.nms(torch.zeros(3, 4), torch.zeros(3), None, 0.5, False).tolist() == [0]
"""


def set_up(*arguments: str, **variables: str) -> subprocess.CompletedProcess:
    """Run setup.py with exactly these of the variables it looks at."""
    environment = {key: value for key, value in os.environ.items() if key not in WITHOUT} | variables
    command = [sys.executable, "setup.py", *arguments]
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)


def executable(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True)
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return path


def test_says_what_it_builds():
    result = set_up("--name", FORCE_CUDA="0")
    assert result.returncode == 0, result.stderr
    assert f"torch {torch.__version__}" in result.stdout
    assert "CUDA kernels: no (FORCE_CUDA=0)" in result.stdout


@pytest.mark.skipif(torch.version.cuda is None, reason="torch without CUDA")
def test_forced_without_a_compiler(tmp_path):
    result = set_up("--name", FORCE_CUDA="1", CUDA_HOME=str(tmp_path))
    assert result.returncode != 0
    assert f"there is no nvcc in {tmp_path}" in result.stderr


@pytest.mark.skipif(torch.version.cuda is None or torch.cuda.is_available(), reason="torch without CUDA, or a GPU")
def test_forced_without_a_gpu_or_an_architecture(tmp_path):
    executable(tmp_path / "bin" / "nvcc", "echo 'Cuda compilation tools, release 13.0, V13.0.88'")
    result = set_up("--name", FORCE_CUDA="1", CUDA_HOME=str(tmp_path))
    assert result.returncode != 0
    assert "TORCH_CUDA_ARCH_LIST='8.0;9.0'" in result.stderr


def test_finds_the_toolkit_behind_a_wrapper(tmp_path):
    wrapper = executable(tmp_path / "bin" / "nvcc", f"echo '#$ TOP={tmp_path}/real/bin/..' >&2")
    result = set_up("--name", FORCE_CUDA="0", PATH=f"{wrapper.parent}:{os.environ['PATH']}")
    assert f"toolkit {tmp_path}/real;" in result.stdout


@pytest.fixture
def objects():
    """Where compiled objects are kept, so that only the first run takes minutes; one run at a time."""
    folder = ROOT / "build" / "cuda-test"
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield folder


@pytest.mark.skipif(torch.version.cuda is None, reason="torch without CUDA")
@pytest.mark.skipif(shutil.which("nvcc") is None, reason="needs nvcc to compile the CUDA sources")
def test_cuda_sources_compile_and_link(tmp_path, objects):
    """One architecture without optimisation: two minutes of two cores; `conftest.py` puts it last."""
    result = set_up(
        "-q",
        "build_ext",
        f"--build-lib={tmp_path}",
        f"--build-temp={objects}",
        FORCE_CUDA="1",
        TORCH_CUDA_ARCH_LIST="9.0",
        NVCC_APPEND_FLAGS="-O0",
    )
    assert result.returncode == 0, result.stdout[-4000:] + result.stderr[-4000:]
    (library,) = tmp_path.glob("lib/ops/_C*.so")
    subprocess.run([sys.executable, "-c", CHECK.format(library=str(library))], check=True)
