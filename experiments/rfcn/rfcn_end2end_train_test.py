"""Train R-FCN end to end, then test the last checkpoint: rfcn/train_end2end.py followed by rfcn/test.py.

Example: python experiments/rfcn/rfcn_end2end_train_test.py --cfg configs/rfcn/resnet_v1_18_synthetic_vid.yaml
"""

from __future__ import annotations

from lib.command_line import run_script
from lib.engine.train_and_test import train_and_test
from rfcn import test, train_end2end
from rfcn.method import METHOD


def main(argv: list[str] | None = None) -> None:
    train_and_test(__doc__, METHOD, train_end2end.main, test.main, argv)


if __name__ == "__main__":
    run_script(main)
