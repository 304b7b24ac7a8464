"""Reading CSV, COCO-VID JSON and YOLO: which pixels a box covers, which frame it is on, and how mistakes are named."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from lib.errors import InputError
from lib.importing.coco import read_coco
from lib.importing.csv_boxes import images_of, read_csv
from lib.importing.source import Box, Source
from lib.importing.yolo import read_yolo
from lib.visualize.video_writer import VideoWriter

HEADER = "frame,label,x1,y1,x2,y2\n"


def write_images(folder: Path, names: list[str], width: int = 64, height: int = 48) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for i, name in enumerate(names):
        cv2.imwrite(str(folder / name), np.full((height, width, 3), 20 * i, np.uint8))


def painted(box: tuple[float, ...], width: int = 64, height: int = 48) -> np.ndarray:
    """(height, width) bool: the pixels that a box in this project's form covers."""
    x, y = np.meshgrid(np.arange(width), np.arange(height))
    return (x >= box[0]) & (x <= box[2]) & (y >= box[1]) & (y <= box[3])


def only_box(source: Source) -> tuple[float, ...]:
    (video,) = source.videos
    ((box,),) = video.boxes.values()
    return box.pixels(64, 48)


PIXELS = np.zeros((48, 64), bool)
PIXELS[10:30, 5:25] = True  # 20 columns from the 6th on, 20 rows from the 11th on


@pytest.mark.parametrize(
    ("convention", "numbers"),
    [("0-inclusive", "5,10,24,29"), ("1-inclusive", "6,11,25,30"), ("0-exclusive", "5,10,25,30")],
)
def test_the_pixels_of_a_csv_box(tmp_path, convention, numbers):
    write_images(tmp_path / "a", ["0.png"])
    (tmp_path / "a.csv").write_text(f"{HEADER}0,car,{numbers}\n")
    box = only_box(read_csv(tmp_path / "a.csv", tmp_path, convention, 0))
    assert (painted(box) == PIXELS).all()


def test_the_pixels_of_a_coco_box(tmp_path):
    content = {
        "images": [{"id": 1, "file_name": "a/0.png"}],
        "annotations": [{"image_id": 1, "category_id": 7, "bbox": [5, 10, 20, 20]}],
        "categories": [{"id": 7, "name": "car"}],
    }
    (tmp_path / "a.json").write_text(json.dumps(content))
    source = read_coco(tmp_path / "a.json", tmp_path)
    assert (painted(only_box(source)) == PIXELS).all()
    assert source.videos[0].still
    assert source.videos[0].frames == [tmp_path / "a/0.png"]


def test_the_pixels_of_a_yolo_box(tmp_path):
    write_images(tmp_path / "images/train", ["0.png"])
    (tmp_path / "labels/train").mkdir(parents=True)
    # the edges of the box are at 5 and 25 of 64, 10 and 30 of 48; six digits, as such files have
    (tmp_path / "labels/train/0.txt").write_text(f"1 {15 / 64:.6f} {20 / 48:.6f} {20 / 64:.6f} {20 / 48:.6f}\n")
    (tmp_path / "data.yaml").write_text("names: [bus, car]\ntrain: images/train\nval: images/train\n")
    source = read_yolo(tmp_path / "data.yaml", "train", videos_by_name=False)
    assert only_box(source) == (5, 10, 24, 29)
    assert (painted(only_box(source)) == PIXELS).all()
    assert source.labels == ["bus", "car"]
    assert source.videos[0].still


@pytest.mark.parametrize(
    ("corners", "message"),
    [
        ((9, 5, 8, 6), r"x:1: the box \(9, 5, 8, 6\) is inside out"),
        ((64, 5, 70, 6), r"x:1: the box \(64, 5, 70, 6\) lies outside its image of 64x48 pixels"),
        ((-9, 5, -1, 6), "lies outside"),
    ],
)
def test_an_impossible_box_is_named(corners, message):
    with pytest.raises(InputError, match=message):
        Box("car", corners, "", "x:1").pixels(64, 48)


