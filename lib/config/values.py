"""Types, ranges, lengths and choices of configuration values, and their checks."""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

_SHOWN = 60  # characters of a wrong value in a message
_LONGEST = 4096  # characters of a text: as much as Linux takes as a path
_LONGEST_NAME = 200  # bytes of a part of a file name, of the 255 that file systems take


@dataclass(frozen=True)
class Key:
    """One key: its default, its meaning and the values it accepts.

    default: its type is the key's type. meaning: one sentence for docs/configuration.md. original: whether it is a key
    of the originals, with their meaning. least, most: inclusive bounds of numbers; above: an exclusive lower bound.
    choices: the only values accepted. item: for a list, the key that checks each entry. length: for a list, least and
    most number of entries. check: raises ValueError for a value that cannot be used; rule: the same in words.
    """

    default: Any
    meaning: str
    original: bool = False
    least: float | None = None
    most: float | None = None
    above: float | None = None
    choices: tuple = ()
    item: Key | None = None
    length: tuple[int, int] | None = None
    numeric: bool = False
    check: Callable[[Any], None] | None = None
    rule: str = ""

    def convert(self, value: Any) -> Any:
        """`value` converted to the key's type. Raises ValueError, which says what is accepted."""
        value = self._typed(value)
        if self.choices and value not in self.choices:
            raise ValueError(f"must be {self.range_text()}, not {shown(value)}")
        if isinstance(value, float) and not math.isfinite(value):
            raise ValueError(f"must be a finite number, not {value}")
        if isinstance(value, (int, float)) and not isinstance(value, bool) and not self._in_range(value):
            raise ValueError(f"must be {self.range_text()}, not {shown(value)}")
        if isinstance(value, str):
            _plain_text(value)
        if self.check is not None:
            self.check(value)
        return value

    def _typed(self, value: Any) -> Any:
        default = self.default
        if isinstance(default, bool):
            if isinstance(value, bool):
                return value
        elif isinstance(default, float):
            # YAML 1.1 reads 1e-3 (no dot) as text
            if isinstance(value, (int, float, str)) and not isinstance(value, bool):
                try:
                    return float(value)
                except (ValueError, OverflowError):
                    pass
        elif isinstance(default, int):
            if isinstance(value, int) and not isinstance(value, bool):
                return value
        elif isinstance(default, str):
            if value is None:
                return ""
            if isinstance(value, str) or (self.numeric and type(value) in (int, float) and abs(value) < 1e15):
                return str(value)
        elif isinstance(value, (list, tuple)):
            return self._entries(value)
        raise ValueError(f"must be {self.type_text()}{self._example()}, not {shown(value)}{self._cure(value)}")

    def _example(self) -> str:
        return "" if isinstance(self.default, bool) or self.default in ("", []) else f" like {shown(self.default)}"

    def _cure(self, value: Any) -> str:
        return "; put it in quotes" if isinstance(self.default, str) and not isinstance(value, (list, dict)) else ""

    def _entries(self, values: list | tuple) -> list:
        least, most = self.length or (0, 1000)
        if not least <= len(values) <= most:
            raise ValueError(f"must have {self._length_text()}, not {len(values)}: {shown(values)}")
        entries = []
        for number, value in enumerate(values, 1):
            try:
                entries.append(self.item.convert(value))
            except ValueError as error:
                raise ValueError(f"entry {number} {error}") from None
        return entries

    def _in_range(self, value: float) -> bool:
        low = (self.least is None or value >= self.least) and (self.above is None or value > self.above)
        return low and (self.most is None or value <= self.most)

    def type_text(self) -> str:
        """The type in words."""
        names = {bool: "true or false", int: "a whole number", float: "a number", str: "a text", list: "a list"}
        return names[type(self.default)]

    def range_text(self) -> str:
        """The accepted range in words; empty if every value of the type is accepted."""
        if self.choices:
            return "one of " + ", ".join(map(str, self.choices))
        if self.item is not None:
            parts = [self._length_text()] if self.length else []
            return ", ".join([*parts, *filter(None, (f"each {text}" for text in [self.item.range_text()] if text))])
        low = f"at least {_number(self.least)}" if self.least is not None else ""
        low = f"above {_number(self.above)}" if self.above is not None else low
        high = f"at most {_number(self.most)}" if self.most is not None else ""
        return ", ".join(filter(None, (" and ".join(filter(None, (low, high))), self.rule)))

    def _length_text(self) -> str:
        least, most = self.length or (0, 1000)
        return f"{least} entries" if least == most else f"{least} to {most} entries"


