"""Training followed by the test of its last checkpoint, as one command."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence

from lib.engine.arguments import run_of, run_parser
from lib.engine.run import Method
from lib.engine.testing import open_test_set


def train_and_test(
    description: str,
    method: Method,
    train: Callable[[Sequence[str]], object],
    test: Callable[[Sequence[str]], object],
    argv: Sequence[str] | None,
) -> None:
    """Call `train`, then `test`, both with the arguments `argv`; None: those of the command line.

    description: of the script, for --help. The test set is opened before the training, so that what is missing or
    broken in it does not show hours later. Raises InputError.
    """
    arguments = sys.argv[1:] if argv is None else argv
    run = run_of(run_parser(description).parse_intermixed_args(arguments), method, needs_weights=False)
    if run.processes.is_main:
        open_test_set(run)
    train(arguments)
    test(arguments)