def test_a_box_over_the_edge_stays_as_it_is():
    assert Box("car", (-5.0, 0.0, 63.5, 47.123456789), "", "x:1").pixels(64, 48) == (-5, 0, 63.5, 47.123457)


@pytest.mark.parametrize(
    ("names", "frame", "expected"),
    [
        (["b2.png", "b10.jpg", "b1.bmp"], "10", 2),
        (["b2.png", "b10.jpg", "b1.bmp"], "b2", 1),
        (["b2.png", "b10.jpg", "b1.bmp"], "b1.bmp", 0),
        (["img_0012.png", "img_0013.png"], "12", 0),
        (["img_0012.png", "img_0013.png"], "00013", 1),
        (["1.png", "01.png"], "01", 0),  # its name, and not only its number
    ],
)
def test_frames_of_a_folder_are_found_by_name_or_number(tmp_path, names, frame, expected):
    write_images(tmp_path / "a", names)
    (tmp_path / "a.csv").write_text(f"{HEADER}{frame},car,1,1,9,9\n")
    source = read_csv(tmp_path / "a.csv", tmp_path, "0-inclusive", 0)
    assert list(source.videos[0].boxes) == [expected]
    assert [path.stem for path in images_of(tmp_path / "a")] == [path.stem for path in source.videos[0].frames]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", r"a\.csv:1: no column frame, label, x1, y1, x2, y2 among"),
        ("frame,label,x1,y1,x2\n", r"a\.csv:1: no column y2 among 'frame, label, x1, y1, x2'"),
        (HEADER, r"a\.csv: no box in it"),
        (f"{HEADER}0,car,1,1,9\n", r"a\.csv:2: 5 columns, but the first line names 6"),
        (f"{HEADER}0,car,1,1,9,9\n\n0,car,1,one,9,9\n", r"a\.csv:4: a box needs 4 numbers, not \(1, one, 9, 9\)"),
        (f"{HEADER}0,car,1,1,nan,9\n", r"a\.csv:2: a box needs 4 numbers"),
        (f"{HEADER}0, ,1,1,9,9\n", r"a\.csv:2: no label"),
        (f"{HEADER}7,car,1,1,9,9\n", r"a\.csv:2: frame '7': no image of its folder has this name or number"),
        (f"{HEADER}3,car,1,1,9,9\n", r"a\.csv:2: frame '3': more than one image has this number"),
        ("video,frame,label,x1,y1,x2,y2\nb,0,car,1,1,9,9\n", r"a\.csv:2: no video 'b' in .*; give the folder"),
        ('frame,label,x1,y1,x2,y2\n0,"car,1,1,9,9\n', r"a\.csv:2: "),
    ],
)
def test_a_mistake_in_csv_is_named_with_its_line(tmp_path, text, message):
    write_images(tmp_path / "a", ["0.png", "x3.png", "y3.png"])
    (tmp_path / "a.csv").write_text(text)
    with pytest.raises(InputError, match=message):
        read_csv(tmp_path / "a.csv", tmp_path, "0-inclusive", 0)


def test_csv_of_other_programs(tmp_path):
    """Semicolons, capitals in the header, a byte-order mark, columns in any order, and others beside them."""
    write_images(tmp_path / "a", ["0.png"])
    text = "\ufeffLabel;Frame;X1;Y1;X2;Y2;Score;Track\r\nfork-lift truck;0;1;2;3;4;0.9;7\r\n"
    (tmp_path / "a.csv").write_text(text, encoding="utf-8", newline="")
    ((box,),) = read_csv(tmp_path / "a.csv", tmp_path, "0-inclusive", 0).videos[0].boxes.values()
    assert box[:3] == ("fork-lift truck", (1, 2, 3, 4), "7")


