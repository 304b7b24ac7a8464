"""Compiles CUDA sources with g++ into a library that runs them on the CPU.

The library is kept in build/cuda_emulation of the checkout, which git ignores, under a hash of all that it is made of:
sources, headers, flags, compiler, torch. Objects are kept one by one, so that a change to one .cu compiles one file.
CXX names the compiler (g++), MAX_JOBS bounds how many run at once.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import torch

from tests.cuda_emulation.translate import translate

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
FOLDER = ROOT / "build" / "cuda_emulation"
DAYS_KEPT = 14
HEADERS = (".h", ".cuh", ".hpp")
# As setup.py: no contraction to fused multiply-adds. Line numbers only, for messages.
COMMON = ("-std=c++20", "-fPIC", "-O1", "-g1", "-w", "-ffp-contract=off", "-fno-math-errno", "-fvisibility=hidden")
# Calls to runtime/access_hooks.cpp for each memory access. The macro is taken back: no thread sanitizer is there.
RACES = ("-fsanitize=thread", "--param=tsan-instrument-func-entry-exit=0", "-U__SANITIZE_THREAD__")
SANITIZERS = (
    "-fsanitize=address,undefined,float-cast-overflow",
    "-fno-sanitize-recover=all",
    "-fno-omit-frame-pointer",
)


@dataclass(frozen=True)
class Sources:
    """CUDA sources and the folder that their includes lie in; with torch's headers and libraries or without."""

    folder: Path
    sources: tuple[Path, ...]
    with_torch: bool

    def headers(self) -> list[Path]:
        return sorted(path for path in self.folder.rglob("*") if path.suffix in HEADERS)


def operator_sources() -> Sources:
    """All CUDA kernels of the project, whichever there are."""
    return Sources(ROOT / "csrc", tuple(sorted((ROOT / "csrc" / "cuda").glob("*.cu"))), with_torch=True)


def planted_sources() -> Sources:
    """Kernels for the tests of the emulation itself: right ones, and ones with a fault."""
    return Sources(HERE / "planted", tuple(sorted((HERE / "planted").glob("*.cu"))), with_torch=False)


def build(sources: Sources, sanitize: bool = False) -> Path:
    """The library of `sources`, compiled if it is not there yet; `sanitize`: with the address and UB sanitizers."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    with (FOLDER / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        _remove_old()
        compiler = _Compiler(sources, sanitize)
        with ThreadPoolExecutor(int(os.environ.get("MAX_JOBS", os.cpu_count() or 1))) as pool:
            objects = list(pool.map(lambda job: compiler.compile(*job), compiler.jobs()))
        return compiler.link(objects)


class _Compiler:
    def __init__(self, sources: Sources, sanitize: bool):
        self.sources = sources
        self.command = os.environ.get("CXX", "g++")
        checks = SANITIZERS if sanitize else ()
        self.link_flags = [*checks, "-shared", "-Wl,--no-undefined", "-Wl,-Bsymbolic", "-ldl"]
        self.runtime_flags = [*COMMON, *checks, f"-I{HERE / 'device'}", f"-I{HERE / 'runtime'}"]
        self.device_flags = [*COMMON, *(checks or RACES), f"-I{HERE / 'device'}", "-include", "cuda_runtime.h"]
        if sources.with_torch:
            home = Path(torch.__file__).parent
            for folder in (home / "include", home / "include" / "torch" / "csrc" / "api" / "include"):
                self.device_flags += ["-isystem", str(folder)]
                self.runtime_flags += ["-isystem", str(folder)]
            self.link_flags += [f"-L{home / 'lib'}", f"-Wl,-rpath,{home / 'lib'}", "-ltorch", "-ltorch_cpu", "-lc10"]
        own = sorted([*(HERE / "device").rglob("*"), *(HERE / "runtime").glob("*.h")])
        read = "".join(path.read_text() for path in [*own, *sources.headers()] if path.is_file())
        version = subprocess.run([self.command, "--version"], capture_output=True, text=True, check=True).stdout
        self.context = _hash(read, version, torch.__version__)

    def jobs(self) -> list[tuple[Path, list[str]]]:
        """(C++ source, flags) of each object."""
        tree = FOLDER / f"translated-{self.context}"
        for path in self.sources.headers():
            _write(tree / path.relative_to(self.sources.folder), self._translated(path))
        jobs = []
        for path in self.sources.sources:
            target = tree / path.relative_to(self.sources.folder).with_suffix(".cpp")
            _write(target, self._translated(path))
            jobs.append((target, self.device_flags))
        runtime = [*(HERE / "runtime").glob("*.cpp")]
        if self.sources.with_torch:
            runtime += (HERE / "runtime" / "torch").glob("*.cpp")
        return jobs + [(path, self.runtime_flags) for path in sorted(runtime)]

    def _translated(self, path: Path) -> str:
        return translate(path.read_text(), str(path.relative_to(self.sources.folder.parent)))

    def compile(self, source: Path, flags: list[str]) -> Path:
        target = FOLDER / f"{source.stem}-{_hash(source.read_text(), *flags, self.context)}.o"
        self._run([*flags, "-c", str(source)], target)
        return target

    def link(self, objects: list[Path]) -> Path:
        target = FOLDER / f"lib{self.sources.folder.name}-{_hash(*map(str, objects), *self.link_flags)}.so"
        self._run([*map(str, objects), *self.link_flags], target)
        return target

    def _run(self, arguments: list[str], target: Path) -> None:
        """Make `target` unless it is there; under another name first, so that a half-made one is never taken."""
        if target.exists():
            target.touch()
            return
        partial = target.with_suffix(".part")
        result = subprocess.run([self.command, *arguments, "-o", str(partial)], capture_output=True, text=True)
        if result.returncode:
            raise RuntimeError(f"{self.command} cannot make {target.name}:\n{result.stderr[:8000]}")
        partial.rename(target)


def _hash(*texts: str) -> str:
    return hashlib.sha256("\0".join(texts).encode()).hexdigest()[:16]


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    if not path.exists() or path.read_text() != text:
        path.write_text(text)


def _remove_old() -> None:
    """What no build has used for two weeks."""
    for path in FOLDER.glob("*-*"):
        if time.time() - path.stat().st_mtime > DAYS_KEPT * 86400:
            shutil.rmtree(path) if path.is_dir() else path.unlink()
