"""Loads the loops that Cython compiles, and says how to build them where they do not load."""

from __future__ import annotations

import importlib
from types import ModuleType

INSTALL_COMMAND = "pip install --no-build-isolation -e ."


def load_compiled(name: str, user: str) -> ModuleType:
    """The extension module `lib.evaluation.<name>`, which the module `user` needs. Raises ImportError."""
    try:
        return importlib.import_module(f"lib.evaluation.{name}")
    except ImportError as error:
        raise ImportError(
            f"{user} needs its compiled extension, which does not load: {error}\n"
            f"Build it from the top folder of this repository:\n    {INSTALL_COMMAND}"
        ) from error
