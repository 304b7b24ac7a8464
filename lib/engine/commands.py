"""What the scripts of the three methods share: arguments, run folders, the steps of training, testing and a demo."""

from __future__ import annotations

import argparse
import hashlib
import json
import logging
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import nn

from lib.config import Config, ConfigError, load_config, to_dict
from lib.data.classes import Classes, load_classes
from lib.data.imagenet_vid import ImageNetVID, Video
from lib.data.loader import build_training_set, training_loader
from lib.data.sampling import ChooseReferences
from lib.data.transforms import Preprocessing
from lib.engine.demo import run_demo
from lib.engine.infer import detect_videos
from lib.engine.known_flow import KINDS, replace_flow
from lib.engine.pretrained import load_pretrained
from lib.engine.run_log import open_log
from lib.engine.seeding import seed_everything
from lib.engine.snapshot import SnapshotError, SnapshotFolder, load_weights
from lib.engine.train import train
from lib.errors import InputError
from lib.evaluation.report import evaluate_results, write_json
from lib.evaluation.results_file import DECIMALS, RAW_DECIMALS, ResultsWriter
from lib.evaluation.seq_nms import SeqNMS, SeqNMSWriter
from lib.models.build import build_postprocess
from lib.models.mxnet_names import mxnet_name
from lib.structures import Frame

_LOGGER = logging.getLogger(__name__)
RAW_RESULTS = "raw_detections.txt"  # of a test that leaves NMS and Seq-NMS for later
TIMING = "timing.json"  # beside the results: how fast the frames of the last test went


@dataclass(frozen=True)
class Method:
    """What the scripts need to know of a method.

    build: (configuration, classes with background) -> its model. references: configuration -> its rule for reference
    frames. score_threshold: detections need a higher score, where TEST.SCORE_THRESH does not say. batch_images: frames
    that its batch demo takes at once.
    """

    build: Callable[[Config, int], nn.Module]
    references: Callable[[Config], ChooseReferences]
    score_threshold: float = 1e-3
    batch_images: int = 10  # as in the originals


@dataclass(frozen=True)
class Run:
    """One run of a method.

    cfg: its configuration. name: of its configuration file. flow: which flow features follow in testing
    (`lib.engine.known_flow`).
    """

    cfg: Config
    name: str
    device: torch.device
    flow: str = "learned"

    @property
    def train_folder(self) -> Path:
        """Checkpoints and training log: <output_path>/<configuration>/<image_set>, as in the originals."""
        return Path(self.cfg.output_path) / self.name / self.cfg.dataset.image_set

    @property
    def test_folder(self) -> Path:
        """Results and evaluation: <output_path>/<configuration>/<test_image_set>, then what is special about them."""
        name = self.cfg.dataset.test_image_set + ("_seq_nms" if self.cfg.TEST.SEQ_NMS else "")
        name += "" if self.flow == "learned" else f"_{self.flow}_flow"
        return Path(self.cfg.output_path) / self.name / name

    def classes(self) -> Classes:
        """The class list; ConfigError where dataset.NUM_CLASSES says another number."""
        dataset = self.cfg.dataset
        classes = load_classes(dataset.CLASSES, dataset.dataset_path)
        if dataset.NUM_CLASSES not in (0, classes.num_classes):
            raise ConfigError(
                f"'dataset.NUM_CLASSES' is {dataset.NUM_CLASSES}, but the class list has {len(classes.names)} classes "
                f"and the background: {classes.num_classes}; correct it or set it to 0"
            )
        return classes


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
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu", help="cpu, cuda or cuda:N")
    parser.add_argument("overrides", nargs="*", metavar="KEY=VALUE", help="configuration values, TRAIN.lr=1e-3")
    if add_arguments:
        add_arguments(parser)
    arguments = parser.parse_intermixed_args(argv)
    cfg = load_config(arguments.cfg, arguments.overrides, arguments.preset)
    name = "_".join(Path(file).stem for file in (arguments.cfg, *arguments.preset))
    return Run(cfg, name, torch.device(arguments.device), getattr(arguments, "flow", "learned")), arguments


def run_script(main: Callable[[], None]) -> None:
    """Call a script's `main`; an error that is the user's to mend ends it with one clear line and status 1."""
    try:
        main()
    except InputError as error:
        sys.exit(f"error: {error}")


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
    parser.add_argument("--videos", type=int, default=0, metavar="N", help="only the first N videos; 0: all")


