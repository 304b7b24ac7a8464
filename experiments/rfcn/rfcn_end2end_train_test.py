"""Train R-FCN end to end, then test the result: rfcn/train_end2end.py followed by rfcn/test.py.

Example: python experiments/rfcn/rfcn_end2end_train_test.py --cfg configs/rfcn/resnet_v1_18_synthetic_vid.yaml
"""

from __future__ import annotations

from lib.data.sampling import no_references
from lib.engine.commands import add_test_arguments, parse_run, run_script, test_run, train_run
from rfcn.model import build_rfcn


def main(argv: list[str] | None = None) -> None:
    run, arguments = parse_run(__doc__, argv, add_test_arguments)
    train_run(run, build_rfcn, no_references)
    test_run(run, build_rfcn, arguments)


if __name__ == "__main__":
    run_script(main)
