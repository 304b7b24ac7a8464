"""What the bytes of an image file say without decoding: its size, a TIFF's type of pixels, whether a JPEG is cut off.

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
_TIFF_STARTS = {b"II*\0": "<", b"MM\0*": ">"}  # and the order of bytes
_TIFF_BITS, _TIFF_KIND = 258, 339  # tags
_TIFF_KINDS = {1: "uint", 2: "int", 3: "float"}


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


def tiff_pixel_type(data: bytes) -> str | None:
    """The type of a TIFF's pixels as its header gives it, "float32" for example; None for other files."""
    order = _TIFF_STARTS.get(data[:4])
    if order is None:
        return None
    kind, bits = 1, 1  # where the header does not say
    try:
        (start,) = struct.unpack_from(f"{order}I", data, 4)
        (entries,) = struct.unpack_from(f"{order}H", data, start)
        for entry in range(start + 2, start + 2 + 12 * entries, 12):
            tag, _, values = struct.unpack_from(f"{order}HHI", data, entry)
            if tag in (_TIFF_BITS, _TIFF_KIND):
                # Up to two values are in the entry itself; of more, which stand elsewhere, it has the position
                place = entry + 8 if values <= 2 else struct.unpack_from(f"{order}I", data, entry + 8)[0]
                (value,) = struct.unpack_from(f"{order}H", data, place)
                kind, bits = (value, bits) if tag == _TIFF_KIND else (kind, value)
    except struct.error:
        return None
    return f"{_TIFF_KINDS.get(kind, 'unknown')}{bits}"


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
