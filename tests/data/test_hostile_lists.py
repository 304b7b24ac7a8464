"""Lists and class lists that are broken, hostile or no files: one error each, which names the file and the line."""

from __future__ import annotations

import os

import pytest

from lib.data.classes import IMAGENET_VID, Classes, ClassListError, load_classes, require_same_classes
from lib.data.dataset_check import check_image_set, find_image_sets
from lib.data.image_sets import DatasetError, load_image_set
from lib.data.imagenet_vid import ImageNetVID
from lib.data.roidb import load_roidb
from tests.data.toy_vid import write_list

NUMBERS = "the columns after the path must be whole numbers of at most 18 digits"
LISTS = {
    "nothing": (b"", " the list is empty"),
    "blanks": (b" \n\t\n\r\n", " the list is empty"),
    "a byte-order mark alone": (b"\xef\xbb\xbf", " the list is empty"),
    "utf-16": ("a 1 0 3\n".encode("utf-16"), " not a text file in UTF-8; is "),
    "utf-16 without mark": ("a 1 0 3\n".encode("utf-16-le"), " not a text file in UTF-8"),
    "latin-1": ("gr\xfcn 1 0 3\n".encode("latin-1"), " not a text file in UTF-8"),
    "a picture": (b"\xff\xd8\xff\xe0" + bytes(range(256)), " not a text file in UTF-8"),
    "a NUL": (b"a\0b 1 0 3\n", " not a text file in UTF-8"),
    "a bell": (b"a 1 0 3\na\x07b 4 0 3\n", r"2: 'a\\x07b' is no path"),
    "an escape sequence": (b"\x1b[31ma 1 0 3\n", r"1: '\\x1b\[31ma' is no path"),
    "a path of 5,000 letters": (b"a" * 5000 + b" 1 0 3\n", "1: 'a+' is no path"),
    "one column": (b"a\n", "1: 1 columns; a line is"),
    "three columns": (b"a 1 0\n", "1: 3 columns; a line is"),
    "five columns": (b"a 1 0 3 4\n", "1: 5 columns; a line is"),
    "mixed columns": (b"a 1 0 3\n\nb 2\n", "3: 2 columns, but the lines before it have 4"),
    "commas": (b"a,1,0,3\n", "1: 1 columns; a line is"),
    "a word": (b"a 1 zero 3\n", f"1: {NUMBERS}, not 1 zero 3"),
    "a fraction": (b"a 1 0 3.0\n", f"1: {NUMBERS}"),
    "an underscore": (b"a 1 0 1_000\n", f"1: {NUMBERS}"),
    "digits of another script": ("a 1 0 ٣\n".encode(), f"1: {NUMBERS}"),
    "2 to the 63": (b"a 1 0 9223372036854775808\n", f"1: {NUMBERS}"),
    "2 to the 63 as id": (b"a 9223372036854775808 0 3\n", f"1: {NUMBERS}"),
    "2 to the 63 in two columns": (b"a 9223372036854775808\n", f"1: {NUMBERS}"),
    "5,000 digits": (b"a 1 0 " + b"9" * 5000 + b"\n", f"1: {NUMBERS}"),
    "a length of 10 to the 8": (b"a 1 0 100000000\n", "1: a video of 100000000 frames; at most 1000000 can be"),
    "a negative length": (b"a 1 0 -3\n", "1: frame 0 of a video of -3 frames; frames count from 0"),
    "a negative frame": (b"a 1 -1 3\n", "1: frame -1 of a video of 3 frames"),
    "a frame behind the last": (b"a 1 3 3\n", "1: frame 3 of a video of 3 frames"),
    "a page of the web": (b"<!DOCTYPE html>\n<html>\n", "1: the columns after the path must be|1: 2 columns"),
}


@pytest.mark.parametrize("name", LISTS)
def test_a_broken_list_is_named_with_its_line(toy, name):
    content, message = LISTS[name]
    path = write_list(toy, "VID_x", [])
    path.write_bytes(content)
    with pytest.raises(DatasetError, match=rf"VID_x\.txt:({message})") as error:
        load_image_set(toy, "VID_x")
    assert len(str(error.value)) < 600
    str(error.value).encode()
    (finding,) = check_image_set(toy, "VID_x", IMAGENET_VID, decode=True).findings
    assert (finding.kind, finding.wrong) == ("list", True)


