"""Damage to good content, by a random generator that the seed determines."""

from __future__ import annotations

import re
from random import Random

NUMBERS = (
    *("0", "-0", "-1", "1", "2", "1e-45", "-1e-300", "0.5", "1e30", "1e39", "1e308", "1e309", "-1e999", "nan", "-nan"),
    *("inf", "-inf", "Infinity", "NaN", "2147483647", "2147483648", "-2147483649", "4294967296"),
    *("9223372036854775807", "9223372036854775808", "-9223372036854775809", "9" * 40, "9" * 5000, "1" * 400 + ".5"),
    *("0x10", "0b1", "0o7", "1_000", "1,5", "1.5", "1.", ".5", "+1", "--1", "1e", "e1", "٣", "²", "1 2", "½"),
)
WORDS = (
    *("", " ", "\t", "null", "~", "true", "false", "yes", "on", "[]", "{}", "[1]", "{a: 1}", "[[1, 2], [3]]", "''"),
    *("a", "é", "日本", "\u202e", "\ufeff", "\U0001f600", "a b", "a/b", "../a", "/etc/passwd", "a\\b", ".", "..", "*"),
    *("%s%n", "$HOME", "`true`", "; true", "--help", "x" * 300, "x" * 5000, "\x00", "\x1b[31m", "\x7f", "\r", "\udcff"),
)
TOKENS = (*NUMBERS, *WORDS)

_EXTREMES = (0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, 2**31 - 1, 2**31, 2**32 - 1, 2**63 - 1, 2**63, 2**64 - 1)
_TOKEN = re.compile(r"[^\s<>\"'\[\]{}(),:=]+")


def damaged_bytes(rng: Random, content: bytes) -> bytes:
    """`content` with one to four random changes."""
    data = bytearray(content)
    for _ in range(rng.choice((1, 1, 1, 2, 4))):
        _change_bytes(rng, data)
    return bytes(data)


def _change_bytes(rng: Random, data: bytearray) -> None:
    at = rng.randrange(len(data) + 1)
    length = min(rng.choice((1, 2, 4, 8, 64, 1000)), len(data) - at)
    way = rng.randrange(9)
    if way == 0 and at < len(data):
        data[at] ^= 1 << rng.randrange(8)
    elif way == 1:
        data[at : at + length] = rng.randbytes(length)
    elif way == 2:
        data[at:at] = rng.randbytes(rng.choice((1, 3, 100)))
    elif way == 3:
        del data[at : at + length]
    elif way == 4:
        del data[at:]
    elif way == 5:
        data[at:at] = data[at : at + length]
    elif way == 6:
        size = rng.choice((1, 2, 4, 8))
        number = rng.choice(_EXTREMES) % (1 << 8 * size)
        data[at : at + size] = number.to_bytes(size, rng.choice(("little", "big")))
    elif way == 7:
        data[at : at + length] = bytes(length)
    else:
        other = rng.randrange(len(data) + 1)
        data[at : at + length] = data[other : other + length]


def damaged_text(rng: Random, text: str) -> str:
    """`text` with one to four words, lines or letters changed."""
    for _ in range(rng.choice((1, 1, 1, 2, 4))):
        text = _change_text(rng, text)
    return text


def _change_text(rng: Random, text: str) -> str:
    way = rng.randrange(8)
    if way < 4:
        places = [match.span() for match in _TOKEN.finditer(text)] or [(0, 0)]
        begin, end = rng.choice(places)
        return text[:begin] + rng.choice(TOKENS) + text[end:]
    lines = text.split("\n")
    at = rng.randrange(len(lines))
    if way == 4:
        del lines[at]
    elif way == 5:
        lines.insert(rng.randrange(len(lines) + 1), lines[at])
    elif way == 6:
        lines[at] += rng.choice(("\t", " x", "\r", ":", "<", "]", "}", ",", "\u2028"))
    else:
        place = rng.randrange(len(lines[at]) + 1)
        lines[at] = lines[at][:place] + chr(rng.choice((0, 9, 10, 34, 38, 58, 60, 91, 123, 160, 233, 0x20AC)))
    return "\n".join(lines)


def as_bytes(rng: Random, text: str) -> bytes:
    """`text` in UTF-8, or seldom in another encoding or with its bytes damaged."""
    content = text.encode("utf-8", "surrogateescape")
    way = rng.randrange(12)
    if way == 0:
        return damaged_bytes(rng, content)
    if way == 1:
        return text.encode(rng.choice(("utf-16", "utf-16-le", "utf-8-sig", "utf-32", "latin-1", "cp037")), "replace")
    return content
