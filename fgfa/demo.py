"""Run FGFA on your own frames or video: an annotated clip, a contact sheet and the detections as JSON and CSV.

Without arguments it runs the detector in model/demo_fgfa.pth on the clips in data/demo. docs/demo.md has all options.

Example: python fgfa/demo.py
Example: python fgfa/demo.py --weights my.pth --source my.mp4 --out output/my
"""

from __future__ import annotations

from fgfa.method import METHOD
from lib.command_line import run_script
from lib.engine.demo_arguments import demo_parser
from lib.engine.demo_run import run_demo


def main(argv: list[str] | None = None, batch_images: int = 1) -> None:
    """batch_images: frames that go through the network together."""
    run_demo(METHOD, demo_parser(__doc__).parse_intermixed_args(argv), batch_images)


if __name__ == "__main__":
    run_script(main)
