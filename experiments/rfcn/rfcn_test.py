"""rfcn/test.py under the name that users of the originals know: test a trained R-FCN.

Example: python experiments/rfcn/rfcn_test.py --cfg configs/rfcn/resnet_v1_18_synthetic_vid.yaml
"""

from lib.command_line import run_script
from rfcn.test import main

if __name__ == "__main__":
    run_script(main)
