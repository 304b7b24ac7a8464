"""Train Deep Feature Flow end to end, then test the last checkpoint: dff/train_end2end.py followed by dff/test.py.

Example: python experiments/dff/dff_end2end_train_test.py --cfg configs/dff/resnet_v1_18_flownet_synthetic_vid.yaml
"""

from __future__ import annotations

from dff import test, train_end2end
from dff.method import METHOD
from lib.command_line import run_script
from lib.engine.train_and_test import train_and_test


def main(argv: list[str] | None = None) -> None:
    train_and_test(__doc__, METHOD, train_end2end.main, test.main, argv)


if __name__ == "__main__":
    run_script(main)
