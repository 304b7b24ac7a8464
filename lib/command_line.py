"""What the tools that need no network share: how they end, and how they are told of a data set."""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Callable

from lib.errors import InputError


def run_tool(main: Callable[[], int | None]) -> None:
    """Call a tool's `main` and end with the status that it returns; with 2 and one line where the user has to mend."""
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s: %(message)s")
    try:
        sys.exit(main())
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)


def add_classes_argument(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--classes", default="", metavar="FILE", help="default: DIR/classes.txt, or else ImageNet VID's 30 classes"
    )


def add_cache_argument(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--cache", default="data/cache", metavar="DIR", help="for the index of the annotations; default: %(default)s"
    )
