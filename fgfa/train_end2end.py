"""Train FGFA end to end: features of neighbouring frames, moved along optical flow and averaged.

Example: python fgfa/train_end2end.py --cfg configs/fgfa/resnet_v1_18_flownet_synthetic_vid.yaml TRAIN.lr=1e-3
"""

from __future__ import annotations

from fgfa.method import METHOD
from lib.engine.commands import parse_run, run_script, train_run


def main(argv: list[str] | None = None) -> None:
    run, _ = parse_run(__doc__, argv)
    train_run(run, METHOD)


if __name__ == "__main__":
    run_script(main)
