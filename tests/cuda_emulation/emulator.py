"""A built library in this process: its settings, its errors, and the operators in it."""

from __future__ import annotations

import ctypes
import re
import subprocess
from contextlib import contextmanager, nullcontext
from functools import cache
from pathlib import Path

import torch

from tests.cuda_emulation.build import ROOT
from tests.cuda_emulation.translate import NAMESPACE

ORDERS = ("forward", "reverse", "random")
COUNTED = ("launches", "blocks", "threads", "barriers", "warp operations", "atomics", "accesses")


class EmulationError(Exception):
    """A kernel did what CUDA does not allow: a data race, a barrier that not all reach, a launch that cannot be."""


class Emulator:
    """Runs the kernels of one library. `order` is that of threads and of blocks; `seed` is for the random one."""

    def __init__(self, library: Path, sanitized: bool = False):
        self.path = library
        self.sanitized = sanitized
        self.library = ctypes.CDLL(str(library))
        for take in (self.library.emulation_take_error, self.library.emulation_take_unchecked):
            take.restype = ctypes.c_char_p
        self.library.emulation_counts.restype = ctypes.POINTER(ctypes.c_int64)
        self.library.emulation_configure.argtypes = [ctypes.c_int, ctypes.c_uint64, ctypes.c_bool]
        self.configure()

    def configure(self, order: str = "forward", seed: int = 0, check_races: bool = True) -> None:
        """Races are looked for in builds without sanitizers only: a compiler inserts the calls of one of the two."""
        self.library.emulation_configure(ORDERS.index(order), seed, check_races and not self.sanitized)

    def counts(self) -> dict[str, int]:
        """What has been run since the library was loaded."""
        return dict(zip(COUNTED, self.library.emulation_counts()[: len(COUNTED)], strict=True))

    def take_error(self) -> str:
        """What went wrong in the last launch, with places in the source, unless the launch was checked; or ""."""
        return self.with_places(self.library.emulation_take_error().decode())

    def take_unchecked(self) -> str:
        """The kernel that was launched last, if that launch was not checked; or ""."""
        return self.library.emulation_take_unchecked().decode()

    def with_places(self, message: str) -> str:
        """The message with "csrc/cuda/nms.cu:44" for the offset of an instruction in the library, "[+0x1234]"."""

        def place(match: re.Match) -> str:
            command = ["addr2line", "-e", str(self.path), match[1]]
            try:
                answer = subprocess.run(command, capture_output=True, text=True, check=True).stdout
            except (OSError, subprocess.CalledProcessError):
                return match[0]
            return answer.split(" (")[0].strip().removeprefix(f"{ROOT}/")

        return re.sub(r"\[\+(0x[0-9a-f]+)\]", place, message.split("\nException raised from")[0])


class EmulatedOperators(Emulator):
    """The project's operators with their CUDA kernels in emulation, on CPU tensors, beside those of `torch.ops.vod`."""

    def __init__(self, library: Path, sanitized: bool = False):
        torch.ops.load_library(library)
        for name in _operators_of("vod"):
            if not hasattr(getattr(torch.ops, NAMESPACE), name):
                _schemas().define(str(torch._C._get_schema(f"vod::{name}", "")).removeprefix("vod::"))
        super().__init__(library, sanitized)

    def run(self, name: str, *arguments):
        """Operator `name`. What PyTorch hands out as empty is filled with NaN or large numbers first, except for the
        backward passes, which would warn of themselves under that setting (and begin with zeros)."""
        operator = getattr(getattr(torch.ops, NAMESPACE), name)
        self.take_error(), self.take_unchecked()
        try:
            with self._guarded_memory(), _filled_memory() if not name.endswith("_backward") else nullcontext():
                result = operator(*map(_copied, arguments))
        except RuntimeError as error:
            if not re.match("kernel |the launch of |emulation: ", str(error)):
                raise
            raise EmulationError(self.with_places(str(error))) from None
        unchecked = self.take_unchecked()
        if unchecked:
            raise EmulationError(f"the launch of {unchecked} was not checked")
        return result

    @contextmanager
    def _guarded_memory(self):
        """What is allocated here has margins, and a kernel that touches one is caught; sanitizers have their own."""
        self.library.emulation_guard_tensors(not self.sanitized)
        try:
            yield
        finally:
            self.library.emulation_guard_tensors(False)


@cache
def _schemas() -> torch.library.Library:
    """The declarations of the emulated operators, until the process ends. With the object they would end while
    `torch.ops` still lists the operators, and torch fails wherever it goes through the list, as `opcheck` does.
    """
    return torch.library.Library(NAMESPACE, "FRAGMENT")


def _copied(argument):
    """The same values in the same layout, in memory that begins and ends with them."""
    if not isinstance(argument, torch.Tensor):
        return argument
    return torch.empty_strided(argument.size(), argument.stride(), dtype=argument.dtype).copy_(argument)


def _operators_of(namespace: str) -> list[str]:
    names = torch._C._dispatch_get_all_op_names()
    return sorted(name.split("::")[1] for name in names if name.startswith(f"{namespace}::") and "." not in name)


@contextmanager
def _filled_memory():
    """As torch.use_deterministic_algorithms(True, warn_only=True), without the two seconds that its imports take."""
    before = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
    torch._C._set_deterministic_algorithms(True, warn_only=True)
    try:
        yield
    finally:
        torch._C._set_deterministic_algorithms(before[0], warn_only=before[1])
