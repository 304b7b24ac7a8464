"""Train R-FCN end to end: the single-frame detector.

Example: python rfcn/train_end2end.py --cfg configs/rfcn/resnet_v1_18_synthetic_vid.yaml TRAIN.lr=1e-3
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

from lib.command_line import run_script
from lib.data.loader import build_training_set, training_loader
from lib.data.sampling import no_references
from lib.engine.arguments import run_of, run_parser
from lib.engine.pretrained import load_pretrained
from lib.engine.seeding import seed_everything
from lib.engine.train import train
from rfcn.method import METHOD


def main(argv: list[str] | None = None) -> Path:
    """Returns the last checkpoint."""
    run = run_of(run_parser(__doc__).parse_intermixed_args(argv), METHOD, needs_weights=False)
    cfg = run.cfg
    with run.training() as folder:
        seed_everything(cfg.TRAIN.SEED)
        classes = run.dataset_classes()
        # Each sample is one frame; the originals round the boxes of single frames, and only those
        data = build_training_set(cfg, classes, no_references, round_boxes=True)
        model = METHOD.build(cfg, classes.num_classes)
        load_pretrained(model, cfg)
        return train(
            model,
            partial(training_loader, data, workers=cfg.TRAIN.WORKERS),
            cfg,
            folder,
            num_samples=len(data),
            device=run.device,
            lr_mult=model.lr_mult,
            identity=run.identify(classes),
        )


if __name__ == "__main__":
    run_script(main)
