"""XML files and their columns: what is read, what is clipped, what is unknown, what is an error."""

from __future__ import annotations

import numpy as np
import pytest

from lib.data.annotations import AnnotationError, AnnotationIndex, read_annotation
from lib.data.classes import IMAGENET_VID, Classes
from tests.data.toy_vid import AIRPLANE, BIRD, xml


def _read(tmp_path, text):
    path = tmp_path / "some.xml"
    path.write_text(text)
    return read_annotation(path)


def _index(tmp_path, objects, size_hw=(48, 64)):
    return AnnotationIndex.of([_read(tmp_path, xml(objects, size_hw))])


def test_everything_is_read_as_written(tmp_path):
    annotation = _read(
        tmp_path,
        xml(
            [
                (AIRPLANE, (-3, 2, 70.5, 50)),
                ("what", (1, 2, 3, 4), "<trackid>6</trackid><occluded>1</occluded>", "<generated>1</generated>"),
            ]
        ),
    )
    assert (annotation.height, annotation.width) == (48, 64)
    assert annotation.names == [AIRPLANE, "what"]
    assert annotation.boxes == [(-3, 2, 70.5, 50), (1, 2, 3, 4)]
    assert annotation.track_ids == [-1, 6]
    assert annotation.occluded == [False, True]
    assert annotation.generated == [False, True]


def test_a_frame_without_objects(tmp_path):
    index = AnnotationIndex.of([_read(tmp_path, xml())] * 2)
    assert index.num_frames == 2
    assert index.offsets.tolist() == [0, 0, 0]
    assert index.boxes.shape == (0, 4)
    assert index.labels(IMAGENET_VID).shape == (0,)
    assert index.training_boxes()[0].shape == (0, 4)


def test_training_boxes_are_clipped_and_cut_to_whole_pixels(tmp_path):
    index = _index(tmp_path, [(BIRD, (-3, -1, 70, 50)), (BIRD, (1.9, 2, 30.9, 47.5)), (BIRD, (63, 47, 63, 47))])
    boxes, usable = index.training_boxes()
    assert boxes.tolist() == [[0, 0, 63, 47], [1, 2, 30, 47], [63, 47, 63, 47]]
    assert usable.all()
    assert index.boxes[0].tolist() == [-3, -1, 70, 50], "evaluation has them as they are in the file"


def test_impossible_boxes_are_not_usable(tmp_path):
    impossible = [(9, 1, 8, 5), (1, 9, 5, 8), (64, 0, 80, 9), (0, 48, 9, 60), (-9, 0, -1, 9), (0, -9, 9, -1)]
    index = _index(tmp_path, [(BIRD, box) for box in impossible] + [(BIRD, (1, 1, 1, 1)), (BIRD, (0, 0, 1e12, 5))])
    boxes, usable = index.training_boxes()
    assert usable.tolist() == [False] * 6 + [True] * 2
    assert boxes[6:].tolist() == [[1, 1, 1, 1], [0, 0, 63, 5]]


def test_names_are_compared_letter_by_letter(tmp_path):
    names = [AIRPLANE, AIRPLANE.upper(), f" {AIRPLANE}", BIRD, "airplane"]
    index = _index(tmp_path, [(name, (1, 1, 5, 5)) for name in names])
    assert index.labels(IMAGENET_VID).tolist() == [1, 0, 0, 5, 0]
    assert index.labels(Classes(("plane", "UP"), ("airplane", AIRPLANE.upper()))).tolist() == [0, 2, 0, 0, 1]


def test_joined_indexes_equal_one(tmp_path):
    texts = [xml([(BIRD, (1, 2, 3, 4)), ("b", (2, 2, 3, 4))]), xml(), xml([("a", (5, 6, 7, 8))], (9, 10)), xml()]
    annotations = [_read(tmp_path, text) for text in texts]
    whole = AnnotationIndex.of(annotations)
    joined = AnnotationIndex.cat([AnnotationIndex.of(annotations[:1]), AnnotationIndex.of(annotations[1:])])
    assert whole.names[whole.name_ids].tolist() == [BIRD, "b", "a"]
    assert whole.frame_of_object().tolist() == [0, 0, 2]
    for name in vars(whole):
        np.testing.assert_array_equal(getattr(joined, name), getattr(whole, name), err_msg=name)
        assert getattr(joined, name).dtype.kind == getattr(whole, name).dtype.kind


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("</annotation>", "", r"some\.xml: not valid XML \(no element found"),
        (
            "<width>64</width>",
            "",
            r"some\.xml: <size><width> must be a whole number of pixels from 1 to 1000000, not ''",
        ),
        ("<height>48<", "<height>0<", r"some\.xml: <size><height> must be .* not '0'"),
        ("<xmin>2</xmin>", "", r"some\.xml: object 2 needs a <name> and a <bndbox>"),
        ("<xmin>2<", "<xmin>two<", r"some\.xml: object 2 needs .*two"),
        ("<xmin>2<", "<xmin>nan<", r"some\.xml: object 2 needs .*nan"),
        ("<name>second</name>", "", r"some\.xml: object 2 needs .*no name"),
        ("<trackid>7<", "<trackid>x<", r"some\.xml: object 2 needs .* whole numbers in <trackid>"),
    ],
)
def test_broken_file_is_named(tmp_path, old, new, message):
    text = xml([(BIRD, (1, 1, 5, 5)), ("second", (2, 2, 5, 5), "<trackid>7</trackid>")])
    assert text.count(old) == 1
    with pytest.raises(AnnotationError, match=message):
        _read(tmp_path, text.replace(old, new))


def test_missing_file_is_named(tmp_path):
    with pytest.raises(AnnotationError, match=r"none\.xml: cannot be read"):
        read_annotation(tmp_path / "none.xml")
