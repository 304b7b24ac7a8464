"""What the scripts of the three methods share: their arguments, and the steps of training, testing and a demo."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path

from lib.config import load_config
from lib.data.loader import build_training_set, training_loader
from lib.data.transforms import Preprocessing
from lib.engine.demo import run_demo
from lib.engine.device import default_device, device_of
from lib.engine.known_flow import KINDS, check_flow
from lib.engine.pretrained import load_pretrained
from lib.engine.run import Method, Run, load_trained
from lib.engine.run_log import open_log
from lib.engine.seeding import seed_everything
from lib.engine.testing import RAW_RESULTS, run_test
from lib.engine.train import train
from lib.errors import InputError
from lib.models.build import build_postprocess
from lib.models.mxnet_names import mxnet_name


def parse_run(
    description: str,
    argv: list[str] | None,
    add_arguments: Callable[[argparse.ArgumentParser], None] | None = None,
) -> tuple[Run, argparse.Namespace]:
    """The run that the command line describes: `--cfg FILE`, `--preset`, `--device`, and `KEY=VALUE` for any key.

    A preset's name becomes part of the run's: its checkpoints and results are others.
    """
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cfg", required=True, metavar="FILE", help="configuration, such as configs/rfcn/*.yaml")
    parser.add_argument(
        "--preset",
        action="append",
        default=[],
        metavar="FILE",
        help="a few more keys, such as configs/presets/vid_only.yaml; may be given several times",
    )
    parser.add_argument("--device", default=default_device(), help="cpu, cuda or cuda:N")
    parser.add_argument("overrides", nargs="*", metavar="KEY=VALUE", help="configuration values, TRAIN.lr=1e-3")
    if add_arguments:
        add_arguments(parser)
    arguments = parser.parse_intermixed_args(argv)
    cfg = load_config(arguments.cfg, arguments.overrides, arguments.preset)
    name = "_".join(Path(file).stem for file in (arguments.cfg, *arguments.preset))
    flow, videos = getattr(arguments, "flow", "learned"), getattr(arguments, "videos", 0)
    return Run(cfg, name, device_of(arguments.device), flow, videos), arguments


def run_script(main: Callable[[], None]) -> None:
    """Call a script's `main`; an error that is the user's to mend ends it with one clear line and status 1.

    So does Ctrl-C, with its usual status 130, where a script does not see to it itself as training does.
    """
    try:
        main()
    except InputError as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        print("interrupted; a test goes on where it was with the same command", file=sys.stderr)
        sys.exit(130)


def count(text: str) -> int:
    """A number of things on the command line: 0 or more."""
    number = int(text)
    if number < 0:
        raise argparse.ArgumentTypeError(f"must be 0 or more, not {text}")
    return number


def add_weights_argument(parser: argparse.ArgumentParser) -> None:
    """`--weights`, for the scripts that need a trained model."""
    parser.add_argument("--weights", metavar="FILE", help="a checkpoint; default: the run's, of epoch TEST.test_epoch")


def add_test_arguments(parser: argparse.ArgumentParser) -> None:
    add_weights_argument(parser)
    parser.add_argument(
        "--raw",
        action="store_true",
        help=f"save every box over the threshold, before NMS, to {RAW_RESULTS}, for tools/evaluate.py --seq-nms, "
        "and do not evaluate",
    )
    parser.add_argument(
        "--flow",
        choices=KINDS,
        default="learned",
        help="zero, or the generator's true flow (synthetic data), in place of the learned one; results apart",
    )
    parser.add_argument(
        "--videos", type=count, default=0, metavar="N", help="only the first N videos, results apart; 0: all"
    )


def add_demo_arguments(parser: argparse.ArgumentParser) -> None:
    add_weights_argument(parser)
    parser.add_argument("--random-weights", action="store_true", help="no training needed, no sense in the boxes")
    parser.add_argument("--source", required=True, help="folder of images, 'pattern*.jpg', video file, or camera:0")
    parser.add_argument("--out", required=True, metavar="DIR", help="folder for the clip, the contact sheet, the JSON")
    parser.add_argument("--min-score", type=float, default=0.7, help="weaker detections are not shown")
    parser.add_argument("--limit", type=count, default=0, metavar="N", help="only the first N frames; 0: all")


def train_run(run: Run, method: Method) -> Path:
    """Train a method's model as the run's configuration says; returns the last checkpoint."""
    cfg = run.cfg
    with open_log(run.train_folder / "train.log"):
        seed_everything(cfg.TRAIN.SEED)
        classes = run.classes()
        training_set = build_training_set(cfg, classes, method.references(cfg))
        model = method.build(cfg, classes.num_classes)
        check_flow(model, run.flow, cfg.dataset.dataset_path)  # of the test that follows: not after hours of training
        load_pretrained(model, cfg)
        return train(
            model,
            lambda epoch, start: training_loader(training_set, epoch, start, cfg.TRAIN.WORKERS),
            cfg,
            run.train_folder,
            num_samples=len(training_set),
            original_name=mxnet_name,
            device=run.device,
            lr_mult=getattr(model, "lr_mult", None),
        )


def test_run(run: Run, method: Method, arguments: argparse.Namespace) -> dict:
    """Test a method's model as `add_test_arguments` says; see `lib.engine.testing.run_test`."""
    with open_log(run.test_folder / "test.log"):
        model = load_trained(run, method, arguments.weights)
        return run_test(run, method, model, arguments.raw)


def demo_run(run: Run, method: Method, arguments: argparse.Namespace, batch_images: int = 1) -> None:
    """Run a method's model over the user's own frames, `batch_images` at a time."""
    run_demo(
        load_trained(run, method, arguments.weights, arguments.random_weights),
        arguments.source,
        Preprocessing.from_config(run.cfg),
        build_postprocess(run.cfg, method.score_threshold),
        run.classes().names,
        arguments.out,
        min_score=arguments.min_score,
        limit=arguments.limit,
        batch_images=batch_images,
    )
