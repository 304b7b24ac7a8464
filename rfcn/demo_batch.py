"""Run R-FCN over your own frames or video, several frames at a time: the same detections as rfcn/demo.py, sooner.

Example: python rfcn/demo_batch.py --cfg configs/rfcn/resnet_v1_18_synthetic_vid.yaml --source frames/ --out output/my
"""

from __future__ import annotations

from lib.engine.commands import add_demo_arguments, demo_run, parse_run, run_script
from rfcn.model import build_rfcn

BATCH_IMAGES = 10  # the originals' batch demo


def main(argv: list[str] | None = None) -> None:
    run, arguments = parse_run(__doc__, argv, add_demo_arguments)
    demo_run(run, build_rfcn, arguments, BATCH_IMAGES)


if __name__ == "__main__":
    run_script(main)
