"""Random numbers that depend only on the seed and the position in the training, so that a resumed run is identical."""

from __future__ import annotations

import random

import numpy as np
import torch

_UINT32 = 0xFFFFFFFF


def seed_everything(seed: int, deterministic: bool = True) -> None:
    """Seed the global generators of Python, NumPy and torch; with `deterministic`, use deterministic kernels of torch.

    Use `deterministic` on the CPU only: on CUDA some operators have no such kernel and would raise an error.
    """
    random.seed(seed)
    np.random.seed(seed & _UINT32)  # some libraries still draw from NumPy's global generator
    torch.manual_seed(seed)
    torch.use_deterministic_algorithms(deterministic)
    torch.utils.deterministic.fill_uninitialized_memory = False  # it costs time and nothing here reads such memory


def batch_rng(seed: int, update: int, batch: int) -> np.random.RandomState:
    """The generator for the training targets of batch `batch` (from 0) of update `update` (from 1)."""
    return np.random.RandomState([seed & _UINT32, update & _UINT32, batch & _UINT32])


def batch_seed(seed: int, update: int, batch: int) -> int:
    """A seed for torch's generator (dropout and the like) in that batch; different positions have different seeds."""
    words = [seed & _UINT32, update & _UINT32, batch & _UINT32]
    return int(np.random.SeedSequence(words).generate_state(1, np.uint64)[0] >> 1)
