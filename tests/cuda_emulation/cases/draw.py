"""What the cases of all operators are made with."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

LAYOUTS = ("contiguous", "channels last", "transposed", "sliced")


class Draw:
    """Random numbers and tensors, the same ones for the same seed."""

    def __init__(self, seed: int):
        self.generator = torch.Generator().manual_seed(seed)

    def number(self, low: int, high: int) -> int:
        """From low to high, both included."""
        return int(torch.randint(low, high + 1, (), generator=self.generator))

    def choice(self, options):
        return options[self.number(0, len(options) - 1)]

    def chance(self, one_in: int) -> bool:
        return self.number(1, one_in) == 1

    def normal(self, *shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
        return torch.randn(*shape, generator=self.generator, dtype=dtype)

    def uniform(self, *shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
        return torch.rand(*shape, generator=self.generator, dtype=dtype)

    def integers(self, low: int, high: int, *shape: int) -> Tensor:
        return torch.randint(low, high + 1, shape, generator=self.generator)

    def dtype(self) -> torch.dtype:
        return torch.float64 if self.chance(5) else torch.float32

    def layout(self, tensor: Tensor) -> Tensor:
        """The same values in one of several memory layouts."""
        return laid_out(tensor, self.choice(LAYOUTS))


def laid_out(tensor: Tensor, layout: str) -> Tensor:
    if layout == "channels last" and tensor.dim() == 4:
        return tensor.contiguous(memory_format=torch.channels_last)
    if layout == "transposed" and tensor.dim() > 1:
        return tensor.transpose(-1, -2).contiguous().transpose(-1, -2)
    if layout == "sliced":
        return torch.cat((tensor, tensor), dim=-1)[..., : tensor.shape[-1]]
    return tensor


Arguments = tuple  # what one call of an operator is given


@dataclass(frozen=True)
class Operator:
    """Where the cases of an operator come from, and how far CUDA's kernel may be from the CPU's."""

    edges: Callable[[], Iterator[Arguments]]  # the cases that are always tried: empty, smallest, not a number
    drawn: Callable[[Draw], Arguments]  # any other case
    tolerance: float = 0.0  # of float32, relative to the largest value of a result; 0: the same bits
    contiguous: bool = (
        False  # CUDA's result is contiguous whatever the inputs are; otherwise it is laid out as the CPU's
    )

    def cases(self, count: int, seed: int = 0) -> Iterator[Arguments]:
        """All edge cases, then as many drawn ones as `count` says."""
        yield from self.edges()
        draw = Draw(seed)
        for _ in range(count):
            yield self.drawn(draw)
