"""Train R-FCN end to end, then test the last checkpoint: rfcn/train_end2end.py followed by rfcn/test.py.

Example: python experiments/rfcn/rfcn_end2end_train_test.py --cfg configs/rfcn/resnet_v1_18_synthetic_vid.yaml
"""

from __future__ import annotations

import sys

from lib.command_line import run_script
from rfcn import test, train_end2end


def main(argv: list[str] | None = None) -> None:
    arguments = sys.argv[1:] if argv is None else argv
    train_end2end.main(arguments)
    test.main(arguments)


if __name__ == "__main__":
    run_script(main)
