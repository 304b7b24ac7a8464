"""Checks of the bytes of an image file before decoding: the size in its header, and whether a JPEG is cut off.

OpenCV decodes a JPEG file that is cut off without an error; the missing part is grey.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

JPEG_END = b"\xff\xd9"
_JPEG_START, _PNG_START = b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n"
_ALONE = {0x01, *range(0xD0, 0xD9)}  # markers without a length
_FRAME_HEADERS = {*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC}
_SCAN, _END = 0xDA, 0xD9


def claimed_size(data: bytes) -> tuple[int, int] | None:
    """(width, height) that the header of a JPEG, PNG or BMP file claims; None for other files and broken headers."""
    try:
        if data.startswith(_PNG_START):
            return struct.unpack_from(">II", data, 16)
        if data.startswith(b"BM"):
            width, height = struct.unpack_from("<ii", data, 18)
            return abs(width), abs(height)  # a negative height means rows from the top
        if data.startswith(_JPEG_START):
            for marker, start in _segments(data):
                if marker in _FRAME_HEADERS:
                    height, width = struct.unpack_from(">HH", data, start + 3)
                    return width, height
    except struct.error:
        pass
    return None


def lacks_end(data: bytes) -> bool:
    """Whether `data` is a JPEG file without an end marker.

    The marker is searched for in the compressed data, where no other pair of bytes can be equal to it, because a
    preview in the header has an end marker of its own.
    """
    if not data.startswith(_JPEG_START):
        return False
    try:
        scan = next((start for marker, start in _segments(data) if marker == _SCAN), None)
    except struct.error:
        scan = None
    return scan is None or data.find(JPEG_END, scan) < 0


def _segments(data: bytes) -> Iterator[tuple[int, int]]:
    """Marker and position of the length of each segment of a JPEG file, up to the first scan. Raises struct.error."""
    position = 2
    while position + 1 < len(data):
        if data[position] != 0xFF:
            raise struct.error
        marker = data[position + 1]
        if marker == 0xFF:  # a fill byte
            position += 1
            continue
        position += 2
        if marker in _ALONE:
            continue
        if marker == _END:
            return
        yield marker, position
        if marker == _SCAN:
            return
        position += struct.unpack_from(">H", data, position)[0]
