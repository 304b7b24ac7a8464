"""fgfa/test.py under the name that users of the originals know: test a trained FGFA.

Example: python experiments/fgfa/fgfa_test.py --cfg configs/fgfa/resnet_v1_18_flownet_synthetic_vid.yaml
"""

from fgfa.test import main
from lib.command_line import run_script

if __name__ == "__main__":
    run_script(main)