def flag(default: bool, meaning: str, original: bool = False) -> Key:
    """A key that is true or false."""
    return Key(default, meaning, original)


def integer(
    default: int, meaning: str, original: bool = False, least: int = 0, most: int = 2**31 - 1, **more: Any
) -> Key:
    """A key that is a whole number from `least` to `most`; more: check, rule."""
    return Key(default, meaning, original, least=least, most=most, **more)


def number(default: float, meaning: str, original: bool = False, **bounds: float) -> Key:
    """A key that is a finite number; bounds: least, most, above."""
    return Key(float(default), meaning, original, **bounds)


def text(default: str, meaning: str, original: bool = False, **more: Any) -> Key:
    """A key that is a text; more: check, rule, numeric."""
    return Key(default, meaning, original, **more)


def choice(default: Any, choices: tuple, meaning: str, original: bool = False) -> Key:
    """A key with a few possible values."""
    return Key(default, meaning, original, choices=choices)


def entries(default: list, item: Key, length: tuple[int, int], meaning: str, original: bool = False) -> Key:
    """A key that is a list; each entry is checked as `item`."""
    return Key(default, meaning, original, item=item, length=length)


def _plain_text(value: str) -> None:
    """Raise ValueError for a text that cannot be part of a file name or a log line."""
    if len(value) > _LONGEST:
        raise ValueError(f"must have at most {_LONGEST} characters, not {len(value)}")
    if any(unicodedata.category(character) in ("Cc", "Cs") for character in value):
        raise ValueError(f"must not hold control characters or bytes that are not UTF-8: {shown(value)}")


def plain_name(value: str) -> None:
    """Raise ValueError for a text that cannot begin the name of a file, on any system."""
    if not re.fullmatch(r"\w[\w.+=@ -]*", value) or len(value.encode()) > _LONGEST_NAME:
        raise ValueError(
            f"must be the beginning of a file name: letters, digits, _, and after the first . + - = @ too, "
            f"at most {_LONGEST_NAME} bytes, not {shown(value)}"
        )


def set_name(value: str) -> None:
    """Raise ValueError for a text that is not the name of one image set."""
    name = value.strip()
    if not re.fullmatch(r"[\w.-]+", name) or set(name) <= {"."} or len(name.encode()) > _LONGEST_NAME:
        raise ValueError(f"must be the name of a list in ImageSets, without folder and ending, not {shown(value)}")


def set_names(value: str) -> None:
    """Raise ValueError for a text that is not names of image sets joined with +."""
    for name in value.split("+"):
        set_name(name)


def not_empty(value: str) -> None:
    """Raise ValueError for an empty beginning of a name."""
    if not value:
        raise ValueError("must not be empty: it would match every parameter")


def all_or_some(value: int) -> None:
    """Raise ValueError for 0 where -1 means all."""
    if value == 0:
        raise ValueError("must be -1 (all) or at least 1, not 0")


def ascending_epochs(value: str) -> None:
    """Raise ValueError for a text that is not ascending epochs separated by commas."""
    try:
        epochs = [float(part) for part in value.split(",") if part.strip()]
    except ValueError:
        raise ValueError(f'must be epochs separated by commas, such as "1.333", not {shown(value)}') from None
    if epochs != sorted(epochs) or not all(0 <= epoch < 1e9 for epoch in epochs):
        raise ValueError(f"must be epochs of 0 or more that ascend, not {shown(value)}")


def shown(value: Any) -> str:
    """`value` for a message; long ones are cut."""
    if isinstance(value, str):
        value = value[: _SHOWN + 1]
    try:
        described = repr(value)
    except ValueError:  # whole numbers of thousands of digits
        return (
            "a whole number too long to show"
            if isinstance(value, int)
            else f"a {type(value).__name__} too long to show"
        )
    return described if len(described) <= _SHOWN else described[:_SHOWN] + "..."


def _number(value: float) -> str:
    return f"{value:,}".replace(",", "") if isinstance(value, int) else f"{value:g}"
