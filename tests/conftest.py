"""Fixtures of all tests: the recordings of the originals, where they are available."""

import signal
from pathlib import Path

import numpy as np
import pytest
import torch

from tools.parity.rows import Recording

# A shell starts jobs in the background with SIGINT ignored, nohup with SIGHUP ignored, which everything that a test
# starts would inherit, and rightly respect
signal.signal(signal.SIGINT, signal.default_int_handler)
if hasattr(signal, "SIGHUP"):
    signal.signal(signal.SIGHUP, signal.SIG_DFL)

SHARED = Path(__file__).resolve().parents[2] / "shared"


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
