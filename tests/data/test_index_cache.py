"""The annotation cache: when it is used, when it is not, what happens when it is damaged."""

from __future__ import annotations

import logging
import os

import numpy as np
import pytest

from lib.data import index_cache
from lib.data.annotations import AnnotationIndex, read_annotation
from lib.data.classes import IMAGENET_VID, Classes
from lib.data.image_sets import DatasetError, load_image_set
from lib.data.imagenet_vid import ImageNetVID
from tests.data.toy_vid import AIRPLANE, BIRD, write_frame, write_list, xml


@pytest.fixture
def parsed(monkeypatch):
    """The annotation files that were parsed, in order; empty it to start afresh."""
    paths = []

    def read(path):
        paths.append(os.path.basename(path))
        return read_annotation(path)

    monkeypatch.setattr(index_cache, "read_annotation", read)
    return paths


def _index(toy, name="VID_train", classes=IMAGENET_VID):
    return ImageNetVID(toy, name, classes, toy / "cache", training=True).index


def test_second_reading_parses_nothing_and_is_equal(toy, parsed):
    first = _index(toy)
    assert parsed == ["000000.xml", "000002.xml", "000003.xml", "000005.xml"]
    parsed.clear()
    second = _index(toy)
    assert parsed == []
    for name in vars(first):
        np.testing.assert_array_equal(getattr(second, name), getattr(first, name), err_msg=name)
    assert [path.suffix for path in (toy / "cache").iterdir()] == [".npz"]


def test_edited_touched_and_removed_annotations_are_noticed(toy, parsed):
    annotation = toy / "Annotations/VID/train/a/000003.xml"
    status = annotation.stat()
    _index(toy)
    annotation.write_text(xml([(BIRD, (1, 1, 2, 2)), (BIRD, (3, 3, 4, 4))]))
    os.utime(annotation, ns=(status.st_atime_ns, status.st_mtime_ns))  # the size alone has changed
    assert len(_index(toy).boxes) == 5
    parsed.clear()
    os.utime(annotation, ns=(status.st_atime_ns, status.st_mtime_ns + 1))
    assert len(_index(toy).boxes) == 5
    assert len(parsed) == 4
    annotation.unlink()
    with pytest.raises(DatasetError, match=r"VID_train\.txt:3: its annotation file .*000003\.xml cannot be read"):
        _index(toy)


def test_an_annotation_that_the_list_does_not_name_changes_nothing(toy, parsed):
    _index(toy)
    parsed.clear()
    (toy / "Annotations/VID/train/a/000001.xml").write_text("rubbish")
    _index(toy)
    assert parsed == []


def test_changed_list_is_noticed(toy):
    _index(toy)
    write_list(toy, "VID_train", ["train/a 1 4 6", "train/a 1 0 6"])
    assert _index(toy).boxes[:, 0].tolist() == [4, 0]


def test_changed_classes_need_no_parsing_and_are_obeyed(toy, parsed):
    assert _index(toy).labels(IMAGENET_VID).tolist() == [1] * 4
    parsed.clear()
    other = Classes(("bird", "plane"), (BIRD, AIRPLANE))
    assert _index(toy, classes=other).labels(other).tolist() == [2] * 4
    assert parsed == []


def test_frames_and_whole_videos_of_one_list_have_caches_of_their_own(toy):
    frames = ImageNetVID(toy, "VID_val_videos", IMAGENET_VID, toy / "cache", training=True)
    videos = ImageNetVID(toy, "VID_val_videos", IMAGENET_VID, toy / "cache")
    assert (frames.index.num_frames, videos.index.num_frames) == (2, 5)
    assert (frames.index.num_frames, videos.index.num_frames) == (2, 5)
    assert len(list((toy / "cache").iterdir())) == 2


def _first_half(data):
    return data[: len(data) // 2]


def _one_bit_changed(data):
    middle = len(data) // 2
    return data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :]


@pytest.mark.parametrize("damage", [lambda data: b"", lambda data: b"rubbish" * 9, _first_half, _one_bit_changed])
def test_damaged_cache_is_rebuilt_with_a_word(toy, caplog, damage):
    expected = _index(toy)
    (cache,) = (toy / "cache").iterdir()
    whole = cache.read_bytes()
    cache.write_bytes(damage(whole))
    with caplog.at_level(logging.INFO):
        found = _index(toy)
    assert f"{cache}: damaged annotation cache" in caplog.text
    np.testing.assert_array_equal(found.boxes, expected.boxes)
    assert cache.read_bytes() == whole


def test_cache_with_columns_missing_or_of_wrong_length_is_rebuilt(toy, caplog):
    expected = _index(toy)
    (cache,) = (toy / "cache").iterdir()
    with np.load(cache) as file:
        columns = {key: file[key] for key in file.files}
    for changes in ({"boxes": columns["boxes"][:1]}, {"boxes": None}):
        kept = {key: value for key, value in (columns | changes).items() if value is not None}
        with open(cache, "wb") as file:
            np.savez(file, **kept)
        caplog.clear()
        np.testing.assert_array_equal(_index(toy).boxes, expected.boxes)
        assert "damaged annotation cache" in caplog.text


def test_cache_folder_that_cannot_be_written_is_no_error(toy, caplog):
    (toy / "cache").write_text("a file where the folder should be")
    assert _index(toy).num_frames == 4
    assert "cannot be written" in caplog.text


def test_missing_image_and_broken_annotation_name_the_line(toy):
    (toy / "Data/VID/train/a/000002.JPEG").unlink()
    with pytest.raises(DatasetError, match=r"VID_train\.txt:2: no image .*Data/VID/train/a/000002\.JPEG"):
        _index(toy)
    (toy / "Annotations/VID/train/a/000000.xml").write_text("<annotation>")
    with pytest.raises(DatasetError, match=r"VID_train\.txt:1: .*000000\.xml: not valid XML"):
        _index(toy)
    (toy / "Annotations/VID/val/c/000001.xml").write_text("<annotation>")
    with pytest.raises(DatasetError, match=r"VID_val_videos\.txt:2: .*c/000001\.xml: not valid XML"):
        _ = ImageNetVID(toy, "VID_val_videos", IMAGENET_VID, toy / "cache").index
    assert not (toy / "cache").exists()


def test_many_files_are_parsed_by_processes_in_order(tmp_path, monkeypatch):
    monkeypatch.setattr(index_cache, "_CHUNK", 2)
    monkeypatch.setattr(index_cache.os, "sched_getaffinity", lambda pid: {0, 1})
    stems = [f"train/s/{i:03d}" for i in range(19)]
    for i, stem in enumerate(stems):
        write_frame(tmp_path, f"DET/{stem}", [(f"n{i}", (i, 0, 40, 40))] * (i % 3))
    write_list(tmp_path, "DET_x", [f"{stem} 1" for stem in stems])
    image_set = load_image_set(tmp_path, "DET_x")
    found = index_cache.load_index(image_set, stems, image_set.lines, tmp_path / "cache", "frames")
    expected = AnnotationIndex.of([read_annotation(image_set.annotation_path(stem)) for stem in stems])
    for name in vars(expected):
        np.testing.assert_array_equal(getattr(found, name), getattr(expected, name), err_msg=name)
    (tmp_path / "Annotations/DET/train/s/011.xml").write_text("rubbish")
    with pytest.raises(DatasetError, match=r"DET_x\.txt:12: .*011\.xml: not valid XML"):
        index_cache.load_index(image_set, stems, image_set.lines, tmp_path / "cache", "frames")
