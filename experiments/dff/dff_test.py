"""Test a trained Deep Feature Flow: dff/test.py under the name that users of the originals know.

Example: python experiments/dff/dff_test.py --cfg configs/dff/resnet_v1_18_flownet_synthetic_vid.yaml
"""

from __future__ import annotations

from dff.test import main
from lib.engine.commands import run_script

if __name__ == "__main__":
    run_script(main)
