"""Train Deep Feature Flow end to end: features of a reference frame are warped along the flow to the current frame.

Example: python dff/train_end2end.py --cfg configs/dff/resnet_v1_18_flownet_synthetic_vid.yaml TRAIN.lr=1e-3
"""

from __future__ import annotations

from pathlib import Path

from dff.method import METHOD, references
from lib.command_line import run_script
from lib.data.loader import build_training_set
from lib.engine.arguments import run_of, run_parser
from lib.engine.pretrained import load_pretrained
from lib.engine.seeding import seed_everything
from lib.engine.train_detector import train_detector


def main(argv: list[str] | None = None) -> Path:
    """Returns the last checkpoint."""
    run = run_of(run_parser(__doc__).parse_intermixed_args(argv), METHOD, needs_weights=False)
    cfg = run.cfg
    with run.training() as folder:
        seed_everything(cfg.TRAIN.SEED)
        classes = run.dataset_classes()
        # Each sample is a frame and one reference frame, drawn from as far back as a key frame can be in testing
        with run.processes.main_first():  # it parses annotations and downloads weights, the others find them
            data = build_training_set(cfg, classes, references(cfg), round_boxes=False)
            model = METHOD.build(cfg, classes.num_classes)
            load_pretrained(model, cfg, classes)
        return train_detector(run, model, data, classes, folder)


if __name__ == "__main__":
    run_script(main)
