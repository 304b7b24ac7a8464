"""Scripts in processes of their own: what they print and leave behind when they are called wrongly or interrupted."""

from __future__ import annotations

import functools
import os
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from random import Random

from lib.command_line import run_script
from lib.errors import InputError
from tools.fuzzing.attempts import Input, Kind, WrongError
from tools.fuzzing.good_arguments import good_arguments
from tools.fuzzing.small_dataset import small_dataset

ROOT = Path(__file__).resolve().parents[2]
_SECONDS = 200
_INTERRUPTED = (130, 143, 129, -signal.SIGINT, -signal.SIGTERM, -signal.SIGHUP, -signal.SIGKILL, 141, -signal.SIGPIPE)


class Refused(InputError):
    """A script that ended with status 2; the message is its last line."""


def judged(status: int, printed: str) -> str:
    """What a script's end is. Raises Refused for a clear error, WrongError for anything else than a good end."""
    lines = [line for line in printed.replace("\r", "\n").split("\n") if line.strip()]
    if "Traceback (most recent call last)" in printed:
        raise WrongError(f"a traceback: {' | '.join(lines[-4:])}")
    if status == 2:
        last = next((line for line in lines[::-1] if "error: " in line), lines[-1] if lines else "")
        if "error: " not in last:
            raise WrongError(f"status 2, and no error: {last!r}")
        raise Refused(last)
    if status not in (0, 1):
        raise WrongError(f"status {status}: {' | '.join(lines[-2:])}")
    return f"status {status}"


def in_fork(main: Callable[[], object], folder: Path, before: Callable[[], object] = lambda: None) -> tuple[int, Path]:
    """Start `main` as a script in a fork of this process, which has imported all; returns its id and what it prints.

    The fork leads a process group of its own. Returns when `main` begins: on a busy machine a fork may take long to be
    ready for a signal.
    """
    output = folder.parent / f"{folder.name}.printed"
    begins, beginning = os.pipe()
    process = os.fork()
    if process:
        os.close(beginning)
        os.read(begins, 1)  # nothing where the fork has ended before
        os.close(begins)
        return process, output
    status = 1
    try:
        os.setsid()
        file = os.open(output, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o600)
        os.dup2(file, 1)
        os.dup2(file, 2)
        sys.stdout = os.fdopen(1, "w", closefd=False)
        sys.stderr = os.fdopen(2, "w", closefd=False, buffering=1, errors="backslashreplace")
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.alarm(_SECONDS)
        for number in (signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        before()
        run_script(lambda: (os.close(beginning), main())[1])
    except SystemExit as end:
        status = _flushed(end.code if isinstance(end.code, int) else 0 if end.code is None else 1)
    except BaseException:  # a script's traceback, as Python would print it
        traceback.print_exc()
        status = _flushed(1)
    finally:
        os._exit(status)


def _flushed(status: int) -> int:
    """`status`, or what Python ends with where its output cannot be flushed."""
    for stream in (sys.stdout, sys.stderr):
        try:
            if stream is not None:
                stream.flush()
        except (OSError, ValueError):
            status = status or 120
    return status


def end_of(process: int) -> int:
    """The exit status of a fork, negative for a signal."""
    return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])


def _text(path: Path) -> str:
    text = path.read_text(encoding="utf-8", errors="backslashreplace") if path.exists() else ""
    path.unlink(missing_ok=True)
    return text


def _call(tool: str, arguments: Sequence[str], folder: Path) -> str:
    main = functools.partial(_main_of(tool), list(arguments))
    process, output = in_fork(main, folder)
    status = end_of(process)
    return judged(status, _text(output))


def _main_of(tool: str) -> Callable:
    import importlib

    return importlib.import_module(tool).main


_HOSTILE = (
    *(
        "",
        " ",
        "-1",
        "0",
        "nan",
        "1e9",
        "9" * 30,
        "/",
        ".",
        "..",
        "nothing/here",
        "/dev/null",
        "/dev/full",
        "/etc/passwd",
    ),
    *(
        "file",
        "file/below",
        "pipe",
        "x" * 300,
        "y/" * 2500,
        "é\u202e",
        "\udcff",
        "a\nb",
        "%s",
        "--",
        "-x",
        "a=b=c",
        "[",
        "*",
    ),
)


def _line(arguments: Mapping[str, str]) -> list[str]:
    named = [part for name, value in arguments.items() if name for part in ([name, value] if value else [name])]
    return [*named, *arguments.get("", "").split(" ")] if arguments.get("") else named


def _prepare(folder: Path) -> None:
    (folder / "file").write_text("mine")
    os.mkfifo(folder / "pipe")


_MAKES = ("cache", "out", "out.json", "out.csv", "lists", "made.mat", "coco.json", "made", "sheet.png", "shown")
_MAKES += ("VID_val_frames.txt", " ", "[*]", "[[]")  # where lists are asked for under such names
_MAKES += ("data", "VID_val_videos_videos_*.npz")  # the cache: where none is asked for, and for a folder of "." or ""


def _command(what: str, tool: str, arguments: Sequence[str]) -> Input:
    files = {"results.txt": b"1 1 0.5 1 1 9 9\n", "motion.mat": b"no motion", "weights.pth": b"no weights"}
    run = functools.partial(_call, tool, [a.replace("\0", "") for a in arguments])
    # Names that are asked for may be made: the hostile ones are new files and folders here
    return Input(what, run, files, prepare=_prepare, makes=(*_MAKES, *_asked_for(arguments)))


