"""Image files that are broken, cut off, or no files: one ImageError each. Those that are whole keep cv2.imread's
pixels.
"""

from __future__ import annotations

import os
import struct
import zlib

import cv2
import numpy as np
import pytest

from lib.config import load_config
from lib.data.image_file import claimed_size, lacks_end, tiff_pixel_type
from lib.data.transforms import ImageError, Preprocessing, read_image, require_size
from tests.data.toy_vid import picture

PIXELS = picture("some frame", (60, 81))
PROGRESSIVE = [cv2.IMWRITE_JPEG_PROGRESSIVE, 1]
RESTARTS = [cv2.IMWRITE_JPEG_RST_INTERVAL, 3]


def encoded(suffix: str, parameters: tuple | list = (), pixels: np.ndarray = PIXELS) -> bytes:
    return cv2.imencode(suffix, pixels, list(parameters))[1].tobytes()


def with_header(jpeg: bytes, body: bytes, marker: int = 0xE1) -> bytes:
    """`jpeg` with one more segment at its beginning."""
    return jpeg[:2] + bytes((0xFF, marker)) + struct.pack(">H", len(body) + 2) + body + jpeg[2:]


def png(width: int, height: int) -> bytes:
    """A PNG file that claims any size and has no pixels."""
    chunks = ((b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)), (b"IDAT", b""), (b"IEND", b""))
    parts = [
        struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body)) for name, body in chunks
    ]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def jpeg_that_claims(width: int, height: int) -> bytes:
    data = bytearray(encoded(".jpg"))
    start = data.index(b"\xff\xc0")
    data[start + 5 : start + 9] = struct.pack(">HH", height, width)
    return bytes(data)


def bmp_that_claims(width: int, height: int) -> bytes:
    data = bytearray(encoded(".bmp"))
    data[18:26] = struct.pack("<ii", width, height)
    return bytes(data)


PREVIEW = b"Exif\0\0" + encoded(".jpg", pixels=PIXELS[:8, :8])  # a whole JPEG file, its end included
WHOLE = {
    "jpeg": encoded(".jpg"),
    "progressive jpeg": encoded(".jpg", PROGRESSIVE),
    "jpeg with restarts": encoded(".jpg", RESTARTS),
    "jpeg with a preview": with_header(encoded(".jpg"), PREVIEW),
    "jpeg with fill bytes": encoded(".jpg")[:2] + b"\xff\xff\xff" + encoded(".jpg")[2:],
    "grey jpeg": encoded(".jpg", pixels=PIXELS[:, :, 0]),
    "jpeg followed by other data": encoded(".jpg") + b"more" * 500,
    "jpeg without the marker of its end": encoded(".jpg")[:-2],
    "progressive jpeg without its end": encoded(".jpg", PROGRESSIVE)[:-2],
    "jpeg with zeros for its end": encoded(".jpg")[:-2] + b"\0" * 64,
    "png": encoded(".png"),
    "png with alpha": encoded(".png", pixels=np.dstack((PIXELS, PIXELS[:, :, :1]))),
    "png of 16 bits": encoded(".png", pixels=PIXELS.astype(np.uint16) * 257),
    "bmp": encoded(".bmp"),
    "webp": encoded(".webp"),
    "tiff": encoded(".tiff"),
    "ppm": encoded(".ppm"),
    "one pixel": encoded(".png", pixels=PIXELS[:1, :1]),
    "one row": encoded(".jpg", pixels=PIXELS[:1]),
}


@pytest.mark.parametrize("name", WHOLE)
def test_pixels_are_those_of_imread(tmp_path, name):
    path = tmp_path / "frame.JPEG"
    path.write_bytes(WHOLE[name])
    expected = cv2.imread(str(path), cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION)
    assert expected is not None
    np.testing.assert_array_equal(read_image(path), expected)


