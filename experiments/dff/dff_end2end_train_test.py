"""Train Deep Feature Flow end to end, then test the result: dff/train_end2end.py followed by dff/test.py.

Example: python experiments/dff/dff_end2end_train_test.py --cfg configs/dff/resnet_v1_18_flownet_synthetic_vid.yaml
"""

from __future__ import annotations

from dff.method import METHOD
from lib.engine.commands import add_test_arguments, parse_run, run_script, test_run, train_run


def main(argv: list[str] | None = None) -> None:
    run, arguments = parse_run(__doc__, argv, add_test_arguments)
    train_run(run, METHOD)
    test_run(run, METHOD, arguments)


if __name__ == "__main__":
    run_script(main)
