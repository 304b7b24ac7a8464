"""Class lists: the preset, files, their errors."""

from __future__ import annotations

import pytest

from lib.data.classes import IMAGENET_VID, Classes, ClassListError, load_classes


def test_preset_is_imagenet_vid():
    assert IMAGENET_VID.num_classes == 31
    assert IMAGENET_VID.names[:2] == ("airplane", "antelope")
    assert IMAGENET_VID.names[29] == "zebra"
    assert IMAGENET_VID.labels["n02691156"] == 1
    assert IMAGENET_VID.labels["n02121808"] == 1 + IMAGENET_VID.names.index("domestic_cat") == 10
    # The originals' list is alphabetical but for none
    assert list(IMAGENET_VID.names) == sorted(IMAGENET_VID.names)


def test_file_beside_the_data_goes_before_the_preset(tmp_path):
    assert load_classes("", tmp_path) is IMAGENET_VID
    (tmp_path / "classes.txt").write_text("# two\nn1 big cat  # its name has a blank\n\nBall\n")
    classes = load_classes("", tmp_path)
    assert classes == Classes(("big cat", "Ball"), ("n1", "Ball"))
    assert classes.labels == {"n1": 1, "Ball": 2}
    own = tmp_path / "own.txt"
    own.write_text("x y\n")
    assert load_classes(own, tmp_path).names == ("y",)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a x\nb y\n# c\na z\n", r"own\.txt:4: annotation name 'a' was already given in line 1"),
        ("a x\nb x\n", r"own\.txt:2: name 'x' was already given in line 1"),
        ("# nothing\n\n", r"own\.txt: no class in it; write one class a line"),
    ],
)
def test_broken_file_is_named_with_its_line(tmp_path, text, message):
    path = tmp_path / "own.txt"
    path.write_text(text)
    with pytest.raises(ClassListError, match=message):
        load_classes(path)


def test_missing_and_binary_files_are_named(tmp_path):
    with pytest.raises(ClassListError, match=r"none\.txt: cannot be read"):
        load_classes(tmp_path / "none.txt")
    (tmp_path / "picture.jpg").write_bytes(b"\xff\xd8\xff")
    with pytest.raises(ClassListError, match=r"picture\.jpg: not a text file"):
        load_classes(tmp_path / "picture.jpg")


def test_classes_are_checked_however_they_are_made():
    with pytest.raises(ClassListError, match="'a' is given to more than one class"):
        Classes(("a", "a"), ("x", "y"))
    with pytest.raises(ClassListError, match="as many names as annotation names"):
        Classes(("a",), ("x", "y"))
    with pytest.raises(ClassListError, match="at least one"):
        Classes((), ())