OUT_OF_ORDER = {  # of a list with one image a line: lines, the wrong one, the earlier one that it contradicts
    "a frame twice in a row": (["val/b/000000 1", "val/b/000000 2"], 2, 1),
    "a frame twice": (["val/b/000000 1", "val/b/000001 2", "val/b/000000 3"], 3, 2),
    "frames in reverse": (["val/b/000001 1", "val/b/000000 2"], 2, 1),
    "two videos in turns": (["val/b/000000 1", "val/c/000000 2", "val/b/000001 3"], 3, 1),
    "a video in two pieces": (["val/b/000000 1", "val/c/000000 2", "val/c/000001 3", "val/b/000002 4"], 4, 1),
}


@pytest.mark.parametrize("name", OUT_OF_ORDER)
def test_frames_out_of_order_are_refused_for_testing(toy, name):
    """A video would be tested in pieces, with a memory of another one: a wrong mAP without a word."""
    lines, wrong, earlier = OUT_OF_ORDER[name]
    write_list(toy, "VID_x", lines)
    stem = lines[wrong - 1].split()[0]
    message = rf"VID_x\.txt:{wrong}: {stem} is out of order, another frame of its video is in line {earlier}; list"
    with pytest.raises(DatasetError, match=message):
        ImageNetVID(toy, "VID_x", IMAGENET_VID, toy / "cache")
    write_list(toy, "VID_x", ["val/b/000000 1", "val/b/000002 2", "val/c/000000 3"])
    dataset = ImageNetVID(toy, "VID_x", IMAGENET_VID, toy / "cache")
    assert [video.length for video in dataset.videos()] == [2, 1]


@pytest.mark.parametrize(
    "name", ["../VID_x", "VID_../../x", "/etc/passwd", "a/b", "", ".", "..", "a\\b", "x" * 300, "nul\0", "VID_\ud800"]
)
def test_names_of_lists_stay_in_their_folder(toy, name):
    with pytest.raises(DatasetError) as error:
        load_image_set(toy, name)
    str(error.value).encode()
    with pytest.raises(DatasetError):
        ImageNetVID(toy, name, IMAGENET_VID, toy / "cache")


def test_a_list_that_is_no_file_is_refused(toy):
    os.mkfifo(toy / "ImageSets/VID_pipe.txt")
    (toy / "ImageSets/VID_folder.txt").mkdir()
    (toy / "ImageSets/VID_zero.txt").symlink_to("/dev/zero")
    (toy / "ImageSets/VID_loop.txt").symlink_to("VID_loop.txt")
    with open(toy / "ImageSets/VID_huge.txt", "wb") as file:
        file.truncate(1 << 40)
    for name, message in (
        ("pipe", "is a device, pipe or socket, not a file"),
        ("folder", "is a folder, not a file"),
        ("zero", "is a device"),
        ("loop", "Too many levels of symbolic links"),
        ("huge", "has more than 1073741824 bytes"),
    ):
        with pytest.raises(DatasetError, match=rf"VID_{name}\.txt: .*{message}"):
            load_image_set(toy, f"VID_{name}")


