"""A run of a method: its configuration, its folders, its model."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from lib.config import Config, ConfigError
from lib.data.classes import Classes, load_classes
from lib.data.sampling import ChooseReferences
from lib.engine.snapshot import SnapshotError, SnapshotFolder, load_weights


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
    (`lib.engine.known_flow`). videos: how many of the test set's are tested, the first ones; 0: all.
    """

    cfg: Config
    name: str
    device: torch.device
    flow: str = "learned"
    videos: int = 0

    @property
    def train_folder(self) -> Path:
        """Checkpoints and training log: <output_path>/<configuration>/<image_set>, as in the originals."""
        return Path(self.cfg.output_path) / self.name / self.cfg.dataset.image_set

    @property
    def test_folder(self) -> Path:
        """Results and evaluation: <output_path>/<configuration>/<test_image_set>, then what is special about them."""
        name = self.cfg.dataset.test_image_set + ("_seq_nms" if self.cfg.TEST.SEQ_NMS else "")
        name += "" if self.flow == "learned" else f"_{self.flow}_flow"
        name += f"_first_{self.videos}" if self.videos else ""  # a try must not replace what a whole test found
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
