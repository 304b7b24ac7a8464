"""tools/check_dataset.py: every fault that is put into a small data set is named, with its place and its reason."""

import json

import cv2
import numpy as np
import pytest

from lib.errors import InputError
from tests.data.toy_vid import AIRPLANE, BIRD, write_frame, write_list, write_toy, xml
from tools import check_dataset as tool


@pytest.fixture
def toy(tmp_path):
    return write_toy(tmp_path / "toy")


def run(root, *arguments, name=None):
    """Exit status, and (kind, end of the place, detail) of all findings; of image set `name` or of all."""
    out = root.parent / "check.json"
    status = tool.main(["--dataset-path", str(root), "--json", str(out), "--workers", "1", *map(str, arguments)])
    report = json.loads(out.read_text())
    sets = [entry for entry in report["image_sets"] if name in (None, entry["image_set"])]
    findings = [finding for entry in sets for finding in entry["findings"]]
    assert status == (1 if any(f["wrong"] for e in report["image_sets"] for f in e["findings"]) else 0)
    return status, sets, [(f["kind"], f["place"].rpartition("toy/")[2], f["detail"]) for f in findings]


def wrong_ones(root, *arguments):
    status, _, findings = run(root, *arguments)
    assert status == 1
    return [finding for finding in findings if finding[0] in tool.WRONG]


def test_a_sound_data_set_is_counted_and_what_is_left_out_is_named(toy, capsys):
    status, sets, findings = run(toy, "--images")
    assert status == 0
    assert [entry["image_set"] for entry in sets] == ["DET_train", "VID_train", "VID_val_frames", "VID_val_videos"]
    assert sets[0]["classes"] == {"airplane": {"frames": 1, "objects": 1}, "bird": {"frames": 1, "objects": 1}}
    assert (sets[1]["frames"], sets[1]["videos"], sets[3]["frames"], sets[3]["videos"]) == (4, None, 5, 2)
    assert findings[0] == (
        "unknown class",
        "Annotations/DET/train/s/two.xml",
        "object 2, unknown, (0, 0, 9, 9) in 64x48",
    )
    assert (
        "clipped box",
        "Annotations/VID/val/c/000000.xml",
        "object 2, n02691156, (2, 2, 70, 50) in 64x48",
    ) in findings
    assert ("no object", "Annotations/VID/val/b/000002.xml", "no object at all") in findings
    assert "nothing is wrong" in capsys.readouterr().out


def test_motion_is_counted_where_all_objects_have_tracks(toy):
    for i in range(3):
        objects = [
            (AIRPLANE, (0, 0, 19, 19), "<trackid>1</trackid>"),
            (BIRD, (9 * i, 0, 9 * i + 9, 9), "<trackid>2</trackid>"),
        ]
        write_frame(toy, f"VID/val/m/{i:06d}", objects)
    write_list(toy, "VID_val_moving", ["val/m 1 0 3"])
    _, (entry,), _ = run(toy, "--image-set", "VID_val_moving")
    assert entry["classes"] == {
        "airplane": {"frames": 3, "objects": 3, "fast": 0, "medium": 0, "slow": 3},
        "bird": {"frames": 3, "objects": 3, "fast": 3, "medium": 0, "slow": 0},
    }


def test_annotations_that_are_missing_or_broken(toy):
    (toy / "Annotations/VID/val/b/000001.xml").unlink()
    (toy / "Annotations/VID/val/c/000000.xml").write_text("<annotation><size>")
    (toy / "Annotations/VID/val/c/000001.xml").write_text(xml([(AIRPLANE, ("x", 0, 9, 9))]))
    found = wrong_ones(toy, "--image-set", "VID_val_videos")
    assert [(kind, place) for kind, place, _ in found] == [
        ("no annotation", "Annotations/VID/val/b/000001.xml"),
        ("bad annotation", "Annotations/VID/val/c/000000.xml"),
        ("bad annotation", "Annotations/VID/val/c/000001.xml"),
    ]
    assert [
        reason in detail
        for reason, (_, _, detail) in zip(("No such file", "not valid XML", "object 1"), found, strict=True)
    ]
    _, _, findings = run(toy, "--image-set", "VID_val_videos")
    assert [place for kind, place, _ in findings if kind == "no object"] == ["Annotations/VID/val/b/000002.xml"]


