"""tools/import_dataset.py: boxes come through unchanged from every source, and a mistake leaves nothing behind."""

from __future__ import annotations

import csv
import json
import os
from pathlib import Path

import cv2
import numpy as np
import pytest

from lib.data.classes import load_classes
from lib.data.dataset_check import check_image_set, find_image_sets
from lib.data.imagenet_vid import ImageNetVID
from lib.data.roidb import load_roidb
from lib.errors import InputError
from tests.data.toy_vid import write_clip, write_toy
from tools import evaluate, export_coco
from tools import import_dataset as tool

DETECTIONS = """\
1 5 0.9000 0.11 0.23 9.07 9.91
1 1 0.8000 2.00 2.00 60.00 46.00
2 5 0.1234 1.00 1.00 10.00 10.00
2 5 0.4321 9.00 9.00 20.00 20.00
4 5 0.7000 0.00 0.00 7.00 7.00
5 1 0.5000 0.00 0.00 63.00 47.00
"""


def evaluated(root: Path, results: Path, image_set: str = "VID_val_videos") -> dict:
    """The figures of `results` on the data set at `root`, without the names of files."""
    out = root / "figures.json"
    arguments = ["--dataset-path", root, "--image-set", image_set, "--results", results, "--json", out]
    evaluate.main([*map(str, arguments), "--cache", str(root / "cache"), "--coco"])
    content = json.loads(out.read_text())
    return {key: value for key, value in content.items() if key not in ("files", "results", "made_with")}


def ground_truth(root: Path, image_set: str = "VID_val_videos"):
    return ImageNetVID(root, image_set, load_classes("", root), root / "cache").ground_truth()


@pytest.fixture
def toy(tmp_path):
    """The toy data set, exported as COCO-VID JSON to `coco/ground_truth.json`."""
    root = write_toy(tmp_path / "toy")
    arguments = ["--dataset-path", root, "--out", tmp_path / "coco", "--cache", tmp_path / "cache"]
    export_coco.main([str(argument) for argument in arguments])
    return root


def test_a_round_trip_through_coco_gives_the_same_boxes_and_ap(toy, tmp_path, capsys):
    out = tmp_path / "mine"
    frames = toy / "Data/VID"
    tool.main(["--val", str(tmp_path / "coco/ground_truth.json"), "--frames", str(frames), "--out", str(out)])
    before, after = ground_truth(toy), ground_truth(out)
    assert after.class_names == before.class_names
    for column in ("videos", "offsets", "boxes", "labels", "track_ids"):
        np.testing.assert_array_equal(getattr(after, column), getattr(before, column), column)
    assert (out / "ImageSets/VID_val_videos.txt").read_text() == (toy / "ImageSets/VID_val_videos.txt").read_text()
    for video, frame in (("b", 2), ("c", 0)):
        name = f"Data/VID/val/{video}/{frame:06d}.JPEG"
        assert os.path.samefile(out / name, toy / name), "a hard link"
    (tmp_path / "run.txt").write_text(DETECTIONS)
    assert evaluated(out, tmp_path / "run.txt") == evaluated(toy, tmp_path / "run.txt")
    again = ["--dataset-path", out, "--out", tmp_path / "again", "--cache", tmp_path / "cache"]
    export_coco.main([str(argument) for argument in again])
    exported = [json.loads((tmp_path / name / "ground_truth.json").read_text()) for name in ("coco", "again")]
    assert exported[0] == exported[1]
    assert "2 videos, 0 stills, 5 frames of which 1 show no object" in capsys.readouterr().out


