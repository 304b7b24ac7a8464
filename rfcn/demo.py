"""Run R-FCN over your own frames or video: an annotated clip, a contact sheet and the detections as JSON.

Example: python rfcn/demo.py --cfg configs/rfcn/resnet_v1_18_synthetic_vid.yaml --source my.mp4 --out output/my
"""

from __future__ import annotations

from lib.engine.commands import add_demo_arguments, demo_run, parse_run, run_script
from rfcn.method import METHOD


def main(argv: list[str] | None = None) -> None:
    run, arguments = parse_run(__doc__, argv, add_demo_arguments)
    demo_run(run, METHOD, arguments)


if __name__ == "__main__":
    run_script(main)
