"""What the tests of the operators share."""

from pathlib import Path

import numpy as np
import pytest
import torch

SMALL_SET = Path(__file__).resolve().parents[1] / "golden" / "ops.npz"
IMPLEMENTATIONS = ("compiled", "reference")


class Recorded(dict):
    """Recorded arrays by name, as tensors."""

    def __getitem__(self, name: str) -> torch.Tensor:
        return torch.from_numpy(super().__getitem__(name))

    def number(self, name: str) -> float:
        return super().__getitem__(name).item()


@pytest.fixture(scope="session")
def recorded(golden):
    """What the originals' operators answered, case by case: the cases kept in the repository, or the whole set."""

    def load(case: str) -> Recorded:
        with np.load(SMALL_SET, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
        if not any(name.startswith(case) for name in arrays):
            arrays |= golden("layers_public")
        return Recorded({name: array for name, array in arrays.items() if name.startswith((case, "anchors_16_cxx"))})

    return load


@pytest.fixture(params=["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
def device(request) -> torch.device:
    return request.getfixturevalue("cuda") if request.param == "cuda" else torch.device("cpu")


def pytest_collection_modifyitems(items):
    """The one test that takes minutes comes last, so that everything else is known by then."""
    items.sort(key=lambda item: item.name == "test_cuda_sources_compile_and_link")
