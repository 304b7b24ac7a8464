"""Frames of any image type and any names: found in natural order, trained on, tested on and checked like ImageNet's."""

from __future__ import annotations

from pathlib import Path

import cv2
import pytest

from lib.data.classes import IMAGENET_VID
from lib.data.dataset_check import check_image_set
from lib.data.frame_files import FrameFiles, FrameFilesError
from lib.data.image_set_making import find_videos, frame_lines
from lib.data.image_sets import DatasetError, load_image_set
from lib.data.imagenet_vid import ImageNetVID
from lib.data.loader import TrainingSet
from lib.data.roidb import load_roidb
from lib.data.sampling import one_reference
from lib.data.transforms import Preprocessing
from tests.data.toy_vid import AIRPLANE, picture, write_list, xml

NAMES = ["shot9.png", "shot10.bmp", "shot011.png", "shot12.jpg", "Shot100.PNG"]  # in natural order
PREPROCESSING = Preprocessing(48, 100, (0.0, 0.0, 0.0))


def write_video(root: Path, folder: str, names: list[str]) -> None:
    """Frame i has a picture of its own and one box from (i, 1) to (i + 20, 30)."""
    for tree in ("Data", "Annotations"):
        (root / tree / "VID" / folder).mkdir(parents=True)
    for i, name in enumerate(names):
        path = root / "Data" / "VID" / folder / name
        path.write_bytes(cv2.imencode(path.suffix.lower(), picture(f"{i}"))[1].tobytes())
        objects = [(AIRPLANE, (i, 1, i + 20, 30), "<trackid>0</trackid>")]
        (root / "Annotations" / "VID" / folder / name).with_suffix(".xml").write_text(xml(objects))


@pytest.fixture
def own(tmp_path):
    """Two videos whose frames have other names and types than ImageNet VID's."""
    write_video(tmp_path, "train/a", NAMES)
    write_video(tmp_path, "val/b", ["2.png", "1.tif", "10.webp"])  # written with boxes 0, 1 and 2
    for folder in ("train/a", "val/b"):
        (tmp_path / "Data/VID" / folder / "._1.png").write_bytes(b"left by a Mac")
        (tmp_path / "Data/VID" / folder / "notes.txt").write_text("no image")
    write_list(tmp_path, "VID_train", [f"train/a 1 {i} 5" for i in (0, 3, 4)])
    write_list(tmp_path, "VID_val_videos", ["val/b 1 0 3"])
    return tmp_path


def test_the_lists_are_made_in_natural_order(own):
    train, val = find_videos(own, "train"), find_videos(own, "val")
    assert train == {"train/a": [f"train/a/{name.rpartition('.')[0]}" for name in NAMES]}
    assert list(frame_lines(val)) == ["val/b/1 1", "val/b/2 2", "val/b/10 3"]
    for image in (own / "Data").rglob("*.*"):
        image.unlink()
    (own / "Data/VID/train/a").rmdir()
    (own / "Data/VID/train").rmdir()
    assert find_videos(own, "train") == train, "from the annotations"


@pytest.mark.parametrize("name", ["VID_val_videos", "frames"])
def test_testing_reads_them_in_natural_order_with_their_boxes(own, name):
    write_list(own, "frames", ["val/b/1 1", "val/b/2 2", "val/b/10 3"])
    dataset = ImageNetVID(own, name, IMAGENET_VID, own / "cache")
    assert [Path(path).name for path in dataset.frame_paths()] == ["1.tif", "2.png", "10.webp"]
    assert dataset.ground_truth().boxes[:, 0].tolist() == [1, 0, 2]
    frames = list(dataset.videos()[0].frames(PREPROCESSING))
    assert [frame.name for frame in frames] == ["1", "2", "10"]
    for frame, i in zip(frames[:2], (1, 0), strict=True):  # without loss
        assert (frame.image.numpy() == picture(f"{i}")[:, :, ::-1].transpose(2, 0, 1)).all()


def test_evaluation_needs_no_images(own):
    before = ImageNetVID(own, "VID_val_videos", IMAGENET_VID, own / "cache").ground_truth()
    for image in (own / "Data/VID/val/b").iterdir():
        image.unlink()
    after = ImageNetVID(own, "VID_val_videos", IMAGENET_VID, own / "other_cache").ground_truth()
    assert (after.boxes == before.boxes).all()


