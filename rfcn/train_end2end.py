"""Train R-FCN end to end: the single-frame detector.

Example: python rfcn/train_end2end.py --cfg configs/rfcn/resnet_v1_18_synthetic_vid.yaml TRAIN.lr=1e-3
"""

from __future__ import annotations

from lib.engine.commands import parse_run, run_script, train_run
from rfcn.method import METHOD


def main(argv: list[str] | None = None) -> None:
    run, _ = parse_run(__doc__, argv)
    train_run(run, METHOD)


if __name__ == "__main__":
    run_script(main)
