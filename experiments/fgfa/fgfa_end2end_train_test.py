"""Train FGFA end to end, then test the last checkpoint: fgfa/train_end2end.py followed by fgfa/test.py.

Example: python experiments/fgfa/fgfa_end2end_train_test.py --cfg configs/fgfa/resnet_v1_18_flownet_synthetic_vid.yaml
"""

from __future__ import annotations

import sys

from fgfa import test, train_end2end
from lib.command_line import run_script


def main(argv: list[str] | None = None) -> None:
    arguments = sys.argv[1:] if argv is None else argv
    train_end2end.main(arguments)
    test.main(arguments)


if __name__ == "__main__":
    run_script(main)