def test_images_that_are_missing_broken_or_of_another_size(toy):
    (toy / "Data/DET/train/s/one.JPEG").unlink()
    (toy / "Data/VID/val/b/000000.JPEG").write_bytes(b"no image")
    cv2.imwrite(str(toy / "Data/VID/val/c/000001.JPEG"), np.zeros((20, 30, 3), np.uint8), [])
    found = wrong_ones(toy, "--images", "--image-set", "DET_train", "VID_val_videos")
    assert found == [
        ("no image", "Data/DET/train/s/one.JPEG", "no such file"),
        ("bad image", "Data/VID/val/b/000000.JPEG", "not a readable image (8 bytes); replace the file"),
        ("image size", "Data/VID/val/c/000001.JPEG", "30x20 pixels, but 64x48 in the annotation"),
    ]
    # Without --images only what is missing shows, and with --annotations-only not even that
    assert wrong_ones(toy, "--image-set", "DET_train", "VID_val_videos") == found[:1]
    assert run(toy, "--annotations-only", "--image-set", "DET_train", "VID_val_videos")[0] == 0


def test_videos_with_gaps_and_of_another_length(toy):
    (toy / "Data/VID/train/a/000001.JPEG").unlink()  # no list line names it, but it may be a reference
    (toy / "Data/VID/val/c/000001.JPEG").unlink()
    write_frame(toy, "VID/val/b/000003")
    found = wrong_ones(toy, "--image-set", "VID_train", "VID_val_videos")
    assert [(kind, place) for kind, place, _ in found] == [
        ("gap", "Data/VID/train/a/000001.JPEG"),
        ("length", "Data/VID/train/a"),
        ("length", "Data/VID/val/b"),
        ("no image", "Data/VID/val/c/000001.JPEG"),
        ("length", "Data/VID/val/c"),
    ]
    assert "the list says 3 frames" in found[2][2]
    assert found[2][2].endswith("VID_val_videos.txt:1), the folder has 4")


def test_boxes_that_are_impossible(toy):
    boxes = [(5, 5, 4, 9), (70, 0, 80, 9), (-9, 0, -1, 9), (-3, 0, 9, 9)]
    write_frame(toy, "VID/val/b/000000", [(AIRPLANE, box, "<trackid>1</trackid>") for box in boxes])
    found = wrong_ones(toy, "--image-set", "VID_val_videos")
    assert [(kind, place) for kind, place, _ in found] == [("impossible box", "Annotations/VID/val/b/000000.xml")] * 3
    assert [detail for _, _, detail in found] == [
        "object 1, n02691156, (5, 5, 4, 9) in 64x48",
        "object 2, n02691156, (70, 0, 80, 9) in 64x48",
        "object 3, n02691156, (-9, 0, -1, 9) in 64x48",
    ]


def test_a_list_without_one_object_of_the_class_list_is_wrong(toy, capsys):
    (toy / "classes.txt").write_text("N02691156 airplane\nTruck\n")
    status, sets, findings = run(toy, "--image-set", "VID_train")
    assert status == 1
    assert (sets[0]["classes"], sets[0]["classes_without_objects"]) == ({}, ["airplane", "Truck"])
    assert [finding for finding in findings if finding[0] in ("nothing usable", "similar name")] == [
        (
            "similar name",
            "ImageSets/VID_train.txt",
            "4 x 'n02691156': did you mean 'N02691156'? Class list and annotations must agree letter by letter",
        ),
        (
            "nothing usable",
            "ImageSets/VID_train.txt",
            "its objects are named 'n02691156', and the class list has 'N02691156', 'Truck': correct classes.txt or "
            "--classes",
        ),
    ]
    printed = capsys.readouterr().out
    assert "0 of 2 classes; no object of airplane, Truck" in printed
    assert "nothing is wrong" not in printed