def test_one_csv_file_of_several_videos_and_a_folder_of_files(tmp_path):
    for name in ("a", "b10", "b9"):
        write_images(tmp_path / "videos" / name, ["0.png", "1.png"])
    boxes = tmp_path / "boxes"
    boxes.mkdir()
    for name in ("a", "b10", "b9"):
        (boxes / f"{name}.csv").write_text(f"{HEADER}1,car,1,1,9,9\n")
    rows = "".join(f"{name},1,car,1,1,9,9\n" for name in ("b9", "a", "b10"))
    (tmp_path / "all.csv").write_text(f"video,{HEADER}{rows}")
    for source in (boxes, tmp_path / "all.csv"):
        videos = read_csv(source, tmp_path / "videos", "0-inclusive", 0).videos
        assert [video.name for video in videos] == ["a", "b9", "b10"]
        assert [list(video.boxes) for video in videos] == [[1]] * 3


def test_frames_of_a_video_file_are_numbered(tmp_path):
    with VideoWriter(tmp_path / "a.mp4", 10) as video:
        for _ in range(3):
            video.write(np.zeros((48, 64, 3), np.uint8))
    (tmp_path / "a.csv").write_text(f"{HEADER}1,car,1,1,9,9\n3,car,1,1,9,9\n")
    assert list(read_csv(tmp_path / "a.csv", tmp_path, "0-inclusive", 1).videos[0].boxes) == [0, 2]
    (tmp_path / "a.csv").write_text(f"{HEADER}0,car,1,1,9,9\n")
    with pytest.raises(InputError, match=r"a\.csv:2: frame '0'; frames of a video file are whole numbers from 1 on"):
        read_csv(tmp_path / "a.csv", tmp_path, "0-inclusive", 1)


COCO = {
    "videos": [{"id": 10, "name": "b"}, {"id": 9, "name": "a"}],
    "images": [
        {"id": 1, "video_id": 10, "frame_id": 4, "file_name": "b/y.png", "width": 64, "height": 48},
        {"id": 2, "video_id": 10, "frame_id": 2, "file_name": "b/z.png", "width": 64, "height": 48},
        {"id": 3, "video_id": 9, "frame_id": 0, "file_name": "a/x.png"},
    ],
    "annotations": [
        {"image_id": 2, "category_id": 3, "bbox": [0, 0, 5, 5], "instance_id": 8},
        {"image_id": 3, "category_id": 20, "bbox": [0, 0, 5, 5], "instance_id": -1},
        {"image_id": 3, "category_id": 20, "bbox": [0, 0, 5, 5], "iscrowd": 1},
    ],
    "categories": [{"id": 20, "name": "bus"}, {"id": 3, "name": "car"}],
}


def test_coco_videos_frames_and_classes_are_in_the_order_of_their_ids(tmp_path):
    (tmp_path / "a.json").write_text(json.dumps(COCO))
    source = read_coco(tmp_path / "a.json", tmp_path)
    assert [(video.name, video.still) for video in source.videos] == [("a", False), ("b", False)]
    assert [path.name for path in source.videos[1].frames] == ["z.png", "y.png"]
    assert source.labels == ["car", "bus"]
    assert [box.track for video in source.videos for boxes in video.boxes.values() for box in boxes] == ["", "8"]
    assert list(source.videos[1].boxes) == [0]
    assert source.left_out == ["1 annotations with iscrowd"]


@pytest.mark.parametrize(
    ("keys", "value", "message"),
    [
        (["images"], None, r"a\.json: 'images' is not a list of objects"),
        (["annotations", 1, "bbox"], [1, 2, 3], r"a\.json: annotations\[1\]\.bbox: a box needs 4 numbers"),
        (["annotations", 1, "bbox"], [1, 2, 3, "x"], r"annotations\[1\]\.bbox: a box needs 4 numbers"),
        (["annotations", 0, "image_id"], 77, r"a\.json: annotations\[0\]: there is no image_id 77"),
        (["annotations", 0, "category_id"], 77, r"annotations\[0\]: there is no category_id 77"),
        (["annotations", 0, "category_id"], [1], r"annotations\[0\]: 'category_id' must be a number or a text"),
        (["images", 0, "video_id"], 77, r"a\.json: image 1: there is no video_id 77"),
        (["images", 0, "frame_id"], 2, r"image 2: has the frame_id 2 of image 1"),
        (["images", 0, "frame_id"], "x", r"image 1: frame_id must be a whole number"),
        (["images", 1, "id"], 1, r"images\[1\]: the id 1 is given twice"),
        (["images", 0, "file_name"], 5, r"image 1: file_name must be a path"),
        (["categories", 0], {"name": "bus"}, r"a\.json: categories\[0\]: has no 'id'"),
    ],
)
def test_a_mistake_in_coco_is_named_with_its_key(tmp_path, keys, value, message):
    content = json.loads(json.dumps(COCO))
    place = content
    for key in keys[:-1]:
        place = place[key]
    place[keys[-1]] = value
    (tmp_path / "a.json").write_text(json.dumps(content))
    with pytest.raises(InputError, match=message):
        read_coco(tmp_path / "a.json", tmp_path)


