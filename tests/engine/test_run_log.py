import logging
import sys

import pytest
import torch
from tqdm import tqdm

from lib.config import default_config
from lib.engine.run_log import Curves, log_environment, open_log
from lib.version import commit

LOGGER = logging.getLogger("lib.somewhere")


def test_lines_go_to_the_file_once_and_to_the_console(tmp_path, capsys):
    path = tmp_path / "deep" / "down" / "train.log"
    handlers = list(logging.getLogger().handlers)
    with open_log(path):
        with open_log(path):
            LOGGER.info("inner %d", 1)
        LOGGER.warning("outer")
    LOGGER.warning("afterwards")
    lines = path.read_text().splitlines()
    assert [line.split(" ", 2)[2] for line in lines] == ["INFO inner 1", "WARNING outer"]
    console = capsys.readouterr().err
    assert console.count("inner 1") == console.count("outer") == 1
    assert logging.getLogger().handlers == handlers


def test_two_logs_share_the_console(tmp_path, capsys):
    with open_log(tmp_path / "a.log"), open_log(tmp_path / "b.log"):
        LOGGER.info("both")
    assert "both" in (tmp_path / "a.log").read_text()
    assert "both" in (tmp_path / "b.log").read_text()
    assert capsys.readouterr().err.count("both") == 1


def test_a_second_run_adds_to_the_file(tmp_path):
    for text in ("first", "second"):
        with open_log(tmp_path / "train.log"):
            LOGGER.info(text)
    assert [line.split()[-1] for line in (tmp_path / "train.log").read_text().splitlines()] == ["first", "second"]


def test_a_line_stands_above_an_open_bar(tmp_path, capsys):
    with open_log(tmp_path / "train.log"), tqdm(total=2, file=sys.stderr, desc="bar") as bar:
        bar.update()
        LOGGER.info("a whole line")
    pieces = capsys.readouterr().err.replace("\r", "\n").splitlines()
    assert "a whole line" in [piece.strip() for piece in pieces]


def test_the_environment_is_recorded(tmp_path):
    cfg = default_config()
    cfg.TRAIN.lr = 0.125
    with open_log(tmp_path / "train.log"):
        log_environment(cfg, torch.device("cpu"))
    text = (tmp_path / "train.log").read_text()
    for needed in (f"torch {torch.__version__}", f"{torch.get_num_threads()} threads", "lr: 0.125", commit()):
        assert needed in text


def test_commit_without_git(monkeypatch):
    monkeypatch.setenv("PATH", "")
    assert commit.__wrapped__() == "unknown"  # not what was found before


def test_curves_can_be_read_back(tmp_path):
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    curves = Curves(tmp_path, first_step=1)
    curves.add({"train/loss": 2.0}, 1)
    curves.add({"train/loss": 1.0}, 2)
    curves.close()
    resumed = Curves(tmp_path, first_step=2)  # update 2 is done once more after a crash
    resumed.add({"train/loss": 0.5}, 2)
    resumed.close()
    events = accumulator.EventAccumulator(str(tmp_path))
    events.Reload()
    assert [(point.step, point.value) for point in events.Scalars("train/loss")] == [(1, 2.0), (2, 0.5)]


def test_no_tensorboard_is_one_warning(tmp_path, monkeypatch, caplog):
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    curves = Curves(tmp_path / "events", first_step=1)
    curves.add({"train/loss": 2.0}, 1)
    curves.close()
    assert "pip install tensorboard" in caplog.text
    assert not (tmp_path / "events").exists()