def add_demo_arguments(parser: argparse.ArgumentParser) -> None:
    add_weights_argument(parser)
    parser.add_argument("--random-weights", action="store_true", help="no training needed, no sense in the boxes")
    parser.add_argument("--source", required=True, help="folder of images, 'pattern*.jpg', video file, or camera:0")
    parser.add_argument("--out", required=True, metavar="DIR", help="folder for the clip, the contact sheet, the JSON")
    parser.add_argument("--min-score", type=float, default=0.7, help="weaker detections are not shown")
    parser.add_argument("--limit", type=int, default=0, metavar="N", help="only the first N frames; 0: all")


def train_run(run: Run, method: Method) -> Path:
    """Train a method's model as the run's configuration says; returns the last checkpoint."""
    cfg = run.cfg
    with open_log(run.train_folder / "train.log"):
        seed_everything(cfg.TRAIN.SEED)
        classes = run.classes()
        training_set = build_training_set(cfg, classes, method.references(cfg))
        model = method.build(cfg, classes.num_classes)
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


def load_trained(run: Run, method: Method, weights: str | None, random_weights: bool = False) -> nn.Module:
    """The run's model in evaluation mode on its device, with `weights` or else the checkpoint of TEST.test_epoch."""
    torch.manual_seed(run.cfg.TRAIN.SEED)
    model = method.build(run.cfg, run.classes().num_classes)
    if not random_weights:
        snapshots = SnapshotFolder(run.train_folder, run.cfg.TRAIN.model_prefix or "model")
        path = Path(weights) if weights else snapshots.weights_of_epoch(run.cfg.TEST.test_epoch)
        if not path.is_file():
            raise SnapshotError(f"{path}: there is no such file; train first, or name a checkpoint with --weights")
        load_weights(model, path)
    return model.eval().to(run.device)


def test_run(run: Run, method: Method, arguments: argparse.Namespace) -> dict:
    """Detect over the test set, save the results, evaluate them, print the table; returns what the JSON holds.

    With `--raw` the results are only saved, and what is returned is empty.
    """
    cfg, folder = run.cfg, run.test_folder
    with open_log(folder / "test.log"):
        model = load_trained(run, method, arguments.weights)
        cache = Path(cfg.dataset.root_path) / "cache"
        dataset = ImageNetVID(cfg.dataset.dataset_path, cfg.dataset.test_image_set, run.classes(), cache)
        truth = dataset.ground_truth()  # before the long part: broken annotations show at once
        videos = dataset.videos()
        if 0 < arguments.videos < len(videos):
            videos = videos[: arguments.videos]
            truth = truth.first_frames(sum(video.length for video in videos))
            cfg.dataset.motion_iou_path = ""  # it covers the whole set
            _LOGGER.info("only the first %d videos; motion from their track ids", len(videos))
        preprocessing = Preprocessing.from_config(cfg)
        begin_video = replace_flow(model, run.flow, cfg.dataset.dataset_path)

        def frames_of(video: Video) -> Iterator[Frame]:
            begin_video(video.name)
            return video.frames(preprocessing)

        raw = arguments.raw
        path, decimals = (folder / RAW_RESULTS, RAW_DECIMALS) if raw else (folder / "detections.txt", DECIMALS)
        with ResultsWriter(path, _fingerprint(model, cfg, len(videos)), decimals) as results:
            done = results.done
            if done:
                _LOGGER.info("going on after %d of %d videos that an interrupted test has done", done, len(videos))
            postprocess = build_postprocess(cfg, method.score_threshold)
            add, end_video = results.add, lambda: None
            if cfg.TEST.SEQ_NMS or raw:  # Seq-NMS wants all boxes, and does the NMS itself
                postprocess = replace(postprocess, nms_threshold=None, max_per_image=None)
            if cfg.TEST.SEQ_NMS and not raw:
                rescored = SeqNMSWriter(results, SeqNMS(nms=cfg.TEST.NMS))
                add, end_video = rescored.add, rescored.end_video
            timing = detect_videos(
                model,
                videos[done:],
                frames_of,
                postprocess,
                add,
                cfg.TEST.BATCH_IMAGES,
                end_video,
                lambda more: results.checkpoint(done + more),
            )
        _LOGGER.info("%s: %s", path, timing.summary())
        if raw:
            return {}
        write_json(folder / TIMING, timing.to_json())
        return evaluate_results(truth, folder, cfg)


def _fingerprint(model: nn.Module, cfg: Config, videos: int) -> str:
    """Tells tests apart whose results must not be mixed: by weights, configuration and number of videos."""
    digest = hashlib.sha256(json.dumps([to_dict(cfg), videos]).encode())
    for value in model.state_dict().values():
        digest.update(value.cpu().numpy().tobytes())
    return digest.hexdigest()


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
