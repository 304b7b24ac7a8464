"""Run what a page of the documentation shows: its files, its shell commands and its Python."""

from __future__ import annotations

import importlib
import os
import re
import runpy
import shlex
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from lib.command_line import child_environment

ROOT = Path(__file__).resolve().parents[1]
_BLOCK = re.compile(r"^```(bash|python)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def blocks(page: str) -> list[tuple[str, str]]:
    """(language, text) of the bash and Python blocks of a page, in order; page: its path in the repository."""
    return _BLOCK.findall((ROOT / page).read_text(encoding="utf-8"))


def file_name(text: str) -> str:
    """The file that a Python block is: its first line names it, `# pair/model.py`."""
    found = re.match(r"# ([\w/]+\.py)\n", text)
    assert found, f"its first line names no file: {text.splitlines()[0]}"
    return found.group(1)


def link_repository(folder: Path, names: Sequence[str]) -> None:
    """Put links to parts of the repository into `folder`, so that the page's relative paths lead to them."""
    for name in names:
        (folder / name).symlink_to(ROOT / name)


def walk(page: str, folder: Path) -> list[str]:
    """Run the bash blocks of a page, in `folder`, on the CPU; what each has printed.

    The folder gets links to the parts of the repository that hold code and configurations, and none to data or output.
    """
    link_repository(folder, ("lib", "rfcn", "dff", "tools", "configs", "model"))
    python = folder / "bin" / "python"
    python.parent.mkdir()
    python.write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n', encoding="utf-8")
    python.chmod(0o755)
    environment = child_environment(
        PATH=f"{python.parent}{os.pathsep}{os.environ['PATH']}", CUDA_VISIBLE_DEVICES="", OMP_WAIT_POLICY="PASSIVE"
    )
    outputs = []
    for text in [text for language, text in blocks(page) if language == "bash"]:
        command = ["bash", "-e", "-u", "-o", "pipefail", "-c", text]
        done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"{text}\n{done.stdout[-1000:]}\n{done.stderr[-2000:]}"
        outputs.append(done.stdout)
    return outputs


def run_commands(text: str, extra: Callable[[list[str]], list[str]] = lambda words: []) -> None:
    """Run a bash block in the working directory; Python commands in this process, which has imported torch already.

    extra: further arguments of a Python command, for a test that cannot afford the command as it is.
    """
    for line in text.splitlines():
        words = shlex.split(line, comments=True)
        if not words:
            continue
        if words[0] == "python":
            _run_python(words[1:], extra(words))
        else:
            done = subprocess.run(["bash", "-euc", line], capture_output=True, text=True, check=False)
            assert done.returncode == 0, f"{line}\n{done.stderr}"


def _run_python(words: list[str], extra: list[str]) -> None:
    if words[0] == "-m":
        status = importlib.import_module(words[1]).main([*words[2:], *extra])
    elif (ROOT / words[0]).is_file():
        module = ".".join(Path(words[0]).with_suffix("").parts)
        status = importlib.import_module(module).main([*words[1:], *extra])
    else:
        before = sys.argv
        sys.argv = [*words, *extra]
        try:
            runpy.run_path(words[0], run_name="__main__")
        finally:
            sys.argv = before
        return
    assert not isinstance(status, int) or status == 0, f"{words} ended with status {status}"
