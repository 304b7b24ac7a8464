"""Load the extensions that Cython compiles; the error says how to build them."""

from __future__ import annotations

import importlib
from types import ModuleType

from lib.errors import BUILD_COMMAND


def load_compiled(name: str, user: str) -> ModuleType:
    """Import the extension module `lib.evaluation.<name>` for the module `user`. Raises ImportError."""
    try:
        return importlib.import_module(f"lib.evaluation.{name}")
    except ImportError as error:
        raise ImportError(
            f"{user} needs its compiled extension, which does not load: {error}\n"
            f"Build it from the top folder of this repository:\n    {BUILD_COMMAND}"
        ) from error