@pytest.mark.parametrize("share", [0.02, 0.1, 0.3, 0.5, 0.7, 0.9, 0.97])
@pytest.mark.parametrize(
    "name", [name for name in WHOLE if "pixel" not in name and "row" not in name and "other" not in name]
)
def test_an_image_cut_off_is_no_image(tmp_path, name, share):
    data = WHOLE[name]
    path = tmp_path / "frame.JPEG"
    path.write_bytes(data[: int(len(data) * share)])
    with pytest.raises(
        ImageError, match=r"frame\.JPEG: (the image is cut off after |not a readable image \()\d+ bytes"
    ):
        read_image(path)


def test_only_the_end_behind_the_compressed_data_counts():
    whole, cut = WHOLE["jpeg with a preview"], WHOLE["jpeg with a preview"][:-400]
    assert whole.count(b"\xff\xd9") == 2
    assert not lacks_end(whole)
    assert cut.count(b"\xff\xd9") == 1
    assert lacks_end(cut)
    assert not lacks_end(WHOLE["png"][:100])


BROKEN = {
    "nothing": b"",
    "text": b"not a picture",
    "zeros": bytes(5000),
    "a page of the web": b"<!DOCTYPE html><html><body>404</body></html>",
    "a pointer of Git LFS": b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 5\n",
    "the start of a jpeg": b"\xff\xd8\xff",
    "a jpeg of markers": b"\xff\xd8" + b"\xff" * 3000,
    "a jpeg of lengths": b"\xff\xd8" + b"\xff\xe0\x00\x00" * 500,
    "a jpeg that ends at once": b"\xff\xd8\xff\xd9",
    "a jpeg without a scan": b"\xff\xd8\xff\xe0\x00\x02\xff\xd9",
    "a jpeg with a long segment": b"\xff\xd8\xff\xe1\xff\xff" + bytes(10),
    "a jpeg without height": jpeg_that_claims(81, 0),
    "a jpeg without width": jpeg_that_claims(0, 60),
    "the start of a png": b"\x89PNG\r\n\x1a\n",
    "a png without pixels": png(8, 8),
    "a png of nothing": png(0, 0),
    "a png with a wrong sum": WHOLE["png"][:40] + b"\xff\xff" + WHOLE["png"][42:],
    "the start of a bmp": b"BM",
    "a bmp of nothing": bmp_that_claims(0, 0),
    "the start of a webp": b"RIFF\x20\0\0\0WEBPVP8 ",
    "the start of a tiff": b"II*\0\x08\0\0\0",
    "a tiff of itself": b"II*\0\x08\0\0\0\x01\0" + b"\xff" * 12 + b"\x08\0\0\0",
    "a ppm of letters": b"P6\nten ten\n255\n",
    "a ppm that is too short": b"P6\n500 500\n255\nabc",
}


@pytest.mark.parametrize("name", BROKEN)
def test_what_is_no_image_is_named(tmp_path, name):
    path = tmp_path / "frame.JPEG"
    path.write_bytes(BROKEN[name])
    with pytest.raises(ImageError, match=rf"frame\.JPEG: not a readable image \({len(BROKEN[name])} bytes\); replace"):
        read_image(path)


@pytest.mark.parametrize(
    ("make", "width", "height"),
    [
        (png, 100_000, 100_000),
        (png, 2**31 - 1, 2**31 - 1),
        (png, 2**32 - 1, 1),
        (jpeg_that_claims, 65_535, 65_535),
        (jpeg_that_claims, 30_000, 10_000),
        (bmp_that_claims, 50_000, 50_000),
        (bmp_that_claims, 50_000, -50_000),
    ],
)
def test_a_header_that_claims_too_much_is_refused_before_anything_is_decoded(
    tmp_path, monkeypatch, make, width, height
):
    path = tmp_path / "frame.png"
    path.write_bytes(make(width, height))
    monkeypatch.setattr(cv2, "imdecode", lambda *_: pytest.fail("decoded"))
    with pytest.raises(
        ImageError, match=rf"frame\.png: claims to have {width} x {abs(height)} pixels, which no frame has"
    ):
        read_image(path)


