"""dff/test.py under the name that users of the originals know: test a trained Deep Feature Flow.

Example: python experiments/dff/dff_test.py --cfg configs/dff/resnet_v1_18_flownet_synthetic_vid.yaml
"""

from dff.test import main
from lib.command_line import run_script

if __name__ == "__main__":
    run_script(main)