def yolo(folder: Path, line: str = "0 0.5 0.5 0.25 0.25 3\n", names: str = "{0: car, 2: bus}") -> Path:
    """Videos in two folders; only frame 1 of the first has labels."""
    for name in ("clip_a", "clip_b"):
        write_images(folder / "train/images" / name, ["f1.png", "f10.png", "f2.png"])
    (folder / "train/labels/clip_a").mkdir(parents=True)
    (folder / "train/labels/clip_a/f2.txt").write_text(line)
    (folder / "data.yaml").write_text(f"names: {names}\ntrain: ../train/images\nval: train/images\n")
    return folder / "data.yaml"


def test_yolo_folders_are_videos(tmp_path):
    source = read_yolo(yolo(tmp_path), "train", videos_by_name=False)
    assert [(video.name, video.still) for video in source.videos] == [("clip_a", False), ("clip_b", False)]
    assert [path.name for path in source.videos[0].frames] == ["f1.png", "f2.png", "f10.png"]
    ((frame, (box,)),) = source.videos[0].boxes.items()
    assert (frame, box.label, box.track) == (1, "car", "3")
    assert box.pixels(64, 48) == (24, 18, 39, 29)
    assert source.labels == ["car", "bus"]


def test_yolo_videos_by_name_and_lists_of_images(tmp_path):
    write_images(tmp_path / "images", ["a_1.png", "a_2.png", "b_1.png"])
    (tmp_path / "train.txt").write_text("./images/a_1.png\nimages/a_2.png\nimages/b_1.png\n")
    (tmp_path / "data.yaml").write_text("names: [car]\ntrain: train.txt\nval: images\n")
    for split in ("train", "val"):
        assert [video.name for video in read_yolo(tmp_path / "data.yaml", split, True).videos] == ["a", "b"]
        assert [video.name for video in read_yolo(tmp_path / "data.yaml", split, False).videos] == ["a_1", "a_2", "b_1"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"line": "\n0 0.5 0.5 0.25\n"}, r"f2\.txt:2: 4 columns; a line is 'class x y width height'"),
        ({"line": "1 0.5 0.5 0.25 0.25\n"}, r"f2\.txt:1: class '1' is not among the numbers of 'names'"),
        ({"line": "car 0.5 0.5 0.25 0.25\n"}, r"f2\.txt:1: class 'car'"),
        ({"line": "0 20 20 8 8\n"}, r"f2\.txt:1: \(20, 20, 8, 8\) are no shares of the image's sides"),
        ({"line": "0 x 20 8 8\n"}, r"f2\.txt:1: a box needs 4 numbers"),
        ({"names": "car"}, r"data\.yaml: 'names' must list the classes"),
    ],
)
def test_a_mistake_in_yolo_is_named(tmp_path, options, message):
    with pytest.raises(InputError, match=message):
        read_yolo(yolo(tmp_path, **options), "train", videos_by_name=False)


def test_a_split_of_yolo_that_is_not_there(tmp_path):
    path = yolo(tmp_path)
    with pytest.raises(InputError, match=r"data\.yaml: 'test' must be a folder of images"):
        read_yolo(path, "test", videos_by_name=False)
    path.write_text("names: [car]\ntrain: nowhere\n")
    with pytest.raises(InputError, match=r"data\.yaml: there is no .*nowhere; correct 'path'"):
        read_yolo(path, "train", videos_by_name=False)