def test_a_list_whose_frames_have_no_object_or_none_in_its_image_is_wrong(toy):
    for number, objects in enumerate(([], [(AIRPLANE, (70, 0, 80, 9))])):
        write_frame(toy, f"DET/train/e/{number}", objects)
        write_list(toy, f"DET_{number}", [f"train/e/{number} 1"])
    found = wrong_ones(toy, "--image-set", "DET_0", "DET_1")
    assert [detail for kind, _, detail in found if kind == "nothing usable"] == [
        "no annotation file of it has an object",
        "none of its boxes lies in its image",
    ]


def test_annotation_files_that_are_all_missing_are_what_is_wrong(toy):
    (toy / "Annotations/DET/train/s/one.xml").unlink()
    write_list(toy, "DET_one", ["train/s/one 1"])
    assert [kind for kind, _, _ in wrong_ones(toy, "--image-set", "DET_one")] == ["no annotation"]


@pytest.mark.parametrize("name", ["Airplane", "air_plane", "air plane", "N02691156"])
def test_a_name_that_is_nearly_a_class_is_asked_about_and_no_error_beside_usable_ones(toy, name, capsys):
    write_frame(toy, "DET/train/s/two", [(name, (5, 6, 20, 21)), ("boat", (0, 0, 9, 9))])
    status, sets, findings = run(toy, "--image-set", "DET_train")
    assert (status, sets[0]["counts"]) == (0, {"similar name": 1, "unknown class": 2, "no object": 1})
    assert f"1 x '{name}': did you mean 'n02691156'?" in next(d for kind, _, d in findings if kind == "similar name")
    assert capsys.readouterr().out.splitlines()[-1].startswith("nothing is wrong, but look at the names")


def test_lists_that_are_wrong(toy):
    write_list(toy, "VID_a", ["val/b 1 0 3", "val/c 9 0 2", "val/none 6 0 2"])
    write_list(toy, "VID_b", ["val/b 1 0"])
    write_list(toy, "VID_c", ["train/a 1 1 6", "train/a 1 2 7", "train/a 1 1 6"])
    found = wrong_ones(toy, "--image-set", "VID_a", "VID_b", "VID_c", "VID_none")
    by_kind = {kind: [(place, detail) for k, place, detail in found if k == kind] for kind, _, _ in found}
    assert by_kind["first id"] == [("ImageSets/VID_a.txt:2", "9 instead of 4")]
    assert [place for place, _ in by_kind["no image"]] == ["Data/VID/val/none"]
    assert [place for place, _ in by_kind["no annotation"]] == [
        f"Annotations/VID/val/none/{i:06d}.xml" for i in range(2)
    ]
    assert [place for place, _ in by_kind["list"]] == ["VID_b", "VID_none"]
    assert "VID_b.txt:1: 3 columns" in by_kind["list"][0][1]
    assert by_kind["length"] == [("ImageSets/VID_c.txt:2", "train/a: 7 frames, but 6 in line 1")]
    _, _, findings = run(toy, "--image-set", "VID_c")
    assert ("repeated", "ImageSets/VID_c.txt:3", "train/a, as in line 1") in findings


def test_processes_do_not_change_what_is_found(toy, monkeypatch):
    monkeypatch.setattr("lib.data.dataset_check._CHUNK", 2)
    (toy / "Annotations/VID/val/b/000001.xml").unlink()
    assert run(toy, "--workers", 1)[1:] == run(toy, "--workers", 2)[1:]


def test_only_some_of_many_are_printed_and_no_data_set_is_said(toy, tmp_path, capsys):
    for i in range(3):
        (toy / f"Annotations/VID/val/b/{i:06d}.xml").unlink()
    run(toy, "--show", 1, "--image-set", "VID_val_videos")
    printed = capsys.readouterr().out
    assert "WRONG: 3 x annotation file that is missing" in printed
    assert printed.count("b/00000") == 1
    assert "and 2 more (--show 0 shows all)" in printed
    assert "3 things are wrong" in printed
    with pytest.raises(InputError, match="is '.*none' the folder of a data set"):
        run(tmp_path / "none")
