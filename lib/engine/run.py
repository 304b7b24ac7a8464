"""A run of a method: its configuration, classes, folders and weights."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from lib.config import Config, ConfigError, load_config, to_dict
from lib.data.classes import Classes, load_classes, require_same_classes
from lib.data.image_sets import require_dataset
from lib.engine.checkpoint import CheckpointError, CheckpointFolder, Identity, read_identity
from lib.engine.compatibility import require_same_function
from lib.engine.distributed import Processes, joined, processes_from_environment
from lib.engine.run_log import log_environment, open_log, quiet_log
from lib.engine.weights import load_weights
from lib.files import hold_folder
from lib.models.inference_form import prepare_for_inference
from lib.models.precision import set_precision
from lib.models.video_model import VideoModel

METHODS = ("rfcn", "dff", "fgfa")  # those that come with the project


@dataclass(frozen=True)
class Method:
    """A method, for the scripts and the Python API.

    name: of its folder, also written to its checkpoints. build: (configuration, number of classes with the background,
    further arguments of its own) -> its model. score_threshold: minimum score of detections, unless TEST.SCORE_THRESH
    is set.
    """

    name: str
    build: Callable[..., VideoModel]
    score_threshold: float


def method_called(name: str) -> Method:
    """The method of that name, which is one of METHODS: the METHOD of its folder's method.py."""
    return importlib.import_module(f"{name}.method").METHOD


@dataclass(frozen=True)
class Run:
    """One run of a method.

    name: of its configuration, from which its folders are named. weights: the file to test or to run, None in training
    and for random weights. identity: the identity in that file, None if it has none. processes: those that torchrun
    started for this run.
    """

    method: Method
    cfg: Config
    name: str
    device: torch.device
    weights: Path | None = None
    identity: Identity | None = None
    processes: Processes = field(default_factory=processes_from_environment)

    @property
    def train_folder(self) -> Path:
        """Checkpoints and training log: <output_path>/<name>/<image_set>, as in the originals."""
        return Path(self.cfg.output_path) / self.name / self.cfg.dataset.image_set

    @property
    def checkpoints(self) -> CheckpointFolder:
        """The checkpoints of this run's training."""
        return CheckpointFolder(self.train_folder, self.cfg.TRAIN.model_prefix)

    def test_folder(self, kind: str = "") -> Path:
        """Results and evaluation: <output_path>/<name>/<test_image_set>, with `kind` as a suffix for special tests."""
        name = self.cfg.dataset.test_image_set + ("_seq_nms" if self.cfg.TEST.SEQ_NMS else "") + kind
        return Path(self.cfg.output_path) / self.name / name

    @contextmanager
    def training(self) -> Iterator[Path]:
        """The folder to train in, locked against other runs, with the log open in it."""
        with self._working_in(self.train_folder, "train.log"):
            yield self.train_folder

    @contextmanager
    def testing(self, kind: str = "") -> Iterator[Path]:
        """The folder to test in, locked against other runs, with the log open in it.

        The log begins as that of a training: with the command, versions, commit, weights and configuration.
        """
        with self._working_in(self.test_folder(kind), "test.log"):
            if self.processes.is_main:
                log_environment(self.cfg, self.device, self.weights)
            yield self.test_folder(kind)

    @contextmanager
    def _working_in(self, folder: Path, log: str) -> Iterator[None]:
        with ExitStack() as stack:
            if self.processes.is_main:
                stack.enter_context(hold_folder(folder))
                stack.enter_context(open_log(folder / log))
            else:
                stack.enter_context(quiet_log(self.processes.rank))
            stack.enter_context(joined(self.processes, self.device))
            yield

    def dataset_classes(self) -> Classes:
        """The class list of the data set.

        Raises DatasetError if there is no data set that could have one, ConfigError if dataset.NUM_CLASSES is another
        number, ClassListError if the weights were trained on other classes.
        """
        dataset = self.cfg.dataset
        if not dataset.CLASSES:
            require_dataset(dataset.dataset_path)
        classes = self._listed_classes()
        if self.identity is not None:
            require_same_classes(self.identity.classes, str(self.weights), classes, dataset.CLASSES or "the data set")
        return classes

    def _listed_classes(self) -> Classes:
        dataset = self.cfg.dataset
        classes = load_classes(dataset.CLASSES, dataset.dataset_path)
        if dataset.NUM_CLASSES not in (0, classes.num_classes):
            raise ConfigError(
                f"'dataset.NUM_CLASSES' is {dataset.NUM_CLASSES}, but the class list has {len(classes.names)} classes "
                f"and the background: {classes.num_classes}; correct it or set it to 0"
            )
        return classes

    def trained_classes(self) -> Classes:
        """The classes that the weights were trained on; those of the configuration if the file does not name them.

        No data set need be there. Raises ConfigError as `dataset_classes`.
        """
        return self._listed_classes() if self.identity is None else self.identity.classes

    def identify(self, classes: Classes) -> Identity:
        """The identity that checkpoints of this run have."""
        return Identity(self.method.name, to_dict(self.cfg), classes, self.name)

    def load_model(self, classes: Classes, **arguments: Any) -> VideoModel:
        """The run's model on its device, prepared for inference, with its weights, or random ones if there is no file.

        arguments: further arguments of the method's `build`. Raises CheckpointError.
        """
        if self.identity is not None:
            require_same_function(self.identity, self.cfg, self.weights)
        torch.manual_seed(self.cfg.TRAIN.SEED)
        model = self.method.build(self.cfg, classes.num_classes, **arguments)
        if self.weights is not None:
            load_weights(model, self.weights)
        reduced = set_precision(self.cfg.PRECISION, self.device)
        return prepare_for_inference(model.to(self.device), reduced, self.cfg.COMPILE, self.cfg.PRECISION == "int8")


