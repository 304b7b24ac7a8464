"""Run R-FCN over your own frames or video, several frames at a time: the detections of rfcn/demo.py, sooner.

Example: python rfcn/demo_batch.py --cfg configs/rfcn/resnet_v1_18_synthetic_vid.yaml --source clip/ --out out
"""

from __future__ import annotations

from lib.engine.commands import add_demo_arguments, demo_run, parse_run, run_script
from rfcn.method import METHOD


def main(argv: list[str] | None = None) -> None:
    run, arguments = parse_run(__doc__, argv, add_demo_arguments)
    demo_run(run, METHOD, arguments, METHOD.batch_images)


if __name__ == "__main__":
    run_script(main)
