"""Fixtures of all tests: the recordings of the originals, where they are available, a tiny data set, and the GPU."""

import signal
from pathlib import Path

import numpy as np
import pytest
import torch

from lib.models.precision import set_precision
from tools.make_synthetic_vid import main as make_synthetic_vid
from tools.parity.rows import Recording

# A shell starts jobs in the background with SIGINT ignored, nohup with SIGHUP ignored, which everything that a test
# starts would inherit, and rightly respect
signal.signal(signal.SIGINT, signal.default_int_handler)
if hasattr(signal, "SIGHUP"):
    signal.signal(signal.SIGHUP, signal.SIG_DFL)

SHARED = Path(__file__).resolve().parents[2] / "shared"


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_protocol(item):
    """Tests that are not marked `gpu` see no GPU, nor does what they start: they compare with numbers of the CPU."""
    with pytest.MonkeyPatch.context() as patch:
        if item.get_closest_marker("gpu") is None:
            patch.setenv("CUDA_VISIBLE_DEVICES", "")
            patch.setattr(torch.cuda, "is_available", lambda: False)
        return (yield)


@pytest.fixture
def cuda() -> torch.device:
    """The GPU, which computes in float32 without TF32; skips the test where there is none."""
    if not torch.cuda.is_available():
        pytest.skip("needs a CUDA device")
    device = torch.device("cuda")
    set_precision("float32", device)
    return device


@pytest.fixture
def cuda_kernels(cuda) -> torch.device:
    """The GPU, where lib.ops has CUDA kernels: what stands in for them waits for the GPU and sums in another order."""
    if not torch.ops.vod.has_cuda_kernels():
        pytest.skip("needs lib.ops with CUDA kernels (FORCE_CUDA=1 python setup.py build_ext --inplace)")
    return cuda


@pytest.fixture(autouse=True)
def _any_kernels_of_torch():
    """Training asks torch for repeatable kernels for the whole process; no test shall notice an earlier one's."""
    torch.use_deterministic_algorithms(False)


@pytest.fixture(scope="session")
def golden():
    """A function that loads one recorded set by name, or skips the test where the recordings are not available."""

    def load(name: str) -> dict[str, np.ndarray]:
        path = SHARED / "golden" / f"{name}.npz"
        if not path.is_file():
            pytest.skip(f"needs the recorded numbers of the originals ({name}.npz), which are not on this machine")
        with np.load(path, allow_pickle=False) as file:
            return {key: file[key] for key in file.files}

    return load


@pytest.fixture(scope="session")
def recording(golden):
    """A function that loads one recorded set by name for `tools.parity`, or skips the test as `golden` does."""
    return lambda name: Recording(name, golden(name))


@pytest.fixture(scope="session")
def golden_dir() -> Path:
    """The folder of the recordings; skips the test where it is not available."""
    path = SHARED / "golden"
    if not path.is_dir():
        pytest.skip("needs the recorded numbers of the originals, which are not on this machine")
    return path


@pytest.fixture(scope="session")
def tiny_dataset(tmp_path_factory) -> Path:
    """Four videos to train on, two to test on, of six frames of 160 x 128, and four stills; not to be changed."""
    folder = tmp_path_factory.mktemp("data") / "tiny"
    arguments = "--train-videos 4 --val-videos 2 --frames 6 --stills 4 --size 160x128 --workers 1"
    make_synthetic_vid(["--out", str(folder), *arguments.split()])
    return folder
