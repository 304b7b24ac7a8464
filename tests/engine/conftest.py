"""What several tests of this folder begin with."""

from __future__ import annotations

import pytest

from tests.data.toy_vid import AIRPLANE, BIRD, write_toy


@pytest.fixture
def data(tmp_path):
    """A toy data set of two classes that has its own class list."""
    root = write_toy(tmp_path / "toy")
    (root / "classes.txt").write_text(f"{AIRPLANE} airplane\n{BIRD} bird\n")
    return root
