"""Trainings and tests that processes share, by torchrun: the same numbers as of one process, also when one is lost."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import weakref
from datetime import timedelta
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from torch.cuda._utils import _get_device_index

from lib.engine import distributed
from lib.engine.checkpoint import load_checkpoint
from lib.engine.device import device_of
from lib.engine.distributed import DistributedError, Processes, batches_of_process, joined
from tests.engine import shared_runs
from tests.engine.test_train import same_content, without_resume

ROOT = Path(__file__).resolve().parents[2]
TINY = ("tiny/tiny-0002.pth", "tiny_with_mean_gradients/tiny-0002.pth")
BY_TWO = tuple(f"detectors/{method}/small-0001.pth" for method in ("rfcn", "dff", "fgfa"))
BY_FOUR = "fgfa_by_four/fgfa/small-0001.pth"
RESULTS = "toy_run/VID_val_videos/detections.txt"


def start(folder: Path, processes: int, *what: str, restarts: int = 0) -> subprocess.CompletedProcess:
    """`what` of shared_runs in `folder`, in one process or by torchrun."""
    if not (folder / "test_set").exists():
        shared_runs.write_test_set(folder / "test_set")
    torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
    torchrun += ["--max-restarts", str(restarts)]
    done = subprocess.run(
        [sys.executable, *(torchrun if processes > 1 else []), "-m", shared_runs.__name__, str(folder), *what],
        cwd=ROOT,
        env=os.environ | {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""},
        capture_output=True,
        text=True,
        timeout=550,
        check=False,
    )
    assert shared_runs.LEFT_BEHIND not in done.stderr, done.stderr
    return done


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """The folders of one process and of two that did the same, to the end."""
    folders = []
    for processes in (1, 2):
        folders.append(tmp_path_factory.mktemp(f"of_{processes}"))
        what = ("tiny", "tiny_with_mean_gradients", "detectors", "fgfa_by_four", "test")
        done = start(folders[-1], processes, *what)
        assert done.returncode == 0, done.stderr
    return folders


@pytest.mark.parametrize("name", [*TINY, *BY_TWO, BY_FOUR])
def test_two_processes_learn_what_one_does(runs, name):
    """Sums of four gradients are rounded in another order; those of two are the same, bit for bit."""
    one, two = (load_checkpoint(folder / name) for folder in runs)
    assert one["iteration"] == two["iteration"] == shared_runs.UPDATES
    for content in (one, two):
        content["optimizer"] = content["optimizer"]["state"]
    for key, rtol in (("model", 1e-5), ("optimizer", 1e-5), ("metrics", 1e-3)):
        tolerance = {"rtol": 0, "atol": 0} if name in BY_TWO else {"rtol": rtol, "atol": 1e-5}
        torch.testing.assert_close(two[key], one[key], **tolerance)


def test_two_processes_find_what_one_does(runs):
    one, two = ((folder / "test" / RESULTS) for folder in runs)
    assert two.read_bytes() == one.read_bytes()
    assert len(one.read_text().splitlines()) > 50
    assert not list(two.parent.glob("*process*")), "the files of the processes are joined"
    evaluations = [json.loads((path.parent / "evaluation.json").read_text()) for path in (one, two)]
    assert evaluations[0]["ap"] == evaluations[1]["ap"]
    begun = [json.loads((runs[1] / "test" / f"life_0_process_{rank}.json").read_text()) for rank in (0, 1)]
    assert sum(begun) == 5, "each video is tested once"


def test_a_lost_process_ends_the_run_with_one_line_and_a_checkpoint_to_go_on_from(runs, tmp_path):
    done = start(tmp_path, 2, "tiny_with_a_loss")
    assert done.returncode != 0
    lines = re.split(r"[\r\n]+", done.stderr)
    assert sum(line.startswith("error: process 0 of 2 has lost the connection to another one") for line in lines) == 1
    assert any("failed (exitcode: -9) local_rank: 1" in line for line in lines), "torchrun says which one"
    assert not any("[rank0]:" in line and "Error" in line for line in lines), done.stderr
    folder = tmp_path / "tiny_with_a_loss"
    assert load_checkpoint(folder / "tiny-latest.pth")["iteration"] == 12
    said = r"stopped by the error below after 12 updates .* saved \S+tiny-latest\.pth; to go on, run the same command"
    assert re.search(said, (folder / "train.log").read_text())

    again = start(tmp_path, 2, "tiny_after_the_loss")
    assert again.returncode == 0, again.stderr
    same_content(without_resume(folder / "tiny-0002.pth"), without_resume(runs[1] / TINY[0]))


def test_torchrun_restarts_a_run_that_ends_as_one_without_a_loss(runs, tmp_path):
    """First a training loses a process, then a test does; what was done is not done again."""
    done = start(tmp_path, 2, "tiny_with_a_loss", "test_with_a_loss", restarts=2)
    assert done.returncode == 0, done.stderr
    assert "of_2" in str(runs[1])
    for epoch in (1, 2):
        name = f"tiny-{epoch:04d}.pth"
        same_content(load_checkpoint(tmp_path / "tiny_with_a_loss" / name), load_checkpoint(runs[1] / "tiny" / name))
    log = (tmp_path / "tiny_with_a_loss" / "train.log").read_text()
    assert len(re.findall(r"resuming \S+: epoch 1\.200, 12 updates done", log)) == 1
    assert (tmp_path / "test_with_a_loss" / RESULTS).read_bytes() == (runs[0] / "test" / RESULTS).read_bytes()
    notes = (tmp_path / "test_with_a_loss").glob("life_*.json")
    assert sum(json.loads(path.read_text()) for path in notes) <= 5 + 2, "the video that a process was in is done again"


@pytest.mark.parametrize(("name", "local_rank", "taken"), [("cuda", 0, 0), ("cuda", 1, 1), ("cuda:1", 0, 1)])
def test_every_process_takes_the_gpu_of_its_rank_and_waits_for_long(monkeypatch, name, local_rank, taken):
    """With torch's own check of the device, which wants a number; the exchange itself needs GPUs."""
    gpus, begun = [], []
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "set_device", lambda device: gpus.append(_get_device_index(device)))
    store = dist.HashStore()
    monkeypatch.setattr(distributed.dist, "rendezvous", lambda url: iter([(store, local_rank, 2)]))
    monkeypatch.setattr(distributed.dist, "init_process_group", lambda *args, **named: begun.append((*args, named)))
    monkeypatch.setattr(distributed.dist, "destroy_process_group", lambda: None)
    with joined(Processes(local_rank, 2, local_rank), device_of(name, local_rank)):
        assert gpus == [taken]
    ((backend, named),) = begun
    assert (backend, named["rank"], named["world_size"]) == ("nccl", local_rank, 2)
    for timeout in (named["timeout"], store.timeout):
        assert timeout > timedelta(hours=12), "a share of a long test"


