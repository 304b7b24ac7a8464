"""Pre-train a ResNet by classification, for those without ImageNet weights.

--data is a data set in the ILSVRC2015 layout (its objects are cut out; the synthetic set is one) or any folder with one
folder of images per class. Every tenth video or image is held out. The file that --out names holds the ResNet alone,
its batch-norm statistics included: set network.pretrained to it, and network.NORM to frozen or trained.

Example: python tools/pretrain_backbone.py --data data/synthetic_vid --depth 18 --width 16 --out model/resnet_18_w16.pth
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch

from lib.command_line import count, positive_count, positive_number, run_script, share
from lib.config import Config, default_config
from lib.data.classes import load_classes
from lib.data.roidb import load_roidb
from lib.engine.checkpoint import save_tensors
from lib.engine.device import default_device, device_of
from lib.engine.run_log import open_log
from lib.engine.train import train
from lib.files import check_output, hold_folder
from lib.models.resnet import UNITS_PER_STAGE, ResNet
from lib.pretraining.classifier import Classifier, accuracy
from lib.pretraining.crops import Crops, Regions, crop_loader, regions_of_folder, regions_of_objects, split

_RATES = {"adamw": 2e-3, "sgd": 0.05}
# Faster convolutions, the same values. Not for narrower nets: on the CPU, the gradient of a strided 1x1 convolution of
# 8 channels or fewer writes out of bounds in that layout (torch 2.14.1 with oneDNN).
_NARROWEST_CHANNELS_LAST = 16
_DECAYS = {"adamw": 0.05, "sgd": 5e-4}


def parse_arguments(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, help="data set in the ILSVRC2015 layout, or folder of image folders")
    parser.add_argument("--image-set", default="DET_train_30classes+VID_train_15frames", help="sets of the data set")
    parser.add_argument(
        "--out", required=True, type=Path, help="the backbone file, for example model/resnet_18_w16.pth"
    )
    parser.add_argument("--depth", type=int, default=18, choices=sorted(UNITS_PER_STAGE))
    parser.add_argument("--width", type=positive_count, default=16, help="channels of conv1; 64 is ResNet's own")
    parser.add_argument("--size", type=positive_count, default=96, help="side of the crops in pixels")
    parser.add_argument("--epochs", type=positive_count, default=20)
    parser.add_argument("--batch", type=positive_count, default=64)
    parser.add_argument("--optimizer", default="adamw", choices=sorted(_RATES))
    parser.add_argument("--lr", type=positive_number, help=f"default: {_RATES}")
    parser.add_argument("--wd", type=share, help=f"weight decay; default: {_DECAYS}")
    parser.add_argument("--schedule", default="cosine", choices=("cosine", "step", "linear"))
    parser.add_argument("--lr-step", default="", help="epochs of the drops to a tenth, '10,15', for --schedule step")
    parser.add_argument("--workers", type=count, default=1, help="processes that read images")
    parser.add_argument("--seed", type=count, default=0)
    parser.add_argument("--device", default=default_device(), help="cpu, cuda or cuda:N")
    parser.add_argument("--half", action="store_true", help="write float16 weights: half the size, to be shipped")
    parser.add_argument("--resume", action="store_true", help="go on where an earlier run with this --out stopped")
    return parser.parse_args(argv)


def config_of(args: argparse.Namespace) -> Config:
    """The training loop's configuration that the command line asks for."""
    cfg = default_config()
    cfg.network.update(DEPTH=args.depth, WIDTH=args.width, NORM="trained", FIXED_PARAMS=[])
    cfg.dataset.update(dataset_path=args.data, image_set=args.image_set)
    cfg.default.frequent = 50
    cfg.TRAIN.update(
        BATCH_IMAGES=args.batch,
        BATCHES_PER_UPDATE=1,
        WORKERS=args.workers,
        SEED=args.seed,
        RESUME=args.resume,
        end_epoch=args.epochs,
        model_prefix="classifier",
        OPTIMIZER=args.optimizer,
        lr=_RATES[args.optimizer] if args.lr is None else args.lr,
        wd=_DECAYS[args.optimizer] if args.wd is None else args.wd,
        LR_SCHEDULE=args.schedule,
        lr_step=args.lr_step,
        CLIP_GRADIENT=5.0,
    )
    return cfg


def regions_of(args: argparse.Namespace, cache: Path) -> Regions:
    """The labelled regions in `--data`."""
    if not (Path(args.data) / "ImageSets").is_dir():
        return regions_of_folder(args.data)
    classes = load_classes("", args.data)
    return regions_of_objects(load_roidb(args.data, args.image_set, classes, cache, flip=False), classes.names)


def pretrain(args: argparse.Namespace) -> float:
    """Train, write the backbone, and return the accuracy on the held-out images."""
    device_of(args.device)  # these two before the long part
    check_output(args.out)
    cfg = config_of(args)
    run_dir = args.out.with_name(f"{args.out.stem}_training")
    with hold_folder(run_dir), open_log(run_dir / "train.log"):
        regions = regions_of(args, run_dir / "cache")
        learnt, held_out = split(regions)
        print(f"{len(learnt)} images to learn from, {len(held_out)} held out, {len(regions.names)} classes", flush=True)
        means = cfg.network.PIXEL_MEANS
        crops = Crops(learnt, args.size, means, augment=True, seed=args.seed)
        judged = Crops(held_out, args.size, means)
        torch.manual_seed(args.seed)
        model = Classifier(ResNet(args.depth, args.width, norm="trained"), len(regions.names))
        if args.width >= _NARROWEST_CHANNELS_LAST:
            model.to(memory_format=torch.channels_last)

        def held_out_accuracy() -> float:
            return accuracy(model, crop_loader(judged, 0, args.batch, 0, args.workers, shuffle=False), args.device)

        train(
            model,
            lambda epoch, start: crop_loader(crops, epoch, args.batch, start, args.workers),
            cfg,
            run_dir,
            num_samples=len(crops),
            device=args.device,
            validate=lambda _: {"accuracy": held_out_accuracy()},
            resume_hint="--resume",
        )
        state = {name: value.cpu().contiguous() for name, value in model.backbone.state_dict().items()}
        # The number of batches seen is of no use to anyone
        state = {name: value for name, value in state.items() if not name.endswith("num_batches_tracked")}
        save_tensors(halved(state) if args.half else state, args.out)
        return held_out_accuracy()


def halved(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """float16 weights; the statistics, a few numbers that may be beyond its range, stay as they are."""
    return {name: value if ".running_" in name else value.half() for name, value in state.items()}


def main(argv: list[str] | None = None) -> None:
    args = parse_arguments(argv)
    found = pretrain(args)
    print(f"{args.out}: ResNet-{args.depth}, width {args.width}; accuracy on held-out images {found:.3f}")


if __name__ == "__main__":
    run_script(main)
