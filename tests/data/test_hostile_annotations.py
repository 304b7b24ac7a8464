"""XML files that are broken, hostile or no files: one AnnotationError each, which names the file."""

from __future__ import annotations

import os

import pytest

from lib.data.annotations import AnnotationError, AnnotationIndex, read_annotation
from lib.data.classes import IMAGENET_VID
from tests.data.toy_vid import AIRPLANE, xml

GOOD = xml([(AIRPLANE, (1, 2, 30, 40), "<trackid>7</trackid><occluded>0</occluded><generated>1</generated>")])
DECLARED = '<?xml version="1.0" encoding="{}"?>' + GOOD
BOMB = (
    "<!DOCTYPE x [<!ENTITY a0 'aaaaaaaaaaaaaaaaaaaa'>"
    + "".join(f"<!ENTITY a{i} '{f'&a{i - 1};' * 20}'>" for i in range(1, 12))
    + "]>"
)
BIG = "<!DOCTYPE x [<!ENTITY a '" + "a" * 100_000 + "'>]>"


def named(entity: str) -> str:
    return GOOD.replace(f"<name>{AIRPLANE}", f"<name>{entity}")


FILES = {
    "nothing": b"",
    "text": b"no markup",
    "zeros": bytes(100),
    "a picture": b"\xff\xd8\xff\xe0" + bytes(range(256)),
    "half a file": GOOD[:120].encode(),
    "two roots": (GOOD + GOOD).encode(),
    "a NUL": GOOD.replace("64", "6\0").encode(),
    "JSON": b'{"size": {"width": 64}}',
    "no size": b"<annotation><object/></annotation>",
    "another root": b"<html/>",
    "gbk without declaration": GOOD.replace(AIRPLANE, "飞机").encode("gbk"),
    "utf-8 called ascii": DECLARED.format("ascii").replace(AIRPLANE, "飞机").encode(),
    "an encoding in two bytes": DECLARED.format("gbk").encode("gbk"),
    "utf-32": DECLARED.format("utf-32").encode("utf-32"),
    "an unknown encoding": DECLARED.format("klingon").encode(),
    "a codec that is no encoding": DECLARED.format("zlib_codec").encode(),
    "an encoding with a NUL": DECLARED.format("utf\0-8").encode(),
    "an entity bomb": (BOMB + named("&a11;")).encode(),
    "a big entity many times": (BIG + named("&a;" * 5000)).encode(),
    "an entity of another file": ("<!DOCTYPE x [<!ENTITY p SYSTEM 'file:///etc/passwd'>]>" + named("&p;")).encode(),
    "an entity that is not there": named("&nbsp;").encode(),
    "a name of 10 MB": named("n" * 10_000_000).encode(),
}


@pytest.mark.parametrize("name", FILES)
def test_what_is_no_annotation_is_named(tmp_path, name):
    path = tmp_path / "some.xml"
    path.write_bytes(FILES[name])
    with pytest.raises(AnnotationError, match=r"some\.xml: (not valid XML|<size>|object 1 needs)") as error:
        read_annotation(path)
    assert len(str(error.value)) < 600
    assert "root:" not in str(error.value), "nothing of another file"


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (">64<", f">{side}<", "<size><width> must be a whole number of pixels from 1 to 1000000, not")
        for side in ("-64", "0", "6.4e1", "1000001", "2147483648", "1" * 30, "9" * 5000, "inf", "nan", "", "six", "²")
    ]
    + [
        (">7<", f">{track}<", "object 1 needs .* whole numbers in <trackid>")
        for track in ("9223372036854775808", "-9223372036854775809", "9" * 5000, "7.5", "nan", "0x7", "²")
    ]
    + [
        (">30<", f">{corner}<", "object 1 needs .* numbers in xmin")
        for corner in ("nan", "inf", "-inf", "1e999", "", "3,5", "thirty", "0x1f", "²")
    ]
    + [
        ("<occluded>0<", "<occluded>maybe<", "object 1 needs .*<occluded>"),
        ("<generated>1<", f"<generated>{'9' * 5000}<", "object 1 needs .*<generated>"),
        (f"<name>{AIRPLANE}</name>", "<name/>", "object 1 needs .*no name"),
        (f"<name>{AIRPLANE}</name>", f"<name>{'n' * 201}</name>", "object 1 needs .*a name of 201 characters"),
        ("<bndbox>", "<bndbox/><bndbox>", "object 1 needs"),
        ("<xmin>", "<xmin/><xmin>", "object 1 needs"),
    ],
)
def test_values_that_cannot_be(tmp_path, old, new, message):
    assert GOOD.count(old) == 1
    path = tmp_path / "some.xml"
    path.write_text(GOOD.replace(old, new), encoding="utf-8")
    with pytest.raises(AnnotationError, match=rf"some\.xml: {message}") as error:
        read_annotation(path)
    assert len(str(error.value)) < 600


@pytest.mark.parametrize(
    "content",
    [
        GOOD.encode("utf-16"),
        b"\xef\xbb\xbf" + GOOD.encode(),
        DECLARED.format("latin-1").encode("latin-1"),
        DECLARED.format("utf-8").encode(),
        DECLARED.format("windows-1252").encode(),
        ("<!DOCTYPE annotation>" + GOOD).encode(),
        GOOD.replace("><", ">\r\n  <").encode(),
    ],
)
def test_ways_to_write_the_same(tmp_path, content):
    path = tmp_path / "some.xml"
    path.write_bytes(content)
    annotation = read_annotation(path)
    assert (annotation.height, annotation.width, annotation.names) == (48, 64, [AIRPLANE])
    assert (annotation.boxes, annotation.track_ids) == ([(1, 2, 30, 40)], [7])


def test_the_largest_values_fit_into_the_columns(tmp_path):
    path = tmp_path / "some.xml"
    text = GOOD.replace(">64<", ">1000000<").replace(">7<", f">{2**63 - 1}<").replace(">30<", ">-1e300<")
    path.write_text(text)
    index = AnnotationIndex.of([read_annotation(path)])
    assert (index.widths.tolist(), index.track_ids.tolist()) == ([1_000_000], [2**63 - 1])
    assert index.training_boxes()[1].tolist() == [False]
    assert index.labels(IMAGENET_VID).tolist() == [1]


def test_elements_in_elements_without_end(tmp_path):
    path = tmp_path / "some.xml"
    path.write_text("<a>" * 200_000 + "</a>" * 200_000)
    with pytest.raises(AnnotationError, match=r"some\.xml: "):
        read_annotation(path)


def test_what_is_no_file_is_refused(tmp_path):
    os.mkfifo(tmp_path / "pipe.xml")
    with open(tmp_path / "huge.xml", "wb") as file:
        file.truncate(1 << 40)
    for path, message in (
        (tmp_path / "pipe.xml", "is a device, pipe or socket, not a file; give an annotation in XML"),
        (tmp_path / "huge.xml", "has more than 16777216 bytes"),
        (tmp_path, "is a folder"),
        ("/dev/zero", "is a device"),
        ("nul\0.xml", "embedded null"),
    ):
        with pytest.raises(AnnotationError, match=message):
            read_annotation(path)
