"""Test a trained R-FCN: rfcn/test.py under the name that users of the originals know.

Example: python experiments/rfcn/rfcn_test.py --cfg configs/rfcn/resnet_v1_18_synthetic_vid.yaml
"""

from __future__ import annotations

from lib.engine.commands import run_script
from rfcn.test import main

if __name__ == "__main__":
    run_script(main)
