"""Scripts start where Unix-only modules, functions and signals are missing, as on Windows and, some, on macOS."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
TOPS = ("lib", "rfcn", "dff", "fgfa", "experiments", "tools")
# Tools for those who change the project; they say at their start that they need Linux
ON_LINUX = ("tools/fuzz.py", "tools/fuzzing", "tools/interrupt_training.py")
SOURCES = [
    path
    for top in TOPS
    for path in sorted((ROOT / top).rglob("*.py"))
    if not path.relative_to(ROOT).as_posix().startswith(ON_LINUX)
]
UNIX_MODULES = ("fcntl", "resource", "pwd", "grp", "termios", "pty", "tty", "syslog", "curses", "readline")
UNIX_NAMES = {
    "os": (
        "sched_getaffinity", "sched_setaffinity", "fork", "forkpty", "getuid", "geteuid", "getgid", "getpgid", "killpg",
        "setsid", "setpgid", "uname", "nice", "mkfifo", "statvfs", "getloadavg", "wait", "O_NONBLOCK", "chown",
    ),
    "signal": (
        "SIGKILL", "SIGCHLD", "SIGHUP", "SIGUSR1", "SIGUSR2", "SIGALRM", "SIGPIPE", "alarm", "setitimer", "pause",
        "pthread_sigmask", "SIG_BLOCK", "SIG_UNBLOCK", "SIG_SETMASK", "sigwait",
    ),
}  # fmt: skip
# What other packages use of them on this system stays: they are imported before anything is taken away
START = f"""
import os, runpy, signal, sys
import torch, torch.utils.data, torch.multiprocessing, torch.distributed, cv2, numpy, scipy.io, matplotlib, tqdm
import matplotlib.backends.backend_agg, concurrent.futures.process, multiprocessing.resource_tracker, tempfile, tarfile
import torch.nn.parallel, scipy.ndimage, torch._dynamo
for name in {UNIX_MODULES}:
    sys.modules[name] = None
for module, names in ((os, {UNIX_NAMES["os"]}), (signal, {UNIX_NAMES["signal"]})):
    for name in names:
        if hasattr(module, name):
            delattr(module, name)
"""


def scripts() -> list[str]:
    return [str(path.relative_to(ROOT)) for path in SOURCES if "__main__" in path.read_text(encoding="utf-8")]


def test_every_script_starts():
    run = f"""
for script in {scripts()}:
    sys.argv = [script, "--help"]
    try:
        runpy.run_path(script, run_name="__main__")
    except SystemExit as end:
        print("started" if end.code in (0, None) else f"{{script}} ended with {{end.code}}", file=sys.stderr)
"""
    command = [sys.executable, "-c", START + run]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, env=None)
    assert done.returncode == 0, done.stderr[-2000:]
    lines = [line for line in done.stderr.splitlines() if line]
    assert [line for line in lines if line != "started"] == []
    assert len(lines) == len(scripts()) > 20


def test_annotations_are_read_on_all_cores(tmp_path):
    run = f"""
from pathlib import Path
from lib.data import index_cache
from lib.data.classes import IMAGENET_VID
from lib.data.imagenet_vid import ImageNetVID
from tests.data.toy_vid import write_toy
root = write_toy(Path({str(tmp_path)!r}))
index_cache._CHUNK = 1
print(len(ImageNetVID(root, "VID_val_videos", IMAGENET_VID, root / "cache").ground_truth().labels))
"""
    done = subprocess.run([sys.executable, "-c", START + run], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.split() == ["6"]


def unguarded(source: str) -> list[str]:
    """`line: name` of each import of a Unix-only module outside `try`, and each such name in a function without
    hasattr.
    """
    found = []

    def visit(node: ast.AST, guards: tuple[str, ...], tried: bool) -> None:
        if isinstance(node, (ast.FunctionDef, ast.Module)):
            text = "" if isinstance(node, ast.Module) else ast.unparse(node)
            guards = tuple(module for module in UNIX_NAMES if f"hasattr({module}, " in text)
        if isinstance(node, ast.Import) and not tried:
            found.extend(f"{node.lineno}: {alias.name}" for alias in node.names if alias.name in UNIX_MODULES)
        if isinstance(node, ast.ImportFrom) and node.module in UNIX_MODULES and not tried:
            found.append(f"{node.lineno}: {node.module}")
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            module = node.value.id
            if node.attr in UNIX_NAMES.get(module, ()) and module not in guards:
                found.append(f"{node.lineno}: {module}.{node.attr}")
        for child in ast.iter_child_nodes(node):
            visit(child, guards, tried or (isinstance(node, ast.Try) and child in node.body))

    visit(ast.parse(source), (), False)
    return found


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_source_needs_unix(path):
    assert unguarded(path.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize(
    "source",
    ["import fcntl", "from resource import getrusage", "def f():\n    os.sched_getaffinity(0)", "x = signal.SIGKILL",
     "try:\n    pass\nexcept ImportError:\n    import pwd"],
)  # fmt: skip
def test_checker_finds_what_is_unguarded(source):
    assert len(unguarded(source)) == 1


def test_checker_lets_the_rest_pass():
    assert unguarded("try:\n    import fcntl\nexcept ImportError:\n    fcntl = None\n") == []
    assert unguarded('def f():\n    return os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else 1') == []
    assert unguarded("signal.SIGINT\nos.replace\nother.SIGKILL") == []
