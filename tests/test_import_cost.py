"""What a script brings with it: nobody who tests or uses a detector waits for the generator or the pre-training."""

from __future__ import annotations

import functools
import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
OURS = ("lib", "rfcn", "dff", "fgfa", "tools", "experiments", "tests")
# What was imported when this was written, and some room: where a larger number is needed, say why beside it
MOST = {"rfcn.test": 93 + 4, "lib.video_detector": 65 + 4}  # 65: lib.engine.distributed needs interruption
ENTRANCES = ("rfcn.test", "dff.test", "fgfa.test", "rfcn.demo", "fgfa.train_end2end", "lib.video_detector")
ELSEWHERE = ("lib.synthetic", "lib.pretraining", "lib.report", "tools", "experiments", "tests")
HEAVY = ("matplotlib", "pandas", "pycocotools", "tensorboard", "torchvision")


@functools.cache
def imported(module: str) -> frozenset[str]:
    """All modules that a new process has after importing `module`."""
    code = f"import json, sys\nimport {module}\nprint(json.dumps(sorted(sys.modules)))"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=300, check=True
    )
    return frozenset(json.loads(done.stdout))


def under(module: str, *names: str) -> bool:
    return any(module == name or module.startswith(f"{name}.") for name in names)


@pytest.mark.parametrize("module", ENTRANCES)
def test_the_generator_and_the_tools_stay_outside(module):
    found = imported(module)
    assert module in found
    assert sorted(name for name in found if under(name, *ELSEWHERE, *HEAVY)) == []


def test_the_python_api_needs_no_scipy():
    assert sorted(name for name in imported("lib.video_detector") if under(name, "scipy", "tqdm.contrib")) == []


@pytest.mark.parametrize("module", MOST)
def test_the_number_of_our_modules_does_not_grow_unseen(module):
    ours = sorted(name for name in imported(module) if under(name, *OURS))
    assert len(ours) <= MOST[module], f"{len(ours)} modules, more than {MOST[module]}: {ours}"


def test_the_package_itself_imports_nothing():
    """The tools that check an installation must start where nothing is installed."""
    assert sorted(name for name in imported("lib") if under(name, "lib", "torch", "numpy", "cv2")) == [
        "lib",
        "lib.version",
    ]
