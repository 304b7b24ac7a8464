"""Pre-train FlowNet-S, for those without Flying Chairs weights: minutes to an hour of two CPU cores for a small one.

It is trained on pairs that the synthetic generator makes during training, with exact flow: cut-outs in which everything
moves, and frames of clips up to 9 apart; with --data the clips are the training videos of that synthetic data set. With
--chairs half of the pairs are from Flying Chairs. With --start a trained network is trained on. Errors on held-out
clips are printed next to those of zero flow, in feature cells of 16 pixels: over all cells, over cells that move by
half a cell or more, and over those of them that show an object and point into the frame. The file given by --out holds
only the network's weights; the log, the curves, the checkpoints and the picture flow.png are in <name>_training beside
it.

Example: python tools/pretrain_flownet.py --width 0.25 --minutes 30 --out model/flownet_s_w025.pth
Example: python tools/pretrain_flownet.py --start model/flownet_s_w025.pth --size 480x360 --lr 5e-4 --out flow.pth
"""

from __future__ import annotations

import argparse
import logging
import math
import os
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from lib.command_line import count, positive_count, positive_number, run_script, share
from lib.config import Config, default_config
from lib.data.image_sets import DatasetError
from lib.engine.checkpoint import CheckpointFolder, load_checkpoint, save_tensors
from lib.engine.device import default_device, device_of, wait_for
from lib.engine.run_log import open_log
from lib.engine.seeding import seed_everything
from lib.engine.train import train
from lib.engine.weights import load_flow
from lib.errors import InputError
from lib.files import check_output, hold_folder
from lib.models.flownet_s import FlowNetS
from lib.pretraining.flow_loader import FlowBatch, FlowLoader, FlowPairs, PairSource, batch_of
from lib.pretraining.flow_training import FlowTraining, held_out_errors
from lib.pretraining.flying_chairs import FlyingChairs
from lib.synthetic.casting import Settings
from lib.synthetic.catalogue import DRAWINGS
from lib.synthetic.cutouts import Cutouts
from lib.synthetic.dataset import recorded_plan
from lib.synthetic.flow_pairs import ClipPairs, FlowPair, held_out_pairs
from lib.visualize.clip import write_image
from lib.visualize.flow import FlowRow, flow_sheet

_LOGGER = logging.getLogger(__name__)
_OWN_SEED = 4_000_000  # added to --seed: no clip is one of a data set that the quickstart makes
_SHARES = {"cutouts": 0.65, "clips": 0.35}
_PREFIX = "flownet"
_TIMED = 8  # updates, of which the quicker half counts


class SizeError(InputError):
    """A --size that cannot be; the message says what it must be like."""


