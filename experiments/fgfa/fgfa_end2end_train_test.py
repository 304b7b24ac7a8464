"""Train FGFA end to end, then test the last checkpoint: fgfa/train_end2end.py followed by fgfa/test.py.

Example: python experiments/fgfa/fgfa_end2end_train_test.py --cfg configs/fgfa/resnet_v1_18_flownet_synthetic_vid.yaml
"""

from __future__ import annotations

from fgfa import test, train_end2end
from fgfa.method import METHOD
from lib.command_line import run_script
from lib.engine.train_and_test import train_and_test


def main(argv: list[str] | None = None) -> None:
    train_and_test(__doc__, METHOD, train_end2end.main, test.main, argv)


if __name__ == "__main__":
    run_script(main)
