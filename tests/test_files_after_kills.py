"""A process that is killed in the midst of writing leaves a hidden file; the next one that writes there removes it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from lib.files import made_by_dead_process, unique_mark

ROOT = Path(__file__).resolve().parents[1]
WRITE_HALF = """
import sys, time
from lib.files import writing
with writing(sys.argv[1], text=True) as file:
    file.write("half")
    file.flush()
    print("half", flush=True)
    time.sleep(600)
"""
STARTS = {
    "an output": "import sys; from lib.files import write_text; write_text(sys.argv[1], 'whole')",
    "a check of an output": "import sys; from lib.files import check_output; check_output(sys.argv[1])",
    "a run in the folder": """
import os, sys
from lib.files import hold_folder
with hold_folder(os.path.dirname(sys.argv[1])):
    pass
""",
}
MAKE_DATASET = """
import sys, time
from pathlib import Path
from lib.synthetic.casting import Settings
from lib.synthetic.dataset import Plan, make_dataset

def wait(finished, count):
    yield next(iter(finished))
    print("one video", flush=True)
    time.sleep(600)

plan = Plan(Settings(width=96, height=80, frames=3, seed=2), train_videos=2, val_videos=0, stills=0)
make_dataset(Path(sys.argv[1]), plan, progress=wait if sys.argv[2] == "wait" else None)
"""

pytestmark = pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs signals that cannot be caught")


def started(script: str, *arguments) -> subprocess.Popen:
    command = [sys.executable, "-c", script, *map(str, arguments)]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)


def killed(script: str, *arguments) -> None:
    """Kill `script` when it has printed its line."""
    with started(script, *arguments) as process:
        assert process.stdout.readline()
        process.kill()
    assert process.returncode == -signal.SIGKILL


def ended(script: str, *arguments) -> None:
    with started(script, *arguments) as process:
        process.communicate()
    assert process.returncode == 0


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


@pytest.mark.parametrize("start", STARTS)
@pytest.mark.parametrize("name", ["a.txt", "a", "n" * 250 + ".json"])
def test_the_next_start_removes_what_a_killed_run_left(tmp_path, name, start):
    path = tmp_path / name
    path.write_text("old")
    killed(WRITE_HALF, path)
    assert len(names(tmp_path)) == 2, "a kill must leave something, or nothing is tested"
    assert path.read_text() == "old"
    ended(STARTS[start], path)
    assert names(tmp_path) - {".lock"} == {name}
    assert path.read_text() == ("whole" if start == "an output" else "old")


def test_what_others_have_there_stays(tmp_path):
    """Files of a run that goes on, of another machine, and of the user with names like these."""
    alive = f".a.{unique_mark()}.part.txt"
    elsewhere = alive.replace(unique_mark().split("-")[0], "00000000").replace(f"-{os.getpid()}-", "-999999999-")
    mine = {alive, elsewhere, ".a.part", ".a.txt.part", "a.0123abcd-1-0123abcd.part", ".hidden"}
    for name in mine:
        (tmp_path / name).write_text("precious")
    (tmp_path / f".folder.{unique_mark()}.part").mkdir()
    ended(STARTS["an output"], tmp_path / "b.txt")
    assert names(tmp_path) == mine | {"b.txt"} | {path.name for path in tmp_path.iterdir() if path.is_dir()}
    assert all((tmp_path / name).read_text() == "precious" for name in mine)


def test_a_mark_says_whose_process_it_is():
    with started("from lib.files import unique_mark; print(unique_mark(), flush=True); input()") as process:
        mark = process.stdout.readline().strip()
        assert not made_by_dead_process(f".a.{mark}.part")
        process.kill()
    assert made_by_dead_process(f".a.{mark}.part")
    assert not made_by_dead_process("a.part")


def test_a_killed_generator_of_data_leaves_nothing_beside_the_next(tmp_path):
    killed(MAKE_DATASET, tmp_path / "set", "wait")
    (left,) = names(tmp_path)
    assert left.startswith(".set.")
    ended(MAKE_DATASET, tmp_path / "set", "go on")
    assert names(tmp_path) == {"set"}
