"""Builds lib.ops._C (the operators' CPU kernels, and their CUDA kernels where they can be built) and the loops of
evaluation, Seq-NMS among them.

    pip install --no-build-isolation -e .

CUDA kernels are built when a GPU and nvcc are there; FORCE_CUDA=1 builds them without a GPU (TORCH_CUDA_ARCH_LIST then
says for which ones), FORCE_CUDA=0 leaves them out. MAX_JOBS bounds the compilers that run at once.
"""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

from setuptools import Extension, find_packages, setup

HERE = Path(__file__).resolve().parent


def cuda_home() -> Path | None:
    """The folder of the CUDA toolkit: CUDA_HOME, or what the nvcc on the PATH says of itself (it may be a wrapper)."""
    if os.environ.get("CUDA_HOME"):
        return Path(os.environ["CUDA_HOME"])
    nvcc = shutil.which("nvcc") or shutil.which("nvcc", path="/usr/local/cuda/bin")
    if nvcc is None:
        return None
    plan = subprocess.run([nvcc, "--dryrun", "-x", "cu", "-E", os.devnull], capture_output=True, text=True)
    top = re.search(r"^#\$ TOP=(.+)$", plan.stderr, re.MULTILINE)
    return Path(top.group(1).strip() if top else Path(nvcc).resolve().parents[1]).resolve()


def nvcc_major() -> str | None:
    """First number of the version of the toolkit's nvcc, or None if it does not answer."""
    nvcc = CUDA_HOME / "bin" / "nvcc" if CUDA_HOME else None
    if nvcc is None or not nvcc.is_file():
        return None
    answer = subprocess.run([nvcc, "--version"], capture_output=True, text=True)
    version = re.search(r"release (\d+)\.", answer.stdout)
    return version.group(1) if version else None


# torch looks for CUDA while it is imported, and takes the folder above a wrapper for the toolkit.
CUDA_HOME = cuda_home()
if CUDA_HOME is not None:
    os.environ["CUDA_HOME"] = str(CUDA_HOME)

try:
    import torch
    from torch.utils.cpp_extension import BuildExtension, CppExtension, CUDAExtension
except ImportError as error:
    sys.exit(
        f"The extension is built against the torch that is installed, and none can be imported ({error}).\n"
        "Run: pip install -r requirements.txt && pip install --no-build-isolation -e ."
    )


def choose_cuda() -> tuple[bool, str]:
    """Whether CUDA kernels are to be built, and why; ends the build where they are asked for and cannot be."""
    forced, gpu, nvcc = os.environ.get("FORCE_CUDA"), torch.cuda.is_available(), nvcc_major()
    if forced == "0":
        return False, "FORCE_CUDA=0"
    if forced == "1":
        if torch.version.cuda is None:
            sys.exit(f"FORCE_CUDA=1, but the installed torch {torch.__version__} has no CUDA support.")
        if nvcc is None:
            sys.exit(
                f"FORCE_CUDA=1, but there is no nvcc in {CUDA_HOME or 'PATH'} that works. Install it or set CUDA_HOME."
            )
        if not gpu and not os.environ.get("TORCH_CUDA_ARCH_LIST"):
            sys.exit(
                "FORCE_CUDA=1 and no GPU is visible: set TORCH_CUDA_ARCH_LIST to the compute capabilities to build "
                "for, for example TORCH_CUDA_ARCH_LIST='8.0;9.0'."
            )
        return True, "FORCE_CUDA=1"
    if not gpu:
        return False, "no GPU is visible"
    if nvcc is None:
        return False, "there is a GPU, but no nvcc; slower PyTorch versions will stand in"
    if nvcc != torch.version.cuda.split(".")[0]:
        return False, f"there is a GPU, but nvcc {nvcc} cannot build for torch's CUDA {torch.version.cuda}"
    return True, "a GPU and nvcc are there"


def pip_cuda_includes() -> list[Path]:
    """Headers that torch's own need and that a small toolkit lacks; they come with torch's CUDA wheels."""
    packages = {Path(sysconfig.get_path(key)) for key in ("purelib", "platlib")} | {Path(torch.__file__).parents[1]}
    major = torch.version.cuda.split(".")[0]
    return sorted(path for p in packages if (path := p / "nvidia" / f"cu{major}" / "include").is_dir())


def extension(with_cuda: bool):
    """The one extension module, with what its compilers are to be told."""
    sources = [Path("csrc/register.cpp"), *Path("csrc/cpu").glob("*.cpp")]
    # No contraction to fused multiply-adds: bins and grid positions that end on a whole cell depend on the rounding,
    # and the CPU, the GPU and the originals are to agree on them.
    cxx = ["-O3", "-g0", "-fopenmp", "-ffp-contract=off", "-fno-trapping-math", "-fno-math-errno"]
    nvcc = ["-O3", "--fmad=false"]
    if with_cuda:
        sources += Path("csrc/cuda").glob("*.cu")
        cxx.append("-DVOD_WITH_CUDA")
        for folder in pip_cuda_includes():  # as system folders: they come after the toolkit's own headers
            cxx += ["-isystem", str(folder)]
            nvcc += ["-isystem", str(folder)]
    return (CUDAExtension if with_cuda else CppExtension)(
        "lib.ops._C",
        sorted(str(path) for path in sources),
        extra_compile_args={"cxx": cxx, "nvcc": nvcc},
        extra_link_args=["-fopenmp"],
        py_limited_api=True,
    )


def evaluation_extensions() -> list[Extension]:
    """The loops of evaluation, in Cython and without torch: one module for each .pyx file."""
    if importlib.util.find_spec("Cython") is None:
        sys.exit(
            "Seq-NMS is built with Cython, which is not installed.\n"
            "Run: pip install -r requirements.txt && pip install --no-build-isolation -e ."
        )
    return [
        Extension(
            f"lib.evaluation.{source.stem}",
            [str(source)],
            # No contraction here either: whether an IoU reaches its threshold depends on the rounding.
            extra_compile_args=["-O3", "-g0", "-ffp-contract=off", "-fno-trapping-math", "-fno-math-errno"],
            py_limited_api=True,
        )
        for source in sorted(Path("lib/evaluation").glob("*.pyx"))
    ]


os.chdir(HERE)
WITH_CUDA, REASON = choose_cuda()
print(f"lib.ops._C: torch {torch.__version__}, toolkit {CUDA_HOME}; CPU kernels: yes", flush=True)
print(f"lib.ops._C: CUDA kernels: {'yes' if WITH_CUDA else 'no'} ({REASON})", flush=True)
setup(
    packages=find_packages(include=["lib", "lib.*", "rfcn", "dff", "fgfa"]),
    ext_modules=[extension(WITH_CUDA), *evaluation_extensions()],
    cmdclass={"build_ext": BuildExtension},
    # `force`: the file's date does not show that the configuration changed. ninja still skips unchanged sources.
    options={"bdist_wheel": {"py_limited_api": "cp310"}, "build_ext": {"force": True}},
)
