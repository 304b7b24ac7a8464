"""fgfa/demo.py with batches of ten frames: the same detections in less time.

Example: python fgfa/demo_batch.py --weights my.pth --source clip/ --out output/my
"""

from functools import partial

from fgfa.demo import main
from lib.command_line import run_script

main = partial(main, batch_images=10)

if __name__ == "__main__":
    run_script(main)