@pytest.fixture
def a_group_that_ends_with_a_signal(monkeypatch):
    """`joined` without other processes; SIGINT comes while the group is destroyed. The list tells when that is done."""
    ended = []
    monkeypatch.setattr(distributed.dist, "rendezvous", lambda url: iter([(dist.HashStore(), 0, 2)]))
    monkeypatch.setattr(distributed.dist, "init_process_group", lambda *args, **named: None)

    def destroy() -> None:
        signal.raise_signal(signal.SIGINT)
        ended.append(True)

    monkeypatch.setattr(distributed.dist, "destroy_process_group", destroy)
    return ended


def test_a_signal_waits_until_the_group_is_destroyed(a_group_that_ends_with_a_signal):
    with pytest.raises(KeyboardInterrupt), joined(Processes(0, 2), torch.device("cpu")):
        pass
    assert a_group_that_ends_with_a_signal


def test_a_signal_does_not_hide_the_error_that_ends_the_process(a_group_that_ends_with_a_signal):
    """torchrun sends one as soon as another process is lost."""
    expected = pytest.raises(DistributedError, match="process 0 of 2 has lost the connection")
    with expected, joined(Processes(0, 2), torch.device("cpu")):
        raise dist.DistError("gone")
    assert a_group_that_ends_with_a_signal


def test_an_error_does_not_keep_the_group_alive(monkeypatch):
    """The tracebacks of the error and of its cause hold local variables."""

    class Group:
        pass

    groups, alive = [], []

    def exchange() -> None:
        group = Group()
        groups.append(weakref.ref(group))
        raise dist.DistError("gone")

    monkeypatch.setattr(distributed.dist, "rendezvous", lambda url: iter([(dist.HashStore(), 0, 2)]))
    monkeypatch.setattr(distributed.dist, "init_process_group", lambda *args, **named: None)
    monkeypatch.setattr(distributed.dist, "destroy_process_group", lambda: alive.append(groups[0]() is not None))
    with pytest.raises(DistributedError), joined(Processes(0, 2), torch.device("cpu")):
        exchange()
    assert alive == [False]


def test_batches_that_cannot_be_shared_are_refused():
    assert batches_of_process(Processes(1, 2), 4) == 2
    with pytest.raises(
        DistributedError, match=r"BATCHES_PER_UPDATE 4 cannot be shared .* among 3 .*; start 1 or 2 or 4"
    ):
        batches_of_process(Processes(0, 3), 4)
