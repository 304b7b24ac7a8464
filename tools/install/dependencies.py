"""What the package needs to run, as ranges, and what of it follows from the environment that it is installed into.

Imported by setup.py and by the build backend beside this file, where nothing but the standard library is there.
"""

from __future__ import annotations

import sysconfig
from collections.abc import Iterable
from importlib import metadata

# The oldest versions that the tests pass with (tools/test_versions.sh runs them: tools/install/oldest.txt)
OLDEST_PYTHON = (3, 10)
TORCH = "torch>=2.11"
# NumPy from 2.0 on: before, a float32 number times a Python number was a float64 one
RANGES = (
    "numpy>=2.0",
    "pyyaml>=6.0.1",
    "easydict>=1.10",
    "pycocotools>=2.0.8",
    "tqdm>=4.65",
    "av>=17",
    "tensorboard>=2.17.1",  # before, it used names that NumPy 2 has not
    "matplotlib>=3.9",
    "scipy>=1.13",
)
OPENCV = "opencv-python>=5.0"  # cv2.FontFace, with which names are drawn
# Builds of OpenCV that bring the same module: two of them in one environment overwrite each other
_OTHER_OPENCV = ("opencv-python-headless", "opencv-contrib-python", "opencv-contrib-python-headless")
SETUPTOOLS = 77  # reads a licence that is written as `license = "MIT"`
BUILD = (f"setuptools>={SETUPTOOLS}", "cython>=3.1", "ninja>=1.11")


def target_folders() -> list[str]:
    """Where the interpreter keeps its packages, which pip hides from an isolated build."""
    return sorted({sysconfig.get_path("purelib"), sysconfig.get_path("platlib")})


def is_installed(name: str, folders: Iterable[str]) -> bool:
    """Whether a package is in one of these folders."""
    return any(True for _ in metadata.distributions(name=name, path=list(folders)))


def requirements(torch_version: str, folders: Iterable[str]) -> list[str]:
    """What a build against this version of torch needs to run, beside what is installed in `folders`.

    torch has no stable interface for extensions: one that was built against 2.14.1 loads with every 2.14, and
    with no other. So pip leaves the torch alone that is installed.
    """
    major, minor = torch_version.split(".")[:2]
    folders = list(folders)
    other = next((name for name in _OTHER_OPENCV if is_installed(name, folders)), None)
    opencv = OPENCV.replace("opencv-python", other) if other else OPENCV
    return [f"torch=={major}.{minor}.*", opencv, *RANGES]
