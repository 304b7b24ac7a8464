"""Detect with a trained R-FCN over the test set, save the results, print mAP and motion-specific mAP.

Example: python rfcn/test.py --cfg configs/rfcn/resnet_v1_18_synthetic_vid.yaml --weights my.pth
"""

from __future__ import annotations

from lib.engine.commands import add_test_arguments, parse_run, run_script, test_run
from rfcn.method import METHOD


def main(argv: list[str] | None = None) -> None:
    run, arguments = parse_run(__doc__, argv, add_test_arguments)
    test_run(run, METHOD, arguments)


if __name__ == "__main__":
    run_script(main)
