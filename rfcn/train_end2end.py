"""Train R-FCN, the single-frame detector, end to end.

Example: python rfcn/train_end2end.py --cfg configs/rfcn/resnet_v1_101_imagenet_vid_rfcn_end2end_ohem.yaml TRAIN.lr=1e-3
"""

from __future__ import annotations

from lib.data.sampling import no_references
from lib.engine.commands import parse_run, run_script, train_run
from rfcn.model import build_rfcn


def main(argv: list[str] | None = None) -> None:
    run, _ = parse_run(__doc__, argv)
    train_run(run, build_rfcn, no_references)


if __name__ == "__main__":
    run_script(main)
