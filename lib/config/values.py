"""What a value of a configuration key may be: its type, range, length and choices, checked in one place."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

_SHOWN = 60  # characters of a wrong value in a message


@dataclass(frozen=True)
class Key:
    """One key: its default, what it means and what it accepts.

    default: its type is the key's type. meaning: one sentence for docs/configuration.md. original: a key of the
    originals, with their meaning. least, most: bounds of numbers, which belong to the range; above: a bound that does
    not. choices: the only values accepted. item: of a list, the key that each entry is checked as. length: of a list,
    least and most entries. check: raises ValueError for a text that cannot be used; rule: the same in words.
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
    check: Callable[[str], None] | None = None
    rule: str = ""

    def convert(self, value: Any) -> Any:
        """`value` in the key's type. Raises ValueError, which says what is wanted."""
        value = self._typed(value)
        if self.choices and value not in self.choices:
            raise ValueError(f"must be {self.range_text()}, not {shown(value)}")
        if isinstance(value, float) and not math.isfinite(value):
            raise ValueError(f"must be a finite number, not {value}")
        if isinstance(value, (int, float)) and not isinstance(value, bool) and not self._in_range(value):
            raise ValueError(f"must be {self.range_text()}, not {shown(value)}")
        if isinstance(value, str) and self.check is not None:
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
            if isinstance(value, (str, int, float)) and not isinstance(value, bool):
                return str(value)
        elif isinstance(value, (list, tuple)):
            return self._entries(value)
        raise ValueError(f"must be {self.type_text()} like {default!r}, not {shown(value)}")

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
        """What is accepted beyond the type, in words; empty where anything of the type is."""
        if self.choices:
            return "one of " + ", ".join(map(str, self.choices))
        if self.item is not None:
            parts = [self._length_text()] if self.length else []
            return ", ".join([*parts, *filter(None, (f"each {text}" for text in [self.item.range_text()] if text))])
        low = f"at least {_number(self.least)}" if self.least is not None else ""
        low = f"above {_number(self.above)}" if self.above is not None else low
        high = f"at most {_number(self.most)}" if self.most is not None else ""
        return " and ".join(filter(None, (low, high))) or self.rule

    def _length_text(self) -> str:
        least, most = self.length or (0, 1000)
        return f"{least} entries" if least == most else f"{least} to {most} entries"


def flag(default: bool, meaning: str, original: bool = False) -> Key:
    """A key that is true or false."""
    return Key(default, meaning, original)


def integer(default: int, meaning: str, original: bool = False, least: int = 0, most: int = 2**31 - 1) -> Key:
    """A key that is a whole number from `least` to `most`."""
    return Key(default, meaning, original, least=least, most=most)


def number(default: float, meaning: str, original: bool = False, **bounds: float) -> Key:
    """A key that is a finite number; bounds: least, most, above."""
    return Key(float(default), meaning, original, **bounds)


def text(default: str, meaning: str, original: bool = False, check: Callable | None = None, rule: str = "") -> Key:
    """A key that is a text."""
    return Key(default, meaning, original, check=check, rule=rule)


def choice(default: Any, choices: tuple, meaning: str, original: bool = False) -> Key:
    """A key with a few possible values."""
    return Key(default, meaning, original, choices=choices)


def entries(default: list, item: Key, length: tuple[int, int], meaning: str, original: bool = False) -> Key:
    """A key that is a list; each entry is checked as `item`."""
    return Key(default, meaning, original, item=item, length=length)


def plain_name(value: str) -> None:
    """Raise ValueError for a text that is not the name of a file inside a folder."""
    if value and (value in (".", "..") or not re.fullmatch(r"[^/\\\0\n]{1,200}", value)):
        raise ValueError(f"must be a plain file name without folders, not {shown(value)}")


def set_names(value: str) -> None:
    """Raise ValueError for a text that is not names of image sets joined with +."""
    for name in value.split("+"):
        if not re.fullmatch(r"[\w.-]{1,200}", name.strip()) or set(name.strip()) <= {"."}:
            raise ValueError(f"must be names of lists in ImageSets, joined with +, not {shown(value)}")


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
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) >= 10**_SHOWN:
        return f"a whole number of more than {_SHOWN} digits"
    described = (
        repr(value) if not isinstance(value, (list, tuple, dict)) or len(value) < 50 else f"{type(value).__name__}"
    )
    return described if len(described) <= _SHOWN else described[:_SHOWN] + "..."


def _number(value: float) -> str:
    return f"{value:,}".replace(",", "") if isinstance(value, int) else f"{value:g}"
