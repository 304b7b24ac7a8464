"""Reader processes: they ignore signals, and the death of one is one clear error."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
import time
from multiprocessing import connection

import pytest
import torch
from torch.utils.data import DataLoader, Dataset

from lib.data.workers import ReaderError, samples_of, start_worker
from lib.errors import InputError


class Numbers(Dataset):
    """Item i is i; `at` gives an item of its own: what a function returns or raises."""

    def __init__(self, at=None):
        self.at = at or {}

    def __len__(self):
        return 12

    def __getitem__(self, number):
        return self.at[number]() if number in self.at else number


def read(dataset, workers=2):
    return samples_of(
        DataLoader(
            dataset, batch_size=None, num_workers=workers, worker_init_fn=start_worker, generator=torch.Generator()
        )
    )


@pytest.mark.parametrize("workers", [0, 2])
def test_samples_come_in_order(workers):
    assert list(read(Numbers(), workers)) == list(range(12))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_workers_ignore_signals_of_their_process_group(number):
    """From the beginning: the first signal is sent as soon as the loader has started them."""
    samples = read(Numbers())
    found = [next(samples)]
    for _ in range(5):
        for process in multiprocessing.active_children():
            os.kill(process.pid, number)
        found.append(next(samples))
    assert found + list(samples) == list(range(12))


def test_a_signal_while_workers_start_is_ignored():
    """A worker signals its own process group before the other worker has started."""
    code = """
import os, signal
from torch.utils.data import DataLoader
from lib.data.workers import samples_of, start_worker
from lib.engine.interruption import StopRequest
from tests.data.test_workers import Numbers

def start(worker):
    os.killpg(0, signal.SIGTERM)
    start_worker(worker)

with StopRequest() as stop:
    loader = DataLoader(Numbers(), batch_size=None, num_workers=2, worker_init_fn=start)
    print(list(samples_of(loader)), stop.signal_number)
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, start_new_session=True, timeout=300, check=False
    )
    assert done.stdout.split("\n")[0] == f"{list(range(12))} {int(signal.SIGTERM)}", done.stderr
    assert done.stderr == ""


def test_the_process_itself_hears_signals_as_before():
    before = signal.pthread_sigmask(signal.SIG_BLOCK, [])
    samples = read(Numbers())
    next(samples)
    assert signal.pthread_sigmask(signal.SIG_BLOCK, []) == before


def test_the_death_of_a_worker_is_raised_with_the_next_sample():
    """And not before: between two samples, this process may be in the middle of an update."""
    before = set(multiprocessing.active_children())  # those of other tests may still be ending
    samples = read(Numbers())
    next(samples)
    worker = next(child for child in multiprocessing.active_children() if child not in before)
    os.kill(worker.pid, signal.SIGKILL)
    deadline = time.monotonic() + 60
    while worker.is_alive() and time.monotonic() < deadline:
        time.sleep(0.01)  # the handler of SIGCHLD runs in here
    with pytest.raises(ReaderError, match=rf"process {worker.pid}, .* died \(SIGKILL\)"):
        next(samples)


def test_the_death_of_a_worker_between_two_epochs_is_raised_too():
    """Workers that persist are asked for an answer when an epoch begins."""
    loader = DataLoader(Numbers(), batch_size=None, num_workers=2, worker_init_fn=start_worker, persistent_workers=True)
    assert list(samples_of(loader)) == list(range(12))
    worker = loader._iterator._workers[1]
    os.kill(worker.pid, signal.SIGKILL)
    worker.join(60)
    with pytest.raises(ReaderError, match=rf"process {worker.pid}, .* died \(SIGKILL\)"):
        list(samples_of(loader))


def test_a_partial_message_of_a_killed_worker_does_not_block():
    """Another worker keeps the pipe of the killed one open: reading the rest of its message would block for ever."""

    def kill_in_the_middle():
        def send_half(self, content):
            os.write(self.fileno(), content[: len(content) // 2])
            os.kill(os.getpid(), signal.SIGKILL)

        time.sleep(1)  # this process waits already
        connection.Connection._send = send_half
        return 4

    with pytest.raises(ReaderError, match=r"died \(SIGKILL\)"):
        list(read(Numbers({4: kill_in_the_middle})))


@pytest.mark.parametrize(
    ("end", "said"), [(lambda: os.kill(os.getpid(), signal.SIGKILL), "SIGKILL"), (lambda: os._exit(7), "exit status 7")]
)
def test_a_worker_that_dies_is_one_error_that_says_how(end, said):
    samples = read(Numbers({4: end}))
    found = []
    with pytest.raises(ReaderError, match=rf"process \d+, which read training samples, died \({said}\); .*WORKERS"):
        found.extend(samples)
    assert found == list(range(len(found)))
    assert len(found) <= 4


def test_errors_of_a_user_and_of_the_code_are_told_apart():
    def wrong():
        raise KeyError("a mistake of ours")

    for workers in (0, 1):
        with pytest.raises(InputError, match=r"^image 3 is broken$"):
            list(read(Numbers({3: lambda: InputError("image 3 is broken")}), workers))
        with pytest.raises(KeyError, match="a mistake of ours"):
            list(read(Numbers({3: wrong}), workers))


def test_an_unused_loader_does_not_keep_the_process_alive():
    """As after an error whose traceback holds it."""
    code = """
import torch
from torch.utils.data import DataLoader
from lib.data.workers import samples_of, start_worker
from tests.data.test_workers import Numbers

samples = samples_of(DataLoader(Numbers(), batch_size=None, num_workers=2, worker_init_fn=start_worker))
next(samples)
raise RuntimeError("a mistake")
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 1
    assert done.stderr.endswith("RuntimeError: a mistake\n")
