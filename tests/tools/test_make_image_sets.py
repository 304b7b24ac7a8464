"""tools/make_image_sets.py: the published lists come out of a stand-in for the files they were made from."""

from pathlib import Path

import pytest

from lib.data.classes import IMAGENET_VID
from lib.data.image_set_making import find_videos
from lib.errors import InputError
from tests.data.toy_vid import AIRPLANE, BIRD, write_toy, xml
from tools import make_image_sets as tool

PUBLISHED = Path(__file__).resolve().parents[3] / "shared" / "data" / "ImageSets"


def published(name):
    path = PUBLISHED / f"{name}.txt"
    if not path.is_file():
        pytest.skip(f"needs the published list {name}, which is not on this machine")
    return path.read_text().splitlines()


def lists(folder):
    return {path.stem: path.read_text().splitlines() for path in folder.glob("*.txt")}


def test_stills_are_the_published_ones(tmp_path):
    """Two whole classes of the list, one of them cut off at 2,000 images, and one that shares images with it."""
    lines = published("DET_train_30classes")
    starts = [0, *(i for i in range(1, len(lines)) if "2014_train" in lines[i] and "2013_train" in lines[i - 1])]
    sections = {  # of each class, in label order
        name: lines[start:end]
        for name, start, end in zip(IMAGENET_VID.annotation_names, starts, [*starts[1:], len(lines)], strict=True)
    }
    chosen = ["n02119789", "n02342885", "n02118333", "n02510455"]  # no class, hamster, fox (2,000), giant panda
    names = {}
    for name in chosen[1:]:
        for line in sections[name]:
            names.setdefault(line.split()[0], []).append(name)
    names["train/ILSVRC2013_train/n02120997/n02120997_1"] = ["n02118333"]  # one more fox than the list may have
    names["train/ILSVRC2014_train_0000/none"] = ["n02119789"]
    for stem, found in names.items():
        path = tmp_path / "Annotations" / "DET" / f"{stem}.xml"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(xml([(name, (0, 0, 9, 9)) for name in found * 2]))
    tool.main(["--dataset-path", str(tmp_path)])
    made = lists(tmp_path / "ImageSets")
    assert list(made) == ["DET_train_30classes"]
    assert len(sections["n02118333"]) == 2000
    wanted = sections["n02118333"] + sections["n02510455"] + sections["n02342885"]  # in label order
    assert made["DET_train_30classes"] == wanted
    tool.main(["--dataset-path", str(tmp_path), "--out", str(tmp_path / "all"), "--stills-per-class", "0"])
    assert len(lists(tmp_path / "all")["DET_train_30classes"]) == len(wanted) + 1


def test_all_four_lists_of_a_small_data_set(tmp_path, capsys):
    root = write_toy(tmp_path / "toy")
    tool.main(["--dataset-path", str(root), "--out", str(tmp_path / "out"), "--frames-per-video", "3"])
    made = lists(tmp_path / "out")
    assert made == {
        "DET_train_30classes": ["train/s/one 1", "train/s/two 1"],
        "VID_train_15frames": ["train/a 1 1 6", "train/a 1 3 6", "train/a 1 5 6"],
        "VID_val_videos": ["val/b 1 0 3", "val/c 4 0 2"],
        "VID_val_frames": ["val/b/000000 1", "val/b/000001 2", "val/b/000002 3", "val/c/000000 4", "val/c/000001 5"],
    }
    assert made["VID_val_videos"] == lists(root / "ImageSets")["VID_val_videos"]
    assert "VID_val_frames.txt: 5 lines" in capsys.readouterr().out


def test_an_image_of_two_classes_is_there_twice_and_workers_do_not_matter(tmp_path):
    folder = tmp_path / "Annotations" / "DET" / "train" / "x"
    folder.mkdir(parents=True)
    for i, names in enumerate([(BIRD,), (BIRD, AIRPLANE), ("other",), (AIRPLANE,)]):
        (folder / f"{i}.xml").write_text(xml([(name, (0, 0, 9, 9)) for name in names]))
    for workers in ("1", "2"):
        tool.main(["--dataset-path", str(tmp_path), "--out", str(tmp_path / workers), "--workers", workers])
        made = lists(tmp_path / workers)["DET_train_30classes"]
        assert made == ["train/x/1 1", "train/x/3 1", "train/x/0 1", "train/x/1 1"]


def test_annotations_alone_will_do_and_only_what_is_asked_for_is_made(tmp_path):
    root = write_toy(tmp_path / "toy")
    (root / "Data").rename(tmp_path / "elsewhere")
    lengths = {name: len(stems) for name, stems in find_videos(root, "val").items()}
    assert lengths == {"val/b": 3, "val/c": 2}
    tool.main(["--dataset-path", str(root), "--out", str(tmp_path / "out"), "--only", "VID_val_videos"])
    assert list(lists(tmp_path / "out")) == ["VID_val_videos"]


def test_what_cannot_be_used_is_said(tmp_path):
    root = write_toy(tmp_path / "toy")
    with pytest.raises(InputError, match=r"VID_val_videos.txt: is there already; --overwrite"):
        tool.main(["--dataset-path", str(root)])
    (root / "Data/VID/val/b/000001.JPEG").unlink()
    before = lists(root / "ImageSets")
    with pytest.raises(InputError, match=r"val/b: has 000002.JPEG where 000001.JPEG should be"):
        tool.main(["--dataset-path", str(root), "--overwrite", "--only", "VID_val_videos"])
    assert lists(root / "ImageSets") == before
    with pytest.raises(InputError, match="has no folder VID/train below Data or Annotations"):
        tool.main(["--dataset-path", str(tmp_path / "none"), "--only", "VID_train_15frames"])
    taken = str(root / "ImageSets" / "VID_val_videos.txt")
    with pytest.raises(InputError, match=r"VID_val_videos.txt: cannot be written"):
        tool.main(["--dataset-path", str(root), "--out", taken, "--only", "VID_val_videos"])
    (root / "Annotations/DET/train/s/one.xml").write_text("<annotation>")
    with pytest.raises(InputError, match=r"one.xml: not valid XML"):
        tool.main(["--dataset-path", str(root), "--overwrite", "--only", "DET_train_30classes"])