def write_sources(folder: Path) -> dict[str, list[str]]:
    """The same boxes of two videos as CSV in each convention, COCO and YOLO; name -> the arguments that import them."""
    rng = np.random.default_rng(0)
    rows, annotations, images = [], [], []
    for video in ("a", "b"):
        for place in ("images", "labels"):
            (folder / place / video).mkdir(parents=True)
        for frame in range(4):
            name = f"shot_{frame + 7}.png"
            cv2.imwrite(str(folder / "images" / video / name), rng.integers(0, 255, (48, 64, 3), np.uint8))
            images.append(
                {"id": len(images), "video_id": ord(video), "frame_id": frame, "file_name": f"{video}/{name}"}
            )
            lines = []
            for track in range(2):
                x1, y1 = rng.integers(0, 20, 2).tolist()
                x2, y2 = x1 + int(rng.integers(1, 40)), y1 + int(rng.integers(1, 25))
                rows.append((video, name, ("car", "traffic light")[track], x1, y1, x2, y2, track))
                bbox = [x1, y1, x2 - x1 + 1, y2 - y1 + 1]
                annotation = {"image_id": images[-1]["id"], "category_id": track, "bbox": bbox, "instance_id": track}
                annotations.append(annotation)
                shares = ((x1 + x2 + 1) / 128, (y1 + y2 + 1) / 96, bbox[2] / 64, bbox[3] / 48)
                lines.append(f"{track} {' '.join(f'{value:.6f}' for value in shares)} {track}\n")
            (folder / "labels" / video / f"shot_{frame + 7}.txt").write_text("".join(lines))
    made = {}
    for convention, less in (("0-inclusive", (0, 0)), ("1-inclusive", (1, 1)), ("0-exclusive", (0, 1))):
        path = folder / f"{convention}.csv"
        with open(path, "w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["video", "frame", "label", "x1", "y1", "x2", "y2", "track"])
            for video, name, label, x1, y1, x2, y2, track in rows:
                corners = (x1 + less[0], y1 + less[0], x2 + less[1], y2 + less[1])
                writer.writerow((video, name, label, *corners, track))
        made[convention] = [str(path), "--frames", str(folder / "images"), "--convention", convention]
    coco = {
        "videos": [{"id": ord(name), "name": name} for name in ("a", "b")],
        "images": images,
        "annotations": annotations,
        "categories": [{"id": 0, "name": "car"}, {"id": 1, "name": "traffic light"}],
    }
    (folder / "boxes.json").write_text(json.dumps(coco))
    made["coco"] = [str(folder / "boxes.json"), "--frames", str(folder / "images")]
    (folder / "data.yaml").write_text("names: [car, traffic light]\ntrain: images\nval: images\n")
    made["yolo"] = [str(folder / "data.yaml")]
    made["expected"] = [(label, (x1, y1, x2, y2), track) for _, _, label, x1, y1, x2, y2, track in rows]
    return made


def test_all_sources_of_the_same_boxes_give_the_same_data_set(tmp_path):
    sources = write_sources(tmp_path / "source")
    expected = sources.pop("expected")
    written = {}
    for kind, arguments in sources.items():
        out = tmp_path / kind
        tool.main(["--val", *arguments, "--out", str(out)])
        truth = ground_truth(out)
        assert [truth.class_names[label - 1] for label in truth.labels] == [label for label, _, _ in expected], kind
        np.testing.assert_array_equal(truth.boxes, [box for _, box, _ in expected], kind)
        assert truth.track_ids.tolist() == [track for _, _, track in expected], kind
        files = sorted(path for path in out.rglob("*") if path.is_file() and "cache" not in path.parts)
        written[kind] = {path.relative_to(out).as_posix(): path.read_bytes() for path in files}
        assert written[kind] == written["0-inclusive"], kind
    assert written["coco"]["classes.txt"] == b"car\ntraffic_light traffic light\n"
    assert "Data/VID/val/a/000003.png" in written["coco"]


@pytest.mark.parametrize("portion", ["0.01", "0.5", "1"])
def test_what_is_imported_is_ready_to_train_and_test_on(tmp_path, portion):
    arguments = write_sources(tmp_path / "source")["coco"]
    out = tmp_path / "mine"
    tool.main(["--train", *arguments, "--out", str(out), "--val-share", portion, "--frames-per-video", "2"])
    classes = load_classes("", out)
    assert find_image_sets(out) == ["VID_train_15frames", "VID_val_videos"]
    assert (out / "ImageSets/VID_val_videos.txt").read_text() == "val/b 1 0 4\n"
    assert (out / "ImageSets/VID_train_15frames.txt").read_text() == "train/a 1 1 4\ntrain/a 1 3 4\n"
    for name in find_image_sets(out):
        assert [finding for finding in check_image_set(out, name, classes, decode=True).findings if finding.wrong] == []
    roidb = load_roidb(out, "VID_train_15frames", classes, out / "cache", flip=False)
    assert len(roidb.boxes) == 4
    image = cv2.imread(roidb.image_path(1, 3))
    np.testing.assert_array_equal(image, cv2.imread(str(tmp_path / "source/images/a/shot_10.png")))


def test_training_frames_are_chosen_among_those_with_boxes(tmp_path):
    (tmp_path / "v").mkdir()
    for i in range(10):
        cv2.imwrite(str(tmp_path / "v" / f"{i}.png"), np.zeros((48, 64, 3), np.uint8))
    (tmp_path / "v.csv").write_text("frame,label,x1,y1,x2,y2\n2,car,1,1,9,9\n7,car,1,1,9,9\n")
    tool.main(["--train", str(tmp_path / "v.csv"), "--frames", str(tmp_path / "v"), "--out", str(tmp_path / "out")])
    assert (tmp_path / "out/ImageSets/VID_train_15frames.txt").read_text() == "train/v 1 2 10\ntrain/v 1 7 10\n"


def test_a_video_file_and_a_folder_of_csv_files(tmp_path):
    videos, boxes = tmp_path / "videos", tmp_path / "boxes"
    for place in (videos, boxes):
        place.mkdir()
    for name in ("day one", "night"):
        write_clip(videos / f"{name}.mp4", [0, 120, 240])
        (boxes / f"{name}.csv").write_text("frame,label,x1,y1,x2,y2,track\n1,car,1,1,9,9,left\n2,car,2,1,9,9,left\n")
    tool.main(["--train", str(boxes), "--frames", str(videos), "--val-share", "0.5", "--out", str(tmp_path / "out")])
    folder = tmp_path / "out/Data/VID/train/day_one"
    assert [round(cv2.imread(str(path)).mean() / 120) for path in sorted(folder.iterdir())] == [0, 1, 2]
    assert ground_truth(tmp_path / "out").track_ids.tolist() == [0, 0]
    (boxes / "night.csv").write_text("frame,label,x1,y1,x2,y2\n3,car,1,1,9,9\n")
    with pytest.raises(InputError, match=r"night\.csv:2: the frame is not in the video: .*night\.mp4 has 3 frames"):
        tool.main(["--train", str(boxes), "--frames", str(videos), "--out", str(tmp_path / "other")])
    assert not any("other" in path.name for path in tmp_path.iterdir())


def test_images_without_a_video_are_stills(tmp_path):
    (tmp_path / "images").mkdir()
    for split, names in (("train", "wx"), ("val", "yz")):
        for name in names:
            cv2.imwrite(str(tmp_path / "images" / f"{name}.png"), np.zeros((48, 64, 3), np.uint8))
        content = {
            "images": [{"id": i, "file_name": f"images/{name}.png"} for i, name in enumerate(names)],
            "annotations": [{"image_id": i, "category_id": 1, "bbox": [0, 0, 8, 8]} for i in range(2)],
            "categories": [{"id": 1, "name": "car"}],
        }
        (tmp_path / f"{split}.json").write_text(json.dumps(content))
    out = tmp_path / "out"
    tool.main(["--train", str(tmp_path / "train.json"), "--val", str(tmp_path / "val.json"), "--out", str(out)])
    assert find_image_sets(out) == ["DET_train_30classes", "DET_val"]
    roidb = load_roidb(out, "DET_train_30classes", load_classes("", out), tmp_path / "cache", flip=False)
    assert (len(roidb), roidb.boxes[0].tolist()) == (2, [0, 0, 7, 7])
    assert ground_truth(out, "DET_val").videos.tolist() == [0, 1]


def test_classes_in_the_order_that_is_asked_for(tmp_path):
    arguments = write_sources(tmp_path / "source")["0-inclusive"]
    (tmp_path / "classes.txt").write_text("light traffic light\nbus\ncar\n")
    out = tmp_path / "out"
    tool.main(["--train", *arguments, "--classes", str(tmp_path / "classes.txt"), "--out", str(out)])
    assert (out / "classes.txt").read_text() == "light traffic light\nbus\ncar\n"
    (tmp_path / "classes.txt").write_text("car\n")
    with pytest.raises(InputError, match=r"0-inclusive\.csv:3: class 'traffic light' is not among the classes \(car\)"):
        tool.main(["--train", *arguments, "--classes", str(tmp_path / "classes.txt"), "--out", str(tmp_path / "other")])


def failing(folder: Path, how: str) -> str:
    """Spoil the sources in `folder` in one way; what the message says."""
    image = folder / "images/b/shot_8.png"
    if how == "broken image":
        image.write_bytes(image.read_bytes()[:50])
        return "shot_8.png: "
    if how == "missing image":
        image.unlink()
        return "shot_8.png: no such image file"
    if how == "other size":
        cv2.imwrite(str(image), np.zeros((48, 60, 3), np.uint8))
        return "shot_8.png: has 60 x 48 pixels, but the first frame of its video 64 x 48; all frames"
    text = (folder / "boxes.json").read_text()
    content = json.loads(text)
    if how == "other size in the file":
        content["images"][6] |= {"width": 1, "height": 2}
        message = "boxes.json: image 6: says 1 x 2 pixels, but .*shot_9.png has 64 x 48; correct one"
    elif how == "box outside":
        content["annotations"][9]["bbox"][0] = 100
        message = r"boxes.json: annotations\[9\]: the box .* lies outside its image of 64x48 pixels"
    elif how == "class with a comment":
        content["categories"][0]["name"] = "car # red"
        message = "class 'car # red': a name needs letters that can be printed, and no #"
    elif how == "path upwards":
        content["videos"][1]["name"] = "../../b"
        message = "video '../../b': no name for a folder"
    else:
        content["videos"][1]["name"] = content["videos"][0]["name"]
        message = "video 'a': there are two of this name"
    (folder / "boxes.json").write_text(json.dumps(content))
    return message


@pytest.mark.parametrize(
    "how",
    ["broken image", "missing image", "other size", "other size in the file", "box outside", "class with a comment",
     "path upwards", "one name twice"],
)  # fmt: skip
def test_a_mistake_is_named_and_leaves_nothing_behind(tmp_path, how):
    arguments = write_sources(tmp_path / "source")["coco"]
    message = failing(tmp_path / "source", how)
    before = sorted(tmp_path.iterdir())
    with pytest.raises(InputError, match=message):
        tool.main(["--train", *arguments, "--out", str(tmp_path / "out")])
    assert sorted(tmp_path.iterdir()) == before


def test_an_interrupt_leaves_nothing_behind_and_a_kill_no_obstacle(tmp_path, monkeypatch):
    arguments = write_sources(tmp_path / "source")["coco"]
    (tmp_path / ".out.importing/data/Data").mkdir(parents=True)  # as a killed run leaves it
    monkeypatch.setattr("lib.importing.writer.write_text", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        tool.main(["--train", *arguments, "--out", str(tmp_path / "out")])
    assert [path.name for path in tmp_path.iterdir()] == ["source"]
    monkeypatch.undo()
    tool.main(["--train", *arguments, "--out", str(tmp_path / "out")])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "source"]


def test_a_folder_with_something_in_it_is_left_alone(tmp_path):
    arguments = write_sources(tmp_path / "source")["coco"]
    out = tmp_path / "out"
    out.mkdir()
    tool.main(["--train", *arguments, "--out", str(out)])
    assert (out / "classes.txt").is_file(), "an empty folder will do"
    with pytest.raises(InputError, match="out: is there already and not an empty folder"):
        tool.main(["--train", *arguments, "--out", str(out)])
    (tmp_path / "file").write_text("mine")
    with pytest.raises(InputError, match="file: is there already and not an empty folder"):
        tool.main(["--train", *arguments, "--out", str(tmp_path / "file")])
    assert (tmp_path / "file").read_text() == "mine"


def test_copies_are_files_of_their_own(tmp_path):
    arguments = write_sources(tmp_path / "source")["coco"]
    tool.main(["--train", *arguments, "--out", str(tmp_path / "out"), "--copy"])
    image, source = tmp_path / "out/Data/VID/train/a/000000.png", tmp_path / "source/images/a/shot_7.png"
    assert image.read_bytes() == source.read_bytes()
    assert not os.path.samefile(image, source)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--train", "nowhere.csv"], "nowhere.csv: no such file or folder"),
        (["--train", __file__], "a source is .json"),
        (["--train", __file__, "--frames", "nowhere"], "nowhere: no such folder; correct --frames"),
    ],
)
def test_sources_that_are_none(tmp_path, arguments, message):
    with pytest.raises(InputError, match=message):
        tool.main([*arguments, "--out", str(tmp_path / "out")])
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("kind", ["0-inclusive", "coco", "yolo"])
def test_the_same_videos_to_train_and_to_test_on_are_refused(kind, tmp_path):
    source, *others = write_sources(tmp_path / "source")[kind]
    message = r"a.shot_7\.png: is to be trained on \(.*\) and tested on \(.*\); give each video to --train or to --val"
    with pytest.raises(InputError, match=message):
        tool.main(["--train", source, "--val", source, *others, "--out", str(tmp_path / "out")])
    assert not (tmp_path / "out").exists()


def test_a_video_file_to_train_and_to_test_on_is_refused(tmp_path):
    write_clip(tmp_path / "a.mp4", [0, 1])
    for name in ("one.csv", "two.csv"):
        (tmp_path / name).write_text("video,frame,label,x1,y1,x2,y2\na.mp4,0,car,1,2,3,4\n")
    train, val = (str(tmp_path / name) for name in ("one.csv", "two.csv"))
    with pytest.raises(InputError, match=r"a\.mp4: is to be trained on \(.*one\.csv\) and tested on \(.*two\.csv\)"):
        tool.main(["--train", train, "--val", val, "--out", str(tmp_path / "out")])


@pytest.mark.parametrize("arguments", [[], ["--val", "a.csv", "--val-share", "0.5"], ["--val-share", "0.5"]])
def test_wrong_arguments(tmp_path, arguments, capsys):
    with pytest.raises(SystemExit) as end:
        tool.main([*arguments, "--out", str(tmp_path / "out")])
    assert end.value.code == 2
    capsys.readouterr()
