import pytest
import torch


@pytest.fixture(autouse=True)
def _determinism_as_before():
    """Training asks torch for repeatable kernels for the whole process; other tests shall not notice."""
    before = torch.are_deterministic_algorithms_enabled()
    yield
    torch.use_deterministic_algorithms(before)
