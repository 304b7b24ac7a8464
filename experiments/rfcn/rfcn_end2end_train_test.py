"""Train R-FCN end to end, then test the result: rfcn/train_end2end.py followed by rfcn/test.py.

Example: python experiments/rfcn/rfcn_end2end_train_test.py --cfg configs/rfcn/resnet_v1_18_synthetic_vid.yaml
"""

from __future__ import annotations

from lib.engine.commands import add_test_arguments, parse_run, run_script, test_run, train_run
from rfcn.method import METHOD


def main(argv: list[str] | None = None) -> None:
    run, arguments = parse_run(__doc__, argv, add_test_arguments)
    train_run(run, METHOD)
    test_run(run, METHOD, arguments)


if __name__ == "__main__":
    run_script(main)
