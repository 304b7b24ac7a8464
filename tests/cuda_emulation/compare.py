"""CUDA kernels in emulation against the CPU kernels, case by case."""

from __future__ import annotations

import re
import time
from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from tests.cuda_emulation.build import ROOT
from tests.cuda_emulation.cases import aggregate, flow_warp, nms, proposals, psroi_pool
from tests.cuda_emulation.cases.draw import Operator
from tests.cuda_emulation.emulator import EmulatedOperators

# A new operator with a CUDA kernel gets a file in `cases` and its place here.
OPERATORS: dict[str, Operator] = {
    **flow_warp.OPERATORS,
    **psroi_pool.OPERATORS,
    **nms.OPERATORS,
    **proposals.OPERATORS,
    **aggregate.OPERATORS,
}
DOUBLE = 1e-12  # the tolerance of float64, where float32 has one


@dataclass
class Outcome:
    """Of all cases of one operator in one order."""

    cases: int = 0
    equal: int = 0  # with the same bits
    worst: float = 0.0  # largest difference, relative to the largest value of its result
    seconds: float = 0.0
    failure: str = ""  # of the first case that failed


def operators_with_cuda_kernels() -> set[str]:
    sources = (ROOT / "csrc" / "cuda").glob("*.cu")
    return {name for source in sources for name in re.findall(r'm\.impl\(\s*"(\w+)"', source.read_text())}


def compare_operator(emulator: EmulatedOperators, name: str, order: str, count: int, seed: int = 0) -> Outcome:
    """Run the edge cases and `count` random cases of operator `name` on both sides."""
    emulator.configure(order, seed)
    outcome, start = Outcome(), time.perf_counter()
    for arguments in OPERATORS[name].cases(count, seed):
        expected = _tensors(getattr(torch.ops.vod, name)(*arguments))
        if OPERATORS[name].contiguous:
            expected = [tensor.contiguous() for tensor in expected]
        actual = _tensors(emulator.run(name, *arguments))
        difference = max(_difference(a, b) for a, b in zip(actual, expected, strict=True))
        outcome.cases += 1
        outcome.equal += difference == 0
        outcome.worst = max(outcome.worst, difference)
        double = any(tensor.dtype == torch.float64 for tensor in expected)
        tolerance = OPERATORS[name].tolerance
        if difference > (min(DOUBLE, tolerance) if double else tolerance) and not outcome.failure:
            shown = ", ".join(_described(argument) for argument in arguments)
            outcome.failure = f"case {outcome.cases}: {name}({shown}) is off by {difference:.1e}"
    outcome.seconds = time.perf_counter() - start
    return outcome


def _tensors(result: Tensor | Iterable[Tensor]) -> list[Tensor]:
    return [result] if isinstance(result, Tensor) else list(result)


def _difference(actual: Tensor, expected: Tensor) -> float:
    """0 for the same bits, infinity for what cannot be compared; NaN equals NaN."""
    if (actual.shape, actual.dtype, actual.stride()) != (expected.shape, expected.dtype, expected.stride()):
        return float("inf")
    if not actual.is_floating_point():
        return 0.0 if torch.equal(actual, expected) else float("inf")
    same = (actual == expected) | (actual.isnan() & expected.isnan())
    if same.all():
        return 0.0
    off = (actual - expected)[~same].abs().max()
    largest = expected[expected.isfinite()].abs().max() if expected.isfinite().any() else torch.tensor(0.0)
    return (off / largest).nan_to_num(nan=float("inf")).item()


def _described(argument) -> str:
    if isinstance(argument, Tensor):
        return f"{str(argument.dtype).removeprefix('torch.')} {tuple(argument.shape)}"
    return str(argument)
