"""Builds lib.ops._C (the operators' CPU kernels, and their CUDA kernels where they can be built) and the loops of
evaluation, Seq-NMS among them.

    pip install .                               # to use it
    pip install --no-build-isolation -e .       # to work on it, with the packages of requirements.txt installed

CUDA kernels are built when a GPU and nvcc are there; FORCE_CUDA=1 builds them without a GPU (TORCH_CUDA_ARCH_LIST then
says for which ones), FORCE_CUDA=0 leaves them out. MAX_JOBS bounds the compilers that run at once. SANITIZE=1 builds
with the sanitizers for addresses and undefined behaviour, for tools/sanitize.sh: slow, and only for their libraries.
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

import setuptools
from setuptools import Extension, find_packages, setup

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE / "tools" / "install"))

from dependencies import SETUPTOOLS, requirements, target_folders  # noqa: E402 (in a folder that is on no path before)

if int(setuptools.__version__.split(".")[0]) < SETUPTOOLS:  # without isolation, pip does not look at pyproject.toml's
    sys.exit(
        f"setuptools {setuptools.__version__} is too old for pyproject.toml. Run: "
        f"pip install 'setuptools>={SETUPTOOLS}'"
    )

WINDOWS, MACOS = sys.platform == "win32", sys.platform == "darwin"
# A finding ends the process. Conversions of floating numbers beyond an integer's range are no part of `undefined`.
SANITIZERS = (
    ["-fsanitize=address,undefined,float-cast-overflow", "-fno-sanitize-recover=all"]
    if os.environ.get("SANITIZE") == "1"
    else []
)


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
    nvcc = shutil.which("nvcc", path=str(CUDA_HOME / "bin")) if CUDA_HOME else None
    if nvcc is None:
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
        "Run: pip install -r requirements.txt && pip install --no-build-isolation -e .\n"
        "or, to use the package without working on it: pip install ."
    )


def require_compiler() -> None:
    """End the build with one line where there is no C++ compiler, or no headers of Python's. Windows finds its own."""
    compiler = os.environ.get("CXX", "c++" if MACOS else "g++").split()[0]
    if not WINDOWS and shutil.which(compiler) is None:
        cure = "xcode-select --install" if MACOS else "sudo apt install g++ (or your system's), or set CXX"
        sys.exit(f"There is no C++ compiler '{compiler}', which builds the operators. Install it: {cure}")
    if not Path(sysconfig.get_path("include"), "Python.h").is_file():
        sys.exit("Python's C headers (Python.h) are missing. Install them: sudo apt install python3-dev")


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


def compiler_flags() -> list[str]:
    """What every C and C++ file is compiled with.

    No contraction to fused multiply-adds: bins, grid positions and overlaps that end on a whole cell or at a threshold
    depend on the rounding, and the CPU, the GPU and the originals are to agree on them.
    """
    if WINDOWS:  # MSVC, which contracts nothing under /fp:precise
        return ["/O2", "/fp:precise"]
    speed = ["-O1", "-g1", "-fno-omit-frame-pointer"] if SANITIZERS else ["-O3", "-g0"]
    return [*speed, *SANITIZERS, "-ffp-contract=off", "-fno-trapping-math", "-fno-math-errno"]


def openmp_flags() -> tuple[list[str], list[str]]:
    """For the compiler and the linker. Apple's clang has no OpenMP: the kernels run on one thread there."""
    if WINDOWS:
        return ["/openmp"], []
    return ([], []) if MACOS else (["-fopenmp"], ["-fopenmp"])


def extension(with_cuda: bool):
    """The one extension module, with what its compilers are to be told."""
    sources = [Path("csrc/register.cpp"), *Path("csrc/cpu").glob("*.cpp")]
    openmp, link = openmp_flags()
    cxx = [*compiler_flags(), *openmp]
    nvcc = ["-O3", "--fmad=false"]
    if with_cuda:
        sources += Path("csrc/cuda").glob("*.cu")
        cxx.append("/DVOD_WITH_CUDA" if WINDOWS else "-DVOD_WITH_CUDA")
        for folder in pip_cuda_includes():  # as system folders: they come after the toolkit's own headers
            cxx += ["/external:I" if WINDOWS else "-isystem", str(folder)]
            nvcc += ["-isystem", str(folder)]
    return (CUDAExtension if with_cuda else CppExtension)(
        "lib.ops._C",
        sorted(str(path) for path in sources),
        extra_compile_args={"cxx": cxx, "nvcc": nvcc},
        extra_link_args=[*link, *SANITIZERS],
        py_limited_api=True,
    )


def evaluation_extensions() -> list[Extension]:
    """The loops of evaluation, in Cython and without torch: one module for each .pyx file."""
    if importlib.util.find_spec("Cython") is None:
        sys.exit(
            "Seq-NMS is built with Cython, which is not installed.\n"
            "Run: pip install -r requirements.txt && pip install --no-build-isolation -e .\n"
            "or, to use the package without working on it: pip install ."
        )
    return [
        Extension(
            f"lib.evaluation.{source.stem}",
            [str(source)],
            extra_compile_args=compiler_flags(),
            extra_link_args=SANITIZERS,
            py_limited_api=True,
        )
        for source in sorted(Path("lib/evaluation").glob("*.pyx"))
    ]


os.chdir(HERE)
require_compiler()
WITH_CUDA, REASON = choose_cuda()
print(f"lib.ops._C: torch {torch.__version__}, toolkit {CUDA_HOME}; CPU kernels: yes", flush=True)
print(f"lib.ops._C: CUDA kernels: {'yes' if WITH_CUDA else 'no'} ({REASON})", flush=True)
setup(
    packages=find_packages(include=["lib", "lib.*", "rfcn", "dff", "fgfa"]),
    install_requires=requirements(torch.__version__, target_folders()),
    ext_modules=[extension(WITH_CUDA), *evaluation_extensions()],
    cmdclass={"build_ext": BuildExtension},
    # `force`: the file's date does not show that the configuration changed. ninja still skips unchanged sources.
    options={"bdist_wheel": {"py_limited_api": "cp310"}, "build_ext": {"force": True}},
)
