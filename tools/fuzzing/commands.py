"""Scripts that are called wrongly: what they print and leave behind."""

from __future__ import annotations

import functools
import os
from collections.abc import Sequence
from pathlib import Path
from random import Random

from tools.fuzzing.attempts import Input, Kind
from tools.fuzzing.forks import call
from tools.fuzzing.good_arguments import MAKES, as_line, good_arguments

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


def _prepare(folder: Path) -> None:
    (folder / "file").write_text("mine")
    os.mkfifo(folder / "pipe")


def _command(what: str, tool: str, arguments: Sequence[str]) -> Input:
    files = {"results.txt": b"1 1 0.5 1 1 9 9\n", "motion.mat": b"no motion", "weights.pth": b"no weights"}
    run = functools.partial(call, tool, [a.replace("\0", "") for a in arguments])
    # Names that are asked for may be made: the hostile ones are new files and folders here
    return Input(what, run, files, prepare=_prepare, makes=(*MAKES, *_asked_for(arguments)))


def _asked_for(arguments: Sequence[str]) -> tuple[str, ...]:
    names = [
        a for a in arguments if a in _HOSTILE and a.strip("/. ") and a not in ("file", "file/below", "pipe", "*", "[")
    ]
    return tuple(name.split("/")[0] for name in names)


def _fixed_commands() -> list[Input]:
    cases = []
    for tool, options in good_arguments().items():
        good = as_line(options)
        cases += [
            _command(f"{tool} as it should be", tool, good),
            _command(f"{tool} without arguments", tool, []),
            _command(f"{tool} with an unknown option", tool, [*good, "--unknown"]),
            _command(f"{tool} with too many arguments", tool, [*good, "more", "and more"]),
        ]
        for option in options:
            rest = {name: value for name, value in options.items() if name != option}
            cases.append(_command(f"{tool} without {option}", tool, as_line(rest)))
            cases += [
                _command(f"{tool} {option} {value[:20]!r}", tool, as_line({**rest, option: value}))
                for value in _HOSTILE
                if option and value
            ]
    return cases


def _mutated_command(rng: Random) -> Input:
    tool, options = rng.choice(list(good_arguments().items()))
    changed = dict(options)
    for option in rng.sample(list(options), min(2, len(options))):
        changed[option] = rng.choice(_HOSTILE)
    return _command(f"{tool} with two hostile values", tool, as_line(changed))


KINDS = (Kind("command", _fixed_commands, _mutated_command),)
