"""Scripts in unusual environments: closed and full streams, missing folders, other locales."""

from __future__ import annotations

import functools
import os
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from lib.command_line import child_environment
from tools.fuzzing.attempts import Input, Kind, WrongError
from tools.fuzzing.forks import SECONDS, end_of, in_fork, judged, main_of, text_of
from tools.fuzzing.good_arguments import MAKES, ROOT, interruptible
from tools.fuzzing.small_dataset import small_dataset


def _close(*numbers: int) -> Callable[[], None]:
    """As a shell starts a script with `<&-` or `2>&-`: the descriptor is closed, and Python has no such stream."""

    def close() -> None:
        for number in numbers:
            os.close(number)
            setattr(sys, ("stdin", "stdout", "stderr")[number], None)

    return close


def _full_stream(number: int) -> Callable[[], None]:
    def fill() -> None:
        os.dup2(os.open("/dev/full", os.O_WRONLY), number)

    return fill


def _variables(**values: str | None) -> Callable[[], None]:
    def set_them() -> None:
        for name, value in values.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value

    return set_them


def _elsewhere(folder: str) -> Callable[[], None]:
    return lambda: os.chdir(folder)


def _removed_folder() -> None:
    os.mkdir("gone")
    os.chdir("gone")
    os.rmdir("../gone")


ENVIRONMENTS: dict[str, Callable[[], None]] = {
    "closed standard input": _close(0),
    "closed standard output": _close(1),
    "closed standard error": _close(2),
    "all streams closed": _close(0, 1, 2),
    "full standard output": _full_stream(1),
    "full standard error": _full_stream(2),
    "no home": _variables(HOME=None),
    "a home that is not there": _variables(HOME="/nowhere/at/all", XDG_CACHE_HOME="/nowhere/at/all"),
    "no temporary folder": _variables(TMPDIR="/nowhere/at/all"),
    "no PATH": _variables(PATH=None),
    "a terminal of no columns": _variables(COLUMNS="0", LINES="0", TERM="dumb"),
    "another working folder": _elsewhere("/"),
    "a working folder that was removed": _removed_folder,
}


# Where an error cannot be seen
_UNSEEN = [ENVIRONMENTS[name] for name in ("closed standard error", "all streams closed", "full standard error")]


def _in_environment(tool: str, arguments: Sequence[str], before: Callable[[], None], folder: Path) -> str:
    process, output = in_fork(functools.partial(main_of(tool), list(arguments)), folder, before)
    status, printed = end_of(process), text_of(output)
    if status == 120 or (status == 2 and "Traceback" not in printed and before in _UNSEEN):
        return "could not print"
    return judged(status, printed)


def _absolute(arguments: Sequence[str], folder: Path) -> list[str]:
    """The same with the names of files in `folder`, for scripts that work elsewhere."""
    ours = ("results.txt", "motion.mat", "weights.pth", "cache", "out", "out.json", "out.csv", "made.mat", "coco.json")
    ours += ("made", "sheet.png", "shown", "lists")
    words = [os.path.join(folder, a) if a in ours else a for a in arguments]
    return [
        f"{name}={os.path.join(folder, value)}" if value in ours else word
        for word in words
        for name, _, value in [word.partition("=")]
    ]


def _run_environment(tool: str, name: str, folder: Path) -> str:
    return _in_environment(tool, _absolute(interruptible()[tool], folder), ENVIRONMENTS[name], folder)


_LOCALES = {
    "an ASCII locale": {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
    "a locale that is not there": {"LC_ALL": "xx_YY.UTF-8", "PYTHONUTF8": "0"},
    "an ASCII output": {"PYTHONIOENCODING": "ascii"},
    "a UTF-16 output": {"PYTHONIOENCODING": "utf-16"},
}


def _in_locale(variables: Mapping[str, str], folder: Path) -> str:
    """Names and class names that are not ASCII, in a new process: the locale is read when Python starts."""
    root = str(small_dataset())
    (folder / "grün").mkdir()
    names = (small_dataset() / "classes.txt").read_text(encoding="utf-8").split("\n")
    text = "\n".join([f"{names[0].split()[0]} Käfer日本", *names[1:]])
    (folder / "grün" / "classes.txt").write_text(text, encoding="utf-8")
    (folder / "grün" / "results.txt").write_bytes(b"1 1 0.5 1 1 9 9\n")
    line = [
        "--dataset-path",
        root,
        "--cache",
        "cache",
        "--classes",
        "grün/classes.txt",
        "--results",
        "grün/results.txt",
    ]
    command = [
        sys.executable,
        str(ROOT / "tools/evaluate.py"),
        *line,
        "--json",
        "grün/out.json",
        "--csv",
        "grün/out.csv",
    ]
    environment = child_environment(**variables)
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, timeout=SECONDS, check=False)
    result = judged(done.returncode, (done.stdout + done.stderr).decode("utf-8", "backslashreplace"))
    if "Käfer日本" not in (folder / "grün" / "out.csv").read_text(encoding="utf-8"):
        raise WrongError("the class name is not in the table")
    return result


def _fixed_environments() -> list[Input]:
    files = {"results.txt": b"1 1 0.5 1 1 9 9\n"}
    cases = [
        Input(f"{tool} with {name}", functools.partial(_run_environment, tool, name), files, makes=MAKES)
        for tool in interruptible()
        for name in ENVIRONMENTS
    ]
    makes = (*MAKES, "grün")
    return cases + [Input(name, functools.partial(_in_locale, v), makes=makes) for name, v in _LOCALES.items()]


KINDS = (Kind("environment", _fixed_environments),)
