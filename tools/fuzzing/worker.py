"""Try inputs of one kind in this process, one for each number on standard input; see runner.py.

Example: echo 0 | python -m tools.fuzzing.worker annotation 0 FOLDER
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import shutil
import sys
from pathlib import Path

from tools.fuzzing.attempts import attempt
from tools.fuzzing.kinds import KINDS


def main(kind: str, seed: int, scratch: Path) -> None:
    """Answer each number with a line of JSON: kind of outcome, its text, name of the input; null after the last."""
    answers = os.fdopen(os.dup(1), "w")
    # What libraries print, below Python too, is no part of the answers
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 1)
    os.dup2(null, 2)
    logging.basicConfig(level=logging.CRITICAL)
    known = KINDS[kind]
    for line in sys.stdin:
        case = known.input(int(line), seed)
        if case is None:
            answer = None
        else:
            folder = scratch / line.strip()
            outcome = attempt(case, folder)
            shutil.rmtree(folder, ignore_errors=True)
            answer = [outcome.kind, outcome.text, case.name]
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kind")
    parser.add_argument("seed", type=int)
    parser.add_argument("scratch", type=Path, help="folder for the inputs")
    main(**vars(parser.parse_args()))
