"""Errors that a user can fix, and parts of their messages."""

import unicodedata
from collections.abc import Sequence

BUILD_COMMAND = "pip install --no-build-isolation -e ."  # builds the compiled extensions; run in the top folder


class InputError(ValueError):
    """An error that the user can fix; the message names the file, key or line and what to do.

    Scripts print it in one line, without a traceback, and exit with status 2. What a terminal would not print as it
    is, or obey, is in it as \\xXX, \\uXXXX or \\UXXXXXXXX: control characters but for line feeds, marks that change
    the direction of writing, and bytes of file names that are not UTF-8 (\\udcXX). Of lines of more than 2000
    characters the middle is left out.
    """

    def __init__(self, message: str) -> None:
        lines = "".join(map(_printable, str(message))).split("\n")
        super().__init__("\n".join(map(_of_bounded_length, lines)))


_LONGEST = 2000  # characters of a line


def _of_bounded_length(line: str) -> str:
    return line if len(line) <= _LONGEST else f"{line[: _LONGEST // 2]} ... {line[-_LONGEST // 2 :]}"


def _printable(letter: str) -> str:
    if letter != "\n" and unicodedata.category(letter) in ("Cc", "Cf", "Cs", "Zl", "Zp"):
        return (
            letter.encode("ascii", "backslashreplace").decode("ascii") if letter > "\x7f" else f"\\x{ord(letter):02x}"
        )
    return letter


def some_of(names: Sequence[str], most: int = 8) -> str:
    """The first `most` names for a message: `a, b, c and 4 more`."""
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")
