"""A training that meets a full disk, or whose reader dies: the same command goes on and ends as without it."""

from __future__ import annotations

import errno
import json
import os
import signal
import threading

import pytest
import torch

import lib.files
from lib.data.classes import IMAGENET_VID
from lib.data.loader import ReadingRule, TrainingLoader, TrainingSet
from lib.data.roidb import load_roidb
from lib.data.transforms import Preprocessing
from lib.data.workers import ReaderError
from lib.engine.checkpoint import load_checkpoint
from lib.engine.run_log import Curves, MetricsFile
from lib.engine.train import train
from lib.files import OutputError
from rfcn.model import build_rfcn
from tests.data.toy_vid import write_toy
from tests.engine.full_disk import full_disk
from tests.engine.stand_ins import NUM_SAMPLES, TinyModel, config, loader_of
from tests.engine.test_train import same_content
from tests.models.small import small_config

CHANGING = ("samples_per_second", "data_seconds", "compute_seconds", "memory_gib", "seconds_left")


def figures(folder):
    """What metrics.jsonl says of each update, without the speed of the machine."""
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [{key: value for key, value in line.items() if key not in CHANGING} for line in lines]


def assert_the_same_end(folder, other, prefix):
    """All checkpoints and logged figures of two trainings, bit for bit, and nothing left over."""
    names = sorted(path.name for path in folder.glob(f"{prefix}-*.pth"))
    assert names == sorted(path.name for path in other.glob(f"{prefix}-*.pth"))
    assert len(names) == 2
    for name in names:
        same_content(load_checkpoint(folder / name), load_checkpoint(other / name))
    assert figures(folder) == figures(other)
    assert not list(folder.glob(".*.part*"))


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """The folder of a training of two epochs of six updates, with a checkpoint after each."""
    folder = tmp_path_factory.mktemp("undisturbed")
    train_tiny(folder)
    return folder


def train_tiny(folder, loader=loader_of):
    cfg = config("TRAIN.RESUME=true", "TRAIN.CHECKPOINT_MINUTES=1e-9")
    train(TinyModel(), loader, cfg, folder, num_samples=NUM_SAMPLES)


@pytest.mark.parametrize("room", [0, 5000])
@pytest.mark.parametrize(
    ("place", "unwritten", "newest"),
    [
        (0, "latest", None),
        (5, "0001", "latest"),
        (6, "latest", "0001"),
        (8, "latest", "latest"),
        (11, "0002", "latest"),
    ],
)
def test_a_disk_that_is_full_at_a_checkpoint(undisturbed, tmp_path, monkeypatch, place, unwritten, newest, room):
    """place: updates before the one whose checkpoint does not fit."""
    with monkeypatch.context() as patch:

        def loader(epoch, start):
            for number, batch in enumerate(loader_of(epoch, start), 6 * epoch + start):
                if number == place:
                    patch.setattr(lib.files, "open", full_disk(room), raising=False)
                yield batch

        with pytest.raises(OutputError, match=rf"tiny-{unwritten}\.pth: cannot be written \(No space .* free some"):
            train_tiny(tmp_path, loader)
        with pytest.raises(OutputError, match="No space left on device"):
            train_tiny(tmp_path)  # the disk is still full
    kept = tmp_path / f"tiny-{newest}.pth"
    assert newest is None or load_checkpoint(kept)["iteration"] == place
    train_tiny(tmp_path)
    assert_the_same_end(tmp_path, undisturbed, "tiny")


def test_curves_on_a_full_disk_are_one_warning(tmp_path, monkeypatch, caplog, capfd):
    """TensorBoard's thread meets the error; a later call of its writer raises it."""
    pytest.importorskip("tensorboard")
    hook = threading.excepthook
    curves = Curves(tmp_path, first_step=1)
    from tensorboard.summary.writer.record_writer import RecordWriter

    def fails(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(RecordWriter, "write", fails)
    monkeypatch.setattr(RecordWriter, "flush", fails)
    for step in range(1, 50):
        curves.add({"train/loss": 1.0, "train/rate": 0.5}, step)
    curves.close()
    assert caplog.text.count("points of TensorBoard's curves are lost ([Errno 28] No space left on device)") == 1
    assert "Traceback" not in capfd.readouterr().err
    assert threading.excepthook is hook


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="a device of Linux")
def test_metrics_on_a_full_disk_name_their_file(tmp_path):
    """Closing the file, which still has the line, says no more."""
    metrics = MetricsFile(tmp_path / "metrics.jsonl", first_update=1)
    metrics._file.close()
    metrics._file = open("/dev/full", "a", encoding="utf-8")  # noqa: SIM115 (closed below)
    with pytest.raises(OutputError, match=r"metrics\.jsonl: cannot be written \(No space left on device\)"):
        metrics.add(1, loss=1.0)
    metrics.close()


class SmallTraining:
    """A training of a small R-FCN with one reader process: two epochs of six batches, each of them an update."""

    def __init__(self, folder):
        self.data = TrainingSet(
            load_roidb(write_toy(folder / "toy"), "DET_train+VID_train", IMAGENET_VID, folder / "cache"),
            Preprocessing(36, 100, (0.0, 0.0, 0.0)),
            batch_images=2,
        )
        self.undisturbed = folder / "undisturbed"
        self.run(self.undisturbed)

    def run(self, folder, dies_at=None):
        """dies_at: number of the batch at which the reader is killed."""
        settings = ("network.WIDTH=8", "TRAIN.BATCH_IMAGES=2", "TRAIN.BATCHES_PER_UPDATE=1", "TRAIN.end_epoch=2")
        cfg = small_config(*settings, "TRAIN.RESUME=true", "TRAIN.lr=0.0005", "TRAIN.model_prefix=small")
        read = TrainingLoader(self.data, ReadingRule(workers=1))

        def loader(epoch, start):
            for number, batch in enumerate(read(epoch, start), 6 * epoch + start):
                if number == dies_at:
                    (reader,) = read._loader._iterator._workers
                    os.kill(reader.pid, signal.SIGKILL)
                    reader.join(60)
                yield batch

        torch.manual_seed(0)
        train(build_rfcn(cfg, IMAGENET_VID.num_classes), loader, cfg, folder, num_samples=len(self.data))


@pytest.fixture(scope="module")
def small_training(tmp_path_factory):
    return SmallTraining(tmp_path_factory.mktemp("small"))


@pytest.mark.parametrize("number", [1, 4, 8])
def test_a_reader_that_is_killed(small_training, tmp_path, number):
    with pytest.raises(ReaderError, match=r"died \(SIGKILL\)"):
        small_training.run(tmp_path, dies_at=number)
    assert load_checkpoint(tmp_path / "small-latest.pth")["iteration"] == number + 1
    small_training.run(tmp_path)
    assert_the_same_end(tmp_path, small_training.undisturbed, "small")