@pytest.mark.parametrize("ending", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_ways_to_write_the_same_list(toy, ending, mark):
    path = write_list(toy, "VID_x", [])
    path.write_bytes((mark + ending.join(["val/b 1 0 3", "", "val/c 4 0 2"])).encode())
    image_set = load_image_set(toy, "VID_x")
    assert image_set.paths == ["val/b", "val/c"]
    assert image_set.lines.tolist() == [1, 3]
    assert image_set.numbers.tolist() == [[1, 0, 3], [4, 0, 2]]


def test_many_long_videos_are_too_many_frames(toy):
    write_list(toy, "VID_x", [f"val/{i} 1 0 1000000" for i in range(51)])
    with pytest.raises(DatasetError, match=r"VID_x\.txt: its videos have 51000000 frames together, more than 50000000"):
        ImageNetVID(toy, "VID_x", IMAGENET_VID, toy / "cache")


def test_files_that_are_missing_far_from_the_data_set_are_named(toy):
    write_list(toy, "VID_x", ["../../../../etc/passwd 1"])
    with pytest.raises(DatasetError, match=r"VID_x\.txt:1: its annotation file .*passwd\.xml cannot be read"):
        load_roidb(toy, "VID_x", IMAGENET_VID, toy / "cache")


CLASSES = {
    "nothing": (b"", "classes.txt: no class in it; write one class a line"),
    "comments": (b"# one\n# two\n", "classes.txt: no class in it"),
    "utf-16": ("n1 cat\n".encode("utf-16"), "classes.txt: not a text file in UTF-8; give a class list"),
    "utf-16 without mark": ("n1 cat\n".encode("utf-16-be"), "classes.txt: not a text file in UTF-8"),
    "latin-1": ("n1 Kätzchen\n".encode("latin-1"), "classes.txt: not a text file in UTF-8"),
    "a NUL": (b"n1 c\0t\n", "classes.txt: not a text file in UTF-8"),
    "an escape sequence": (b"n1 cat\nn2 \x1b[31mdog\n", r"classes.txt:2: '\\x1b\[31mdog' has a control character"),
    "a name with a tab": (b"n1 cat\tfelis\n", r"classes.txt:1: 'cat\\tfelis' has a control character"),
    "a name twice": (b"n1 cat\n\nn2 cat\n", "classes.txt:3: name 'cat' was already given in line 1"),
    "an id twice": (b"n1 cat\nn1 dog\n", "classes.txt:2: annotation name 'n1' was already given in line 1"),
    "an id as a name": (b"cat\nn1 cat\n", "classes.txt:2: name 'cat' was already given in line 1"),
}


@pytest.mark.parametrize("name", CLASSES)
def test_a_broken_class_list_is_named_with_its_line(tmp_path, name):
    content, message = CLASSES[name]
    (tmp_path / "classes.txt").write_bytes(content)
    for arguments in ((tmp_path / "classes.txt",), ("", tmp_path)):
        with pytest.raises(ClassListError, match=message):
            load_classes(*arguments)


@pytest.mark.parametrize("text", ["n1 cat\nn2 dog\n", "\ufeffn1 cat\nn2 dog", "n1 cat\r\nn2 dog\r\n", "n1 cat\rn2 dog"])
def test_ways_to_write_the_same_classes(tmp_path, text):
    (tmp_path / "classes.txt").write_bytes(text.encode())
    assert load_classes("", tmp_path) == Classes(("cat", "dog"), ("n1", "n2"))


def test_tens_of_thousands_of_classes(tmp_path):
    names = [f"class {i}" for i in range(40_000)]
    (tmp_path / "classes.txt").write_text("".join(f"n{i} {name}\n" for i, name in enumerate(names)))
    classes = load_classes("", tmp_path)
    assert classes.num_classes == 40_001
    assert classes.labels["n39999"] == 40_000
    assert Classes(tuple(names), tuple(names)).names == tuple(names)
    with pytest.raises(ClassListError, match="class 40000 is 'class 39999' .* in one, and no such class in other"):
        require_same_classes(classes, "one", Classes(classes.names[:-1], classes.annotation_names[:-1]), "other")


def test_a_class_list_that_is_no_file_is_refused(tmp_path):
    os.mkfifo(tmp_path / "pipe.txt")
    for path, message in (
        (tmp_path / "pipe.txt", "is a device, pipe or socket, not a file; give a class list"),
        (tmp_path, "is a folder, not a file"),
        (tmp_path / "none.txt", "cannot be read"),
        ("nul\0", "embedded null"),
    ):
        with pytest.raises(ClassListError, match=message):
            load_classes(path)


def test_lists_are_found_whatever_their_names(toy):
    write_list(toy, "mine", ["val/b 1 0 3"])
    (toy / "ImageSets/._VID_train.txt").write_text("what another system left")
    assert find_image_sets(toy) == ["DET_train", "VID_train", "VID_val_frames", "VID_val_videos", "mine"]
    with pytest.raises(DatasetError, match=r"ImageSets: no list \(\*\.txt\) in it"):
        find_image_sets(toy / "Data")


def test_cut_images_are_found(toy):
    stem = "VID/val/b/000001.JPEG"
    content = (toy / "Data" / stem).read_bytes()
    (toy / "Data" / stem).write_bytes(content[: len(content) * 2 // 3])
    for name in ("VID_val_videos", "VID_val_frames"):
        found = [f for f in check_image_set(toy, name, IMAGENET_VID, decode=True).findings if f.wrong]
        assert [(f.kind, f.place) for f in found] == [("bad image", str(toy / "Data" / stem))]
        assert found[0].detail == f"the image is cut off after {len(content) * 2 // 3} bytes; replace the file"
        assert not any(f.wrong for f in check_image_set(toy, name, IMAGENET_VID, decode=False).findings)


def test_a_list_that_claims_far_more_frames_than_there_are(toy):
    """What is missing is found in one pass."""
    write_list(toy, "VID_x", ["val/b 1 0 20000"])
    findings = check_image_set(toy, "VID_x", IMAGENET_VID, decode=False).findings
    kinds = [finding.kind for finding in findings if finding.wrong]
    assert (kinds.count("no image"), kinds.count("no annotation"), kinds.count("gap")) == (19_997, 19_997, 0)
    assert kinds.count("length") == 1
