"""A training of two processes in which one meets a full disk, or loses its reader: one line says so, both processes
end, and the same command goes on and ends as without the fault.
"""

from __future__ import annotations

import os
import re
import secrets
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

from lib.engine.checkpoint import load_checkpoint
from tests.data.toy_vid import write_toy
from tests.engine import faulty_shared_trainings
from tests.engine.faulty_shared_trainings import BAD_UPDATE, UPDATES_PER_EPOCH
from tests.engine.test_training_under_faults import assert_the_same_end
from tools.interrupt_training import MARK, processes_with

ROOT = Path(__file__).resolve().parents[2]

pytestmark = pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="finds processes as Linux lists them")


@dataclass
class End:
    """How a run of two processes ended.

    status: torchrun's. printed: lines of standard error by rank. left: processes that live on. newest: name and updates
    of the newest checkpoint in the first folder. hidden: half-written files there.
    """

    status: int
    printed: list[list[str]]
    left: list[int]
    newest: tuple[str, int]
    hidden: list[Path]


def run(logs: Path, data: Path, fault: str, rank: int, *folders: Path) -> End:
    """Train in `folders` by torchrun, and wait until all its processes have gone."""
    mark = secrets.token_hex(8)
    words = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "--redirects=3", f"--log-dir={logs}"]
    words += ["-m", faulty_shared_trainings.__name__, str(data), fault, str(rank), *map(str, folders)]
    done = subprocess.run(
        [sys.executable, *words],
        cwd=ROOT,
        env=os.environ | {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "", MARK: mark},
        capture_output=True,
        timeout=550,
        check=False,
    )
    deadline = time.monotonic() + 60  # a reader looks every few seconds whether its training lives
    while (left := processes_with(mark)) and time.monotonic() < deadline:
        time.sleep(0.2)
    outputs = [next(logs.glob(f"*/attempt_0/{number}/stderr.log")).read_text() for number in (0, 1)]
    printed = [[line for line in re.split(r"[\r\n]+", output) if line.strip()] for output in outputs]
    updates = {path.name: load_checkpoint(path)["iteration"] for path in folders[0].glob("small-*.pth")}
    newest = max(updates.items(), key=lambda item: item[1])
    return End(done.returncode, printed, left, newest, list(folders[0].glob(".*.part*")))


FAULTS = (("disk", 0), ("reader", 0), ("reader", 1))  # what, and in the process of which rank


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """Where `ends` keeps the folders of trainings: `undisturbed`, `disk_0` and so on."""
    return tmp_path_factory.mktemp("shared")


@pytest.fixture(scope="module")
def ends(root):
    """The end of a training with each fault; then all are resumed in one go, beside one without any."""
    data = write_toy(root / "toy")
    folders = {fault: root / "{}_{}".format(*fault) for fault in FAULTS}
    found = {fault: run(root / "logs" / folder.name, data, *fault, folder) for fault, folder in folders.items()}
    again = run(root / "logs" / "again", data, "none", 0, root / "undisturbed", *folders.values())
    assert again.status == 0, again.printed
    assert not again.left
    return found


def assert_one_line_of_each(end: End, rank: int, said: str) -> None:
    """The process of rank `rank` says what happened, the other at most that it has lost the first."""
    assert re.fullmatch(said, end.printed[rank][-1]), end.printed[rank]
    lost = f"error: process {1 - rank} of 2 has lost the connection to another one"
    for number, lines in enumerate(end.printed):
        of_errors = [line for line in lines if re.search("error|Traceback", line, re.IGNORECASE)]
        plain = [line for line in of_errors if not line.startswith("stopped by the error below after ")]
        assert plain == lines[-1:] if number == rank else all(line.startswith(lost) for line in plain), lines


def test_a_full_disk_ends_both_processes(root, ends):
    end = ends["disk", 0]
    assert end.status != 0
    full = r"error: \S+small-0002\.pth: cannot be written \(No space left on device\); free some space"
    assert_one_line_of_each(end, 0, full)
    assert not end.left
    assert end.newest == ("small-0001.pth", UPDATES_PER_EPOCH)
    assert not end.hidden
    assert_the_same_end(root / "disk_0", root / "undisturbed", "small")


@pytest.mark.parametrize("rank", [0, 1])
def test_a_dead_reader_ends_both_processes(root, ends, rank):
    end = ends["reader", rank]
    assert end.status != 0
    died = r"error: process \d+, which read training samples, died \(SIGKILL\); where memory ran out, lower .*"
    assert_one_line_of_each(end, rank, died)
    assert not end.left
    assert end.newest == ("small-latest.pth", BAD_UPDATE)
    assert_the_same_end(root / f"reader_{rank}", root / "undisturbed", "small")
