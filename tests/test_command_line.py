"""How scripts end, and what arguments may be."""

from __future__ import annotations

import argparse
import errno
import logging
import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
import torch

from lib.command_line import child_environment, count, positive_count, positive_number, rate, run_script, share
from lib.errors import InputError

ROOT = Path(__file__).resolve().parents[1]


def ends(main):
    """The exit status of a script."""
    with pytest.raises(SystemExit) as stop:
        run_script(main)
    return stop.value.code


def raises(error):
    def main():
        raise error

    return main


@pytest.mark.parametrize(("returned", "status"), [(None, (0, None)), (0, (0, None)), (1, (1,))])
def test_a_script_ends_with_what_it_returns(capsys, returned, status):
    assert ends(lambda: returned) in status
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (InputError("a.yaml: 'x' is wrong"), "error: a.yaml: 'x' is wrong"),
        (OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "a.txt"), "error: a.txt: No space left on device"),
        (OSError(errno.EIO, os.strerror(errno.EIO)), "error: Input/output error"),
        (OSError("something of a library"), "error: something of a library"),
        (PermissionError(errno.EACCES, "Permission denied", "/srv/a"), "error: /srv/a: Permission denied"),
    ],
)
def test_what_a_user_can_mend_is_one_line_and_status_2(capsys, error, line):
    assert ends(raises(error)) == 2
    assert capsys.readouterr() == ("", f"{line}\n")


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB."),
        RuntimeError(
            "[enforce fail at alloc_cpu.cpp:127] err == 0. DefaultCPUAllocator: can't allocate memory: you tried"
        ),
    ],
    ids=lambda error: type(error).__name__,
)
def test_too_little_memory_is_one_line_that_says_what_to_do(capsys, error):
    assert ends(raises(error)) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: out of memory; ")
    assert "BATCH_IMAGES" in line


def test_an_interrupt_is_one_line_and_status_130(capsys):
    assert ends(raises(KeyboardInterrupt())) == 130
    assert capsys.readouterr().err.count("\n") == 1


def test_an_interrupt_before_the_script_begins_is_one_line(monkeypatch, capsys):
    monkeypatch.setattr(logging, "basicConfig", lambda **_: raises(KeyboardInterrupt)())
    assert ends(lambda: pytest.fail("it began")) == 130
    assert capsys.readouterr().err == "interrupted; a test goes on where it was with the same command\n"


def test_an_interrupt_that_breaks_the_clean_up_is_an_interrupt_all_the_same(capsys):
    """An interrupt at the first line of the standard library's `try` leaves its `finally` nothing to undo."""

    def main():
        action = argparse.Action([], "x")
        try:
            raise KeyboardInterrupt
        finally:
            action.nargs = action.save_nargs

    assert ends(main) == 130
    assert capsys.readouterr().err == "interrupted; a test goes on where it was with the same command\n"


def test_a_mistake_in_the_code_keeps_its_traceback():
    for error in (KeyError("x"), RuntimeError("y"), ValueError("z")):
        with pytest.raises(type(error)):
            run_script(raises(error))


def test_an_exit_of_its_own_is_left_alone():
    assert ends(raises(SystemExit(143))) == 143


def python(code, **arguments):
    return subprocess.Popen(
        [sys.executable, "-c", f"from lib.command_line import run_script\n{code}"],
        cwd=ROOT,
        stderr=subprocess.PIPE,
        text=True,
        **arguments,
    )


@pytest.mark.parametrize("lines", [1, 100_000], ids=["at the end", "in the middle"])
def test_a_closed_output_pipe_is_not_an_error(lines):
    """As in `script | head`."""
    reading, writing = os.pipe()
    process = python(
        f"import time\nrun_script(lambda: [time.sleep(1), print('x' * 50 * {lines}), None][2])", stdout=writing
    )
    os.close(reading)
    os.close(writing)
    assert process.communicate(timeout=300)[1] == ""
    assert process.returncode == 141


def test_standard_error_may_be_closed():
    process = python("import sys\nsys.stderr.close()\nrun_script(lambda: open('/nowhere/at/all'))")
    assert process.communicate(timeout=300)[1] == ""
    assert process.returncode == 2


@pytest.mark.parametrize(
    ("kind", "good", "bad"),
    [
        (count, {"0": 0, "7": 7, "2147483647": 2**31 - 1}, ["-1", "2147483648", "some", "1.5", ""]),
        (positive_count, {"1": 1, "7": 7}, ["0", "-1", "some"]),
        (positive_number, {"1e-3": 1e-3, "7": 7.0}, ["0", "-1", "nan", "inf", "some"]),
        (share, {"0": 0.0, "1": 1.0, "0.5": 0.5}, ["-0.1", "1.1", "nan", "some"]),
        (rate, {"0.01": 0.01, "25": 25.0, "1000": 1000.0}, ["0", "-1", "1001", "nan", "inf", "some"]),
    ],
)
def test_numbers_on_the_command_line(kind, good, bad):
    assert {text: kind(text) for text in good} == good
    for text in bad:
        with pytest.raises(argparse.ArgumentTypeError, match="^must be "):
            kind(text)


def printed_by_script(main: str) -> str:
    """What a script in a process of its own prints; main: the lines of its function."""
    body = textwrap.indent(textwrap.dedent(main), "    ")
    code = f"from lib.command_line import run_script\ndef main():\n{body}\nrun_script(main)"
    environment = child_environment(PYTHONFAULTHANDLER="", OMP_NUM_THREADS="1")
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="asks Linux for the stack of signals")
def test_signals_of_a_script_have_a_stack_of_their_own():
    printed = printed_by_script("""
        import ctypes
        class Stack(ctypes.Structure):
            _fields_ = [("address", ctypes.c_void_p), ("flags", ctypes.c_int), ("size", ctypes.c_size_t)]
        stack = Stack()
        ctypes.CDLL(None).sigaltstack(None, ctypes.byref(stack))
        print(stack.flags, stack.size)
    """)
    flags, size = map(int, printed.split())
    assert flags == 0, "2 is SS_DISABLE: there is none"
    assert size >= 8192


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="needs a timer that sends signals")
def test_signals_during_small_convolutions_change_nothing():
    """Without a stack of their own they overwrote memory with torch 2.11, and the process died within seconds."""
    printed = printed_by_script("""
        import signal, torch
        received = []
        signal.signal(signal.SIGALRM, lambda number, frame: received.append(number))
        first = torch.nn.Conv2d(64, 32, 3, padding=6, dilation=6)
        second = torch.nn.Conv2d(64, 64, 3, padding=2, dilation=2)
        x = torch.randn(2, 64, 3, 3, requires_grad=True)
        def gradient():
            return torch.autograd.grad(first(x).square().sum() + second(x).square().sum(), x)[0]
        before, same = gradient(), True
        signal.setitimer(signal.ITIMER_REAL, 1e-4, 1e-4)
        while len(received) < 20000:
            same = same and torch.equal(gradient(), before)
        signal.setitimer(signal.ITIMER_REAL, 0)
        print(same)
    """)
    assert printed.split() == ["True"]