@pytest.mark.parametrize("name", ["jpeg", "progressive jpeg", "jpeg with a preview", "grey jpeg", "png", "bmp"])
def test_claimed_sizes(name):
    assert claimed_size(WHOLE[name]) == (81, 60)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("kind", ["float32", "float64", "int32"])
def test_a_tiff_whose_pixels_are_not_read_says_which(tmp_path, kind, channels):
    path = tmp_path / "frame.tiff"
    path.write_bytes(encoded(".tiff", pixels=PIXELS[..., :channels].astype(kind)))
    with pytest.raises(ImageError, match=rf"pixels are {kind}, and only integers of 8 or 16 bits are read; convert"):
        read_image(path)


def test_types_of_a_tiffs_pixels():
    for kind in ("uint8", "uint16", "float32"):
        data = encoded(".tiff", pixels=PIXELS.astype(kind))
        assert tiff_pixel_type(data) == kind
        for length in range(0, len(data), 101):
            assert tiff_pixel_type(data[:length]) in (kind, None)
    entry = struct.pack(">HHIHH", 258, 3, 1, 16, 0)
    assert tiff_pixel_type(b"MM\0*" + struct.pack(">IH", 8, 1) + entry) == "uint16"
    assert tiff_pixel_type(encoded(".png")) is None


def test_of_16_bits_the_upper_eight_are_taken(tmp_path):
    twelve = np.random.default_rng(0).integers(0, 4096, (20, 30, 3)).astype(np.uint16)
    (tmp_path / "frame.png").write_bytes(encoded(".png", pixels=twelve))
    np.testing.assert_array_equal(read_image(tmp_path / "frame.png"), twelve >> 8)


def test_what_is_no_file_is_refused(tmp_path):
    os.mkfifo(tmp_path / "pipe.jpg")
    for path, message in (
        (tmp_path / "pipe.jpg", "is a device, pipe or socket, not a file; replace the file"),
        ("/dev/zero", "is a device, pipe or socket"),
        (tmp_path, "is a folder, not a file"),
        (tmp_path / "gone.jpg", "no such image file"),
        (tmp_path / "pipe.jpg" / "x.jpg", "Not a directory"),
        (tmp_path / ("x" * 300), "File name too long"),
        ("nul\0.jpg", "embedded null"),
    ):
        with pytest.raises(ImageError, match=message):
            read_image(path)


def test_a_name_that_is_not_utf8_is_read_and_shown(tmp_path):
    path = os.fsencode(tmp_path) + b"/fr\xe4me.jpg"
    with open(path, "wb") as file:
        file.write(WHOLE["jpeg"])
    assert read_image(os.fsdecode(path)).shape == PIXELS.shape
    os.truncate(path, 100)
    with pytest.raises(ImageError, match=r"fr\\udce4me\.jpg: not a readable image") as error:
        read_image(os.fsdecode(path))
    str(error.value).encode()


@pytest.mark.parametrize("size_hw", [(1, 500), (500, 1), (1, 5000), (5000, 1), (2, 9999), (1, 1), (3, 3000)])
def test_images_of_any_shape_become_network_input(tmp_path, size_hw):
    path = tmp_path / "line.png"
    path.write_bytes(encoded(".png", pixels=np.full((*size_hw, 3), 9, np.uint8)))
    frame = Preprocessing.from_config(load_config())(read_image(path))
    height, width = frame.image.shape[1:]
    assert max(height, width) <= 1000
    assert min(height, width) == max(1, round(frame.scale * min(size_hw)))
    assert max(height, width) == round(frame.scale * max(size_hw))


def test_a_size_that_is_not_the_annotations_is_an_error_with_both():
    require_size(PIXELS, 60, 81, "a.JPEG")
    for height, width in ((81, 60), (60, 80), (61, 81)):
        with pytest.raises(
            ImageError, match=rf"a\.JPEG: has 81 x 60 pixels, but its annotation says {width} x {height};"
        ):
            require_size(PIXELS, height, width, "a.JPEG")