def parse_arguments(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", required=True, type=Path, help="the weights, for example model/flownet_s_w025.pth")
    parser.add_argument("--width", type=positive_number, default=0.25, help="times FlowNet-S's channels")
    parser.add_argument("--start", type=Path, help="weights of that width to begin from; default: random ones")
    length = parser.add_mutually_exclusive_group()
    length.add_argument("--minutes", type=positive_number, help="train for about as long; default: 30")
    length.add_argument("--epochs", type=positive_count, help="train for this many epochs of --epoch-pairs pairs")
    parser.add_argument("--epoch-pairs", type=positive_count, default=4096)
    parser.add_argument("--batch", type=positive_count, default=8)
    parser.add_argument("--size", default="320x240", help="WIDTHxHEIGHT of the pairs in pixels")
    parser.add_argument("--data", type=Path, help="a data set that tools/make_synthetic_vid.py made")
    parser.add_argument("--chairs", type=Path, help="the folder of the Flying Chairs data set")
    parser.add_argument("--lr", type=positive_number, default=1e-3)
    parser.add_argument("--wd", type=share, default=1e-4, help="weight decay")
    parser.add_argument("--schedule", default="cosine", choices=("cosine", "step", "linear"))
    parser.add_argument("--lr-step", default="", help="epochs of the drops to a tenth, '10,15', for --schedule step")
    parser.add_argument("--held-out-clips", type=positive_count, default=24, help="4 pairs of each")
    parser.add_argument("--workers", type=count, default=1, help="processes that make pairs")
    parser.add_argument("--seed", type=count, default=0)
    parser.add_argument("--device", default=default_device(), help="cpu, cuda or cuda:N")
    parser.add_argument("--half", action="store_true", help="write float16 weights: half the size, to be shipped")
    parser.add_argument("--resume", action="store_true", help="go on where an earlier run with this --out stopped")
    return parser.parse_args(argv)


def settings_of(args: argparse.Namespace) -> tuple[Settings, int | None, int]:
    """The clips to learn from, how many there are (None: no end), and the first of split `val` that is held out.

    Raises InputError where `--data` is not a synthetic data set or has another size than `--size`, and for a size that
    cannot be.
    """
    width, height = size_of(args)
    if args.data is None:
        try:
            own = Settings(len(DRAWINGS), width, height, motion_mix=(50, 30, 20), seed=_OWN_SEED + args.seed)
        except ValueError as error:
            raise SizeError(f"--size {args.size}: {error}") from error
        return own, None, 0
    plan = recorded_plan(args.data)
    settings, clips = plan.settings, plan.train_videos
    if (settings.width, settings.height) != (width, height) or clips < 1:
        raise DatasetError(
            f"{args.data}: {clips} training videos of {settings.width}x{settings.height} pixels, "
            f"but --size is {args.size}"
        )
    return settings, clips, plan.val_videos


def size_of(args: argparse.Namespace) -> tuple[int, int]:
    """Width and height."""
    try:
        width, height = (int(side) for side in args.size.lower().split("x"))
    except ValueError as error:
        raise SizeError(f"--size is like 320x240, not {args.size!r}") from error
    return width, height


def config_of(args: argparse.Namespace, epochs: int) -> Config:
    """The training loop's configuration that the command line asks for."""
    cfg = default_config()
    cfg.network.FIXED_PARAMS = []
    cfg.default.frequent = 64
    cfg.TRAIN.update(
        BATCH_IMAGES=args.batch,
        BATCHES_PER_UPDATE=1,
        WORKERS=args.workers,
        SEED=args.seed,
        RESUME=args.resume,
        end_epoch=epochs,
        model_prefix=_PREFIX,
        OPTIMIZER="adamw",
        lr=args.lr,
        wd=args.wd,
        LR_SCHEDULE=args.schedule,
        lr_step=args.lr_step,
        CLIP_GRADIENT=1.0,
    )
    return cfg


def epochs_of(args: argparse.Namespace, model: FlowTraining, loader: FlowLoader, run_dir: Path) -> int:
    """Number of epochs: --epochs, or as many as fit into --minutes.

    A resumed run keeps its original number, because the learning rate depends on it.
    """
    if args.epochs is not None:
        return args.epochs
    begun = CheckpointFolder(run_dir, _PREFIX).newest() if args.resume else None
    if begun is not None:
        return int(load_checkpoint(begun)["config"]["TRAIN"]["end_epoch"])
    minutes = 30.0 if args.minutes is None else args.minutes
    seconds = seconds_per_batch(model, loader, args.device) * (args.epoch_pairs // args.batch)
    epochs = max(1, round(minutes * 60 / seconds))
    _LOGGER.info("%.0f s an epoch of %d pairs: %d epochs in %g minutes", seconds, args.epoch_pairs, epochs, minutes)
    return epochs


def seconds_per_batch(model: FlowTraining, loader: FlowLoader, device: str) -> float:
    """Seconds of an update without the optimiser, whose share is small; `model` has no gradients afterwards."""
    model.to(device).train()
    times = []
    batch = next(iter(loader(0))).to(device)
    for _ in range(_TIMED):
        begin = time.perf_counter()
        model.losses(batch, np.random.RandomState(0))["flow_loss"].backward()
        model.zero_grad(set_to_none=True)
        wait_for(batch.images.device)
        times.append(time.perf_counter() - begin)
    return float(np.mean(sorted(times)[: _TIMED // 2]))


def draw(model: FlowTraining, pairs: Sequence[FlowPair], device: str, path: Path, rows: int = 6) -> None:
    """Write a sheet of some of the pairs to `path`."""
    shown = pairs[:: math.ceil(len(pairs) / rows)]
    batch = batch_of(shown)
    found = model.flow(batch.to(device)).float().cpu().numpy()
    sheet = flow_sheet(
        [
            FlowRow(pair.current, pair.reference, true.numpy(), flow)
            for pair, true, flow in zip(shown, batch.flow_cells, found, strict=True)
        ]
    )
    write_image(path, sheet)


def sources_of(args: argparse.Namespace) -> tuple[list[tuple[PairSource, float]], dict[str, list[FlowPair]]]:
    """The sources of training pairs with their shares, and the held-out pairs by name."""
    settings, clips, first = settings_of(args)
    height, width = settings.height, settings.width
    sources: list[tuple[PairSource, float]] = [
        (Cutouts(height, width, _OWN_SEED + args.seed), _SHARES["cutouts"]),
        (ClipPairs(settings, clips), _SHARES["clips"]),
    ]
    held_out = {"clips": held_out_pairs(settings, args.held_out_clips, first)}
    if args.chairs is not None:
        chairs = FlyingChairs(args.chairs, height, width)
        sources.append((chairs, sum(_SHARES.values())))
        held_out["chairs"] = chairs.held_out(len(held_out["clips"]))
    return sources, held_out


def start_of(args: argparse.Namespace) -> FlowTraining:
    """The network to train, with random weights or those of --start."""
    seed_everything(args.seed, deterministic=args.device == "cpu")
    model = FlowTraining(FlowNetS(args.width), default_config().network.PIXEL_MEANS)
    if args.start is not None:
        load_flow(model.flow_net, args.start, "--start")
    return model


def pretrain(args: argparse.Namespace) -> dict[str, float]:
    """Train, write the network and the picture, and return the errors on what is held out."""
    device_of(args.device)  # these three before the long part
    check_output(args.out)
    model = start_of(args)
    run_dir = args.out.with_name(f"{args.out.stem}_training")
    # Where the threads of the network take the cores of the processes that make pairs, it only waits for them
    torch.set_num_threads(max(1, min(torch.get_num_threads(), (os.cpu_count() or 1) - args.workers)))
    sources, held_out = sources_of(args)
    batches = {
        name: [batch_of(pairs[i : i + args.batch]) for i in range(0, len(pairs), args.batch)]
        for name, pairs in held_out.items()
    }
    with hold_folder(run_dir), open_log(run_dir / "train.log"):
        loader = FlowLoader(FlowPairs(sources, args.seed), args.epoch_pairs // args.batch, args.batch, args.workers)
        train(
            model,
            loader,
            config_of(args, epochs_of(args, model, loader, run_dir)),
            run_dir,
            num_samples=args.epoch_pairs,
            device=args.device,
            validate=lambda _: errors_of(model, batches, args.device),
            resume_hint="--resume",
        )
        state = {name: value.detach().cpu().contiguous() for name, value in model.flow_net.state_dict().items()}
        save_tensors({name: value.half() if args.half else value for name, value in state.items()}, args.out)
        draw(model.eval(), held_out["clips"], args.device, run_dir / "flow.png")
    return errors_of(model, batches, args.device)


def errors_of(model: FlowTraining, batches: dict[str, list[FlowBatch]], device: str) -> dict[str, float]:
    """`<source>_<cells>` -> mean end-point error in cells, for each source of held-out pairs."""
    return {
        f"{source}_{name}": value
        for source, some in batches.items()
        for name, value in held_out_errors(model, some, device).items()
    }


def table(errors: dict[str, float]) -> str:
    """What `errors_of` found, as lines to print."""
    titles = {"all": "all cells", "moving": "moving cells", "objects": "moving objects"}
    lines = [f"{'':<8}" + "".join(f"{title:>16}{'zero flow':>11}" for title in titles.values())]
    for source in sorted({name.split("_")[0] for name in errors}):
        row = [(errors[f"{source}_{name}"], errors[f"{source}_{name}_zero"]) for name in titles]
        lines.append(f"{source:<8}" + "".join(f"{error:>16.3f}{zero:>11.3f}" for error, zero in row))
    return "\n".join(lines)


def main(argv: list[str] | None = None) -> None:
    args = parse_arguments(argv)
    found = pretrain(args)
    print(f"{args.out}: FlowNet-S, width {args.width:g}; end-point errors on held-out pairs, in cells of 16 pixels")
    print(table(found))


if __name__ == "__main__":
    run_script(main)
