"""COCO-VID JSON: what is written has its form and comes back as it was; what has not is refused by name."""

import json

import numpy as np
import pytest
from pycocotools.coco import COCO

from lib.errors import InputError
from lib.evaluation.coco_files import read_coco_results, read_coco_truth
from tests.data.toy_vid import write_toy
from tools import evaluate, export_coco

LINES = """\
1 5 0.9000 0.11 0.23 9.07 9.91
1 1 0.8000 2.00 2.00 70.00 50.00
2 5 0.1234 1.00 1.00 10.00 10.00
5 1 0.5000 0.00 0.00 63.00 47.00
"""


@pytest.fixture
def exported(tmp_path):
    root = write_toy(tmp_path / "toy")
    (tmp_path / "run.txt").write_text(LINES)
    arguments = ["--dataset-path", root, "--results", tmp_path / "run.txt", "--out", tmp_path / "coco"]
    export_coco.main([*map(str, arguments), "--cache", str(tmp_path / "cache")])
    return tmp_path


def run(folder, *arguments):
    out = folder / "figures.json"
    evaluate.main([*map(str, arguments), "--json", str(out), "--cache", str(folder / "cache")])
    return json.loads(out.read_text())


def test_the_files_have_the_form_of_coco_vid(exported, capsys):
    content = json.loads((exported / "coco" / "ground_truth.json").read_text())
    assert content["videos"] == [{"id": 1, "name": "val/b"}, {"id": 2, "name": "val/c"}]
    assert content["images"][3] == {
        "id": 4, "video_id": 2, "frame_id": 0, "file_name": "val/c/000000.JPEG", "width": 64, "height": 48,
    }  # fmt: skip
    assert content["annotations"][0] == {
        "id": 1, "image_id": 1, "video_id": 1, "instance_id": 0, "category_id": 5, "bbox": [0, 0, 10, 10],
        "area": 100, "iscrowd": 0,
    }  # fmt: skip
    assert content["annotations"][1]["instance_id"] == -1
    assert (len(content["images"]), len(content["annotations"])) == (5, 6)
    assert content["categories"][4] == {"id": 5, "name": "bird"}
    coco = COCO(str(exported / "coco" / "ground_truth.json"))
    assert coco.loadRes(str(exported / "coco" / "detections.json")).getImgIds(catIds=[1]) == [1, 5]
    capsys.readouterr()


def test_everything_comes_back(exported, tmp_path):
    read = read_coco_truth(exported / "coco" / "ground_truth.json")
    np.testing.assert_array_equal(read.truth.offsets, [0, 2, 3, 3, 5, 6])
    np.testing.assert_array_equal(read.truth.videos, [0, 0, 0, 1, 1])
    np.testing.assert_array_equal(read.truth.boxes[1], [2, 2, 70, 50])
    np.testing.assert_array_equal(read.truth.track_ids, [0, -1, 1, 0, -1, 1])
    assert read.videos == ["val/b", "val/c"]
    table = read_coco_results(exported / "coco" / "detections.json", read.image_ids, read.category_ids)
    rows = np.column_stack((table.frames + 1, table.labels, table.scores, table.boxes))
    np.testing.assert_array_equal(rows, [[float(x) for x in line.split()] for line in LINES.splitlines()])


def test_evaluation_is_the_same_from_either_form(exported):
    root, text, coco = exported / "toy", exported / "run.txt", exported / "coco"
    wanted = run(exported, "--dataset-path", root, "--results", text)
    assert wanted["mean_ap"] > 0
    for source in (("--dataset-path", root), ("--ground-truth", coco / "ground_truth.json")):
        for results in (text, coco / "detections.json"):
            figures = run(exported, *source, "--results", results)
            assert {**figures, "results": None} == {**wanted, "results": None}
    part = run(exported, "--ground-truth", coco / "ground_truth.json", "--results", text, "--videos", "b")
    assert part["part"]["frames"] == 3