def test_training_reads_frames_and_references(own):
    roidb = load_roidb(own, "VID_train", IMAGENET_VID, own / "cache", flip=False)
    assert [Path(roidb.image_path(2, frame)).name for frame in range(5)] == NAMES
    assert roidb.boxes[:, 0].tolist() == [0, 3, 4]
    training = TrainingSet(roidb, PREPROCESSING, one_reference)
    images = [cv2.imread(str(own / "Data/VID/train/a" / name))[:, :, ::-1].transpose(2, 0, 1) for name in NAMES]
    for entry, number in ((0, 0), (1, 3), (2, 4)):
        for epoch in range(3):
            frame, reference = training[epoch, entry].frames[0].numpy()
            assert (frame == images[number]).all()
            assert any((reference == image).all() for image in images[: number + 1])


def test_stills_of_any_type(own):
    folders = [own / tree / "DET/train/s" for tree in ("Data", "Annotations")]
    for folder in folders:
        folder.mkdir(parents=True)
    for name in ("one.png", "two.JPEG", "three.jpg"):
        path = folders[0] / name
        path.write_bytes(cv2.imencode(path.suffix.lower().replace("jpeg", "jpg"), picture(name))[1].tobytes())
        (folders[1] / f"{path.stem}.xml").write_text(xml([(AIRPLANE, (1, 2, 30, 40))]))
    write_list(own, "DET_train", ["train/s/one 1", "train/s/two 1", "train/s/three 1"])
    roidb = load_roidb(own, "DET_train", IMAGENET_VID, own / "cache", flip=False)
    assert [Path(roidb.image_path(i, 0)).name for i in range(3)] == ["one.png", "two.JPEG", "three.jpg"]
    check = check_image_set(own, "DET_train", IMAGENET_VID, decode=True)
    assert check.findings == []


def test_two_images_of_one_name_are_named(own):
    (own / "Data/VID/val/b/2.jpg").write_bytes(b"")
    with pytest.raises(FrameFilesError, match=r"val/b: 2\.jpg and 2\.png have one name; remove or rename"):
        ImageNetVID(own, "VID_val_videos", IMAGENET_VID, own / "cache")


def test_a_list_of_another_length_is_named_with_its_line(own):
    write_list(own, "VID_val_videos", ["val/b 1 0 4"])
    with pytest.raises(DatasetError, match=r"VID_val_videos\.txt:1: says that val/b has 4 frames, but it has 3"):
        ImageNetVID(own, "VID_val_videos", IMAGENET_VID, own / "cache")
    check = check_image_set(own, "VID_val_videos", IMAGENET_VID, decode=True)
    assert [(finding.kind, finding.wrong) for finding in check.findings] == [("length", True)]


def test_the_check_finds_nothing_wrong_and_what_is(own):
    for name, frames in (("VID_train", 3), ("VID_val_videos", 3)):
        check = check_image_set(own, name, IMAGENET_VID, decode=True)
        assert (check.findings, check.frames) == ([], frames)
    (own / "Data/VID/val/b/10.webp").write_bytes(b"rubbish")
    (finding,) = check_image_set(own, "VID_val_videos", IMAGENET_VID, decode=True).findings
    assert finding.kind == "bad image"
    assert finding.place.endswith("val/b/10.webp")


def test_names_of_imagenet_need_no_listing(toy, monkeypatch):
    """A data set of 5,000 folders on a network disk is not listed."""
    monkeypatch.setattr("lib.data.frame_files.os.scandir", None)
    image_set = load_image_set(toy, "VID_val_videos")
    assert list(image_set.frame_stems("val/b", 3, 1)) == [f"val/b/{i:06d}" for i in range(3)]
    assert image_set.image_path("val/b/000002").endswith("Data/VID/val/b/000002.JPEG")


def test_a_missing_image_is_named_as_the_usual_one(tmp_path):
    assert FrameFiles().image(str(tmp_path / "a" / "b")) == str(tmp_path / "a" / "b.JPEG")


def test_a_folder_with_blanks_cannot_be_listed(own):
    (own / "Data/VID/val/b").rename(own / "Data/VID/val/my video")
    with pytest.raises(DatasetError, match="my video: a list cannot hold a path with blanks; rename the folder"):
        find_videos(own, "val")
