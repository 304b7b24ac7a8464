"""Train R-FCN end to end: the single-frame detector.

Example: python rfcn/train_end2end.py --cfg configs/rfcn/resnet_v1_18_synthetic_vid.yaml TRAIN.lr=1e-3
"""

from __future__ import annotations

from pathlib import Path

from lib.command_line import run_script
from lib.data.loader import build_training_set
from lib.data.sampling import no_references
from lib.engine.arguments import run_of, run_parser
from lib.engine.pretrained import load_pretrained
from lib.engine.seeding import seed_everything
from lib.engine.train_detector import train_detector
from rfcn.method import METHOD


def main(argv: list[str] | None = None) -> Path:
    """Returns the last checkpoint."""
    run = run_of(run_parser(__doc__).parse_intermixed_args(argv), METHOD, needs_weights=False)
    cfg = run.cfg
    with run.training() as folder:
        seed_everything(cfg.TRAIN.SEED)
        classes = run.dataset_classes()
        # Each sample is one frame; the originals round the boxes of single frames, and only those
        with run.processes.main_first():  # it parses annotations and downloads weights, the others find them
            data = build_training_set(cfg, classes, no_references, round_boxes=True)
            model = METHOD.build(cfg, classes.num_classes)
            load_pretrained(model, cfg, classes)
        return train_detector(run, model, data, classes, folder)


if __name__ == "__main__":
    run_script(main)