def _asked_for(arguments: Sequence[str]) -> tuple[str, ...]:
    names = [
        a for a in arguments if a in _HOSTILE and a.strip("/. ") and a not in ("file", "file/below", "pipe", "*", "[")
    ]
    return tuple(name.split("/")[0] for name in names)


def _fixed_commands() -> list[Input]:
    cases = []
    for tool, options in good_arguments().items():
        good = _line(options)
        cases += [
            _command(f"{tool} as it should be", tool, good),
            _command(f"{tool} without arguments", tool, []),
            _command(f"{tool} with an unknown option", tool, [*good, "--unknown"]),
            _command(f"{tool} with too many arguments", tool, [*good, "more", "and more"]),
        ]
        for option in options:
            rest = {name: value for name, value in options.items() if name != option}
            cases.append(_command(f"{tool} without {option}", tool, _line(rest)))
            cases += [
                _command(f"{tool} {option} {value[:20]!r}", tool, _line({**rest, option: value}))
                for value in _HOSTILE
                if option and value
            ]
    return cases


def _mutated_command(rng: Random) -> Input:
    tool, options = rng.choice(list(good_arguments().items()))
    changed = dict(options)
    for option in rng.sample(list(options), min(2, len(options))):
        changed[option] = rng.choice(_HOSTILE)
    return _command(f"{tool} with two hostile values", tool, _line(changed))


def _interrupted(tool: str, arguments: Sequence[str], number: int, delay: float, folder: Path) -> str:
    """A signal after `delay` seconds; then the same command again, which must end well and leave nothing hidden."""
    main = functools.partial(_main_of(tool), list(arguments))
    process, output = in_fork(main, folder)
    time.sleep(delay)
    done, status = os.waitpid(process, os.WNOHANG)
    if not done:
        os.killpg(process, number)
        status = os.waitpid(process, 0)[1]
    status, printed = os.waitstatus_to_exitcode(status), _text(output)
    if status not in (0, *_INTERRUPTED):
        raise WrongError(f"status {status}: {printed[-500:]}")
    if "Traceback (most" in printed:
        raise WrongError(f"a traceback: {printed[-500:]}")
    process, output = in_fork(main, folder)
    status, printed = end_of(process), _text(output)
    if status != 0:
        raise WrongError(f"the next start ends with status {status}: {printed[-500:]}")
    hidden = [path.name for path in folder.rglob(".*") if path.name != ".lock"]
    if hidden:
        raise WrongError(f"hidden files after the next start: {hidden}")
    return f"interrupted by {signal.Signals(number).name}"


def _interruptible() -> dict[str, list[str]]:
    options = good_arguments()
    names = ("tools.evaluate", "tools.make_motion_iou", "tools.export_coco", "tools.make_synthetic_vid", "rfcn.demo")
    lines = {tool: {k: v for k, v in options[tool].items() if k not in ("--motion-iou", "--limit")} for tool in names}
    lines["tools.make_synthetic_vid"] |= {"--train-videos": "6", "--frames": "4", "--size": "160x128"}
    lines["tools.export_coco"] |= {"--out": "coco.json"}
    return {tool: _line(line) for tool, line in lines.items()}


def _signal(tool: str, number: int, delay: float) -> Input:
    run = functools.partial(_interrupted, tool, _interruptible()[tool], number, delay)
    files = {"results.txt": b"1 1 0.5 1 1 9 9\n"}
    return Input(f"{tool}, {signal.Signals(number).name} after {delay:.2f} s", run, files, makes=_MAKES)


_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGKILL)


def _fixed_signals() -> list[Input]:
    delays = (0.05, 0.3)
    return [_signal(tool, number, delay) for tool in _interruptible() for number in _SIGNALS for delay in delays]


def _mutated_signal(rng: Random) -> Input:
    return _signal(rng.choice(list(_interruptible())), rng.choice(_SIGNALS), rng.uniform(0, 1.5))


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
    process, output = in_fork(functools.partial(_main_of(tool), list(arguments)), folder, before)
    status, printed = end_of(process), _text(output)
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
    return _in_environment(tool, _absolute(_interruptible()[tool], folder), ENVIRONMENTS[name], folder)


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
    environment = os.environ | dict(variables) | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, timeout=_SECONDS, check=False)
    result = judged(done.returncode, (done.stdout + done.stderr).decode("utf-8", "backslashreplace"))
    if "Käfer日本" not in (folder / "grün" / "out.csv").read_text(encoding="utf-8"):
        raise WrongError("the class name is not in the table")
    return result


def _fixed_environments() -> list[Input]:
    files = {"results.txt": b"1 1 0.5 1 1 9 9\n"}
    cases = [
        Input(f"{tool} with {name}", functools.partial(_run_environment, tool, name), files, makes=_MAKES)
        for tool in _interruptible()
        for name in ENVIRONMENTS
    ]
    makes = (*_MAKES, "grün")
    return cases + [Input(name, functools.partial(_in_locale, v), makes=makes) for name, v in _LOCALES.items()]


KINDS = (
    Kind("command", _fixed_commands, _mutated_command),
    Kind("signal", _fixed_signals, _mutated_signal),
    Kind("environment", _fixed_environments),
)