def open_run(
    method: Method,
    device: torch.device,
    cfg_file: str | None = None,
    presets: list[str] | None = None,
    overrides: list[str] | None = None,
    weights: str | None = None,
    needs_weights: bool = True,
) -> Run:
    """The run that a command line describes.

    Self-describing weights give the configuration, changed by presets and overrides; cfg_file replaces it if given.
    Without weights, needs_weights looks for the checkpoint of TEST.test_epoch in the run's own folder. Raises
    ConfigError and CheckpointError.
    """
    presets, overrides = presets or [], overrides or []
    path = None if weights is None else Path(weights)
    identity = None
    if path is not None:
        if not path.is_file():
            raise CheckpointError(f"{path}: there is no such file; give a checkpoint with --weights")
        identity = _identity_for(method, path)
    if cfg_file is None:
        if identity is None:
            what = "give one with --cfg" if path is None else "it does not say which it was trained with: give --cfg"
            raise ConfigError(f"{path or 'command line'}: no configuration; {what}")
        cfg = load_config(None, overrides, presets, identity.config, f"configuration in {path}")
        name = "_".join([identity.name or path.stem, *(Path(file).stem for file in presets)])
    else:
        cfg = load_config(cfg_file, overrides, presets)
        name = "_".join(Path(file).stem for file in (cfg_file, *presets))
    run = Run(method, cfg, name, device, path, identity)
    if path is not None or not needs_weights:
        return run
    path = run.checkpoints.weights_of_epoch(cfg.TEST.test_epoch or cfg.TRAIN.end_epoch)
    if not path.is_file():
        raise CheckpointError(f"{path}: there is no such file; train first, or name a checkpoint with --weights")
    return Run(method, cfg, name, device, path, _identity_for(method, path))


def _identity_for(method: Method, path: Path) -> Identity | None:
    identity = read_identity(path)
    if identity is not None and identity.method != method.name:
        raise CheckpointError(
            f"{path}: holds a detector of method '{identity.method}', not '{method.name}'; use the scripts in "
            f"{identity.method}/"
        )
    return identity
