"""Peak memory is this process's own."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from lib.engine.memory import peak_host_gib

ROOT = Path(__file__).resolve().parents[2]
MEASURE = (
    "import numpy as np; x = np.ones({size}, np.uint8); from lib.engine.memory import peak_host_gib as p; print(p())"
)


def peak_of_a_process(size: int) -> float:
    command = [sys.executable, "-c", MEASURE.format(size=size)]
    return float(subprocess.run(command, check=True, capture_output=True, text=True, cwd=ROOT).stdout)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="other systems count in another way")
def test_peak_is_not_that_of_the_process_that_started_this_one():
    large = np.ones(2**30, np.uint8)
    assert peak_host_gib() > 1
    little, more = peak_of_a_process(1), peak_of_a_process(2**28)
    assert large[-1] == 1
    assert 0.01 < little < 0.9
    assert more - little == pytest.approx(0.25, abs=0.1)