def test_other_ids_orders_and_no_videos(tmp_path):
    content = {
        "images": [
            {"id": 70, "video_id": 9, "frame_id": 1},
            {"id": 30, "video_id": 9, "frame_id": 0},
            {"id": 5, "video_id": 4},
        ],
        "videos": [{"id": 9, "name": "x"}, {"id": 4, "name": "y"}],
        "categories": [{"id": 12, "name": "dog"}, {"id": 3, "name": "cat"}],
        "annotations": [
            {"image_id": 70, "category_id": 12, "bbox": [1, 2, 3, 4], "instance_id": 8},
            {"image_id": 30, "category_id": 3, "bbox": [0, 0, 5, 5]},
            {"image_id": 30, "category_id": 3, "bbox": [0, 0, 9, 9], "iscrowd": 1},
        ],
    }
    path = tmp_path / "truth.json"
    path.write_text(json.dumps(content))
    read = read_coco_truth(path)
    assert (read.image_ids, read.category_ids, read.videos) == ([5, 30, 70], [3, 12], ["y", "x"])
    assert read.truth.class_names == ["cat", "dog"]
    np.testing.assert_array_equal(read.truth.offsets, [0, 0, 1, 2])
    np.testing.assert_array_equal(read.truth.boxes, [[0, 0, 4, 4], [1, 2, 3, 5]])
    np.testing.assert_array_equal(read.truth.track_ids, [-1, 8])
    del content["videos"]
    path.write_text(json.dumps(content))
    read = read_coco_truth(path)
    assert (read.image_ids, read.videos) == ([70, 30, 5], ["70", "30", "5"])
    np.testing.assert_array_equal(read.truth.videos, [0, 1, 2])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "not valid JSON"),
        ("[" * 100000, "not valid JSON"),
        ("9" * 5000, "not valid JSON"),
        ("[]", "not an object with images"),
        ('{"images": []}', "not COCO-VID ground truth .KeyError: 'categories'"),
        ('{"images": [{"id": 1}, {"id": 1}], "categories": [{"id": 1}], "annotations": []}', "given twice"),
        (
            '{"images": [{"id": 1}], "categories": [{"id": 1}], '
            '"annotations": [{"image_id": 2, "category_id": 1, "bbox": [0, 0, 1, 1]}]}',
            "KeyError: 2",
        ),
    ],
)
def test_ground_truth_that_cannot_be_used(tmp_path, content, message):
    (tmp_path / "truth.json").write_text(content)
    with pytest.raises(InputError, match=rf"truth.json: {message}|truth.json: .*{message}"):
        read_coco_truth(tmp_path / "truth.json")


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ({"image_id": 9}, "entry 2: there is no image_id 9 among the images"),
        ({"category_id": 9}, "entry 2: there is no category_id 9 among the categories"),
        ({"bbox": [1, 2, 3]}, "entry 2 is not"),
        ({"score": None}, "entry 2 is not"),
        ({"score": float("nan")}, "entry 2: a number that is not finite"),
        ({"score": 10**400}, "entry 2 is not"),
    ],
)
def test_results_that_cannot_be_used(tmp_path, entry, message):
    good = {"image_id": 1, "category_id": 1, "bbox": [0, 0, 1, 1], "score": 0.5}
    (tmp_path / "run.json").write_text(json.dumps([good, good | entry]))
    with pytest.raises(InputError, match=f"run.json: {message}"):
        read_coco_results(tmp_path / "run.json", [1, 2], [1])


def test_cocos_ap_and_the_table_as_csv(exported, capsys):
    arguments = [
        "--dataset-path",
        exported / "toy",
        "--results",
        exported / "run.txt",
        "--coco",
        "--csv",
        exported / "t.csv",
    ]
    figures = run(exported, *arguments)
    lines = [line.split(",") for line in (exported / "t.csv").read_text().splitlines()]
    assert lines[0] == ["class", "objects", "all", "fast", "medium", "slow", "COCO .5", "COCO"]
    assert lines[1][:2] == ["airplane", "2"]
    assert [float(lines[1][2]), float(lines[1][6])] == [figures["ap"][0], figures["coco"]["ap50"][0]]
    assert lines[2] == ["antelope", "0", *[""] * 6]
    assert lines[31][:2] == ["mean", "6"]
    assert float(lines[31][7]) == figures["coco"]["mean_ap"]
    # The better airplane fits exactly, the other not at all: 51 of 101 recalls, at precision 1
    assert figures["coco"]["ap50"][0] == pytest.approx(51 / 101)
    assert figures["ap"][0] == pytest.approx(0.5)
    assert "COCO .5" in capsys.readouterr().out


def test_outputs_are_checked_before_anything_is_read(tmp_path):
    (tmp_path / "coco" / "detections.json").mkdir(parents=True)
    arguments = ["--dataset-path", tmp_path / "none", "--results", tmp_path / "none.txt", "--out", tmp_path / "coco"]
    with pytest.raises(InputError, match=r"detections.json: is a folder"):
        export_coco.main([str(argument) for argument in arguments])


def test_an_empty_result_and_no_result(tmp_path):
    root = write_toy(tmp_path / "toy")
    (tmp_path / "none.txt").touch()
    common = ["--dataset-path", str(root), "--cache", str(tmp_path / "cache"), "--out", str(tmp_path / "coco")]
    export_coco.main(common)
    assert [path.name for path in (tmp_path / "coco").iterdir()] == ["ground_truth.json"]
    export_coco.main([*common, "--results", str(tmp_path / "none.txt")])
    assert json.loads((tmp_path / "coco" / "detections.json").read_text()) == []
