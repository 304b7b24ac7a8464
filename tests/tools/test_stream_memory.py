"""tools/stream_memory.py: a short stream is flat, and what grows is found."""

from __future__ import annotations

import json
import mmap
import sys
import threading

import pytest

from tools import stream_memory
from tools.stream_memory import Sample, growth

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the tool reads /proc")


@pytest.mark.parametrize("method", stream_memory.METHODS)
def test_a_stream_is_flat(tmp_path, capsys, method):
    out = tmp_path / "curve.json"
    assert stream_memory.main(["--methods", method, "--frames", "300", "--out", str(out)]) == 0
    curve = json.loads(out.read_text())[method]
    assert curve[-1]["frames"] == 300
    assert all(one["resident_mib"] > 1 and one["open_files"] > 2 and one["threads"] > 0 for one in curve)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == f"{method}, 300 frames of one video"
    assert lines[-2].split()[0] == "300"
    assert lines[-1] == "nothing grew"


class Leaky:
    """A detector that keeps a thread, an open file or 1 MiB of every frame."""

    def __init__(self, what: str) -> None:
        self.what, self.kept = what, []
        self.end = threading.Event()

    def __call__(self, frames):
        try:
            for frame in frames:
                if self.what == "threads":
                    self.kept.append(threading.Thread(target=self.end.wait))
                    self.kept[-1].start()
                elif self.what == "open files":
                    self.kept.append(open("/dev/null"))  # noqa: SIM115 (kept open on purpose)
                else:
                    # Not from Python's or C's pools, which may have as much to spare after other tests
                    self.kept.append(mmap.mmap(-1, 2**20))
                    self.kept[-1].write(b"1" * 2**20)
                yield frame
        finally:
            self.end.set()
            for one in self.kept:
                if hasattr(one, "close"):
                    one.close()


@pytest.mark.parametrize("what", ["resident memory", "open files", "threads"])
def test_a_leak_is_found(monkeypatch, capsys, what):
    monkeypatch.setattr(stream_memory, "tiny_detector", lambda method: Leaky(what))
    assert stream_memory.main(["--methods", "dff", "--frames", "60"]) == 1
    grew = [line for line in capsys.readouterr().out.splitlines() if line.startswith("grew: ")]
    assert [line.split(": ")[1] for line in grew] == [what]


def test_what_fills_at_the_beginning_or_comes_and_goes_is_no_growth():
    warm = [Sample(n, 100 + min(n, 10), 5 + n % 3, 2 + n % 2) for n in range(50)]
    assert growth(warm, 1) == []
    assert growth([*warm, Sample(50, 112, 7, 3)], 1) == ["resident memory: from 110 to 112 MiB"]
    assert growth([*warm, Sample(50, 110, 9, 4)], 1) == ["open files: from 7 to 9", "threads: from 3 to 4"]


@pytest.mark.parametrize("frames", ["0", "49", "-1", "many"])
def test_too_few_frames_are_refused(capsys, frames):
    with pytest.raises(SystemExit):
        stream_memory.main(["--frames", frames])
    assert "--frames" in capsys.readouterr().err


def test_a_system_without_proc_is_named(monkeypatch):
    monkeypatch.setattr(stream_memory.os, "listdir", lambda path: (_ for _ in ()).throw(FileNotFoundError(2, "gone")))
    with pytest.raises(stream_memory.NoProcError, match=r"/proc/self: cannot be read .*; this tool needs Linux"):
        stream_memory.sample(1)
