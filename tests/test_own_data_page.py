"""data/README.md: its bash blocks run as written, one after the other, and do what the text around them says."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest

from lib.checkpoints.torchvision_weights import is_torchvision_name
from lib.config import load_config
from lib.evaluation.coco_boxes import corners
from lib.importing.csv_boxes import CONVENTIONS
from tests.pages import ROOT, walk

PAGE = "data/README.md"
TEXT = (ROOT / PAGE).read_text(encoding="utf-8")
RUN = Path("output/mine/resnet_v1_18_synthetic_vid_mine")


@pytest.fixture(scope="module")
def walked(tmp_path_factory):
    """(the folder in which the whole page has run, the output of each block)."""
    folder = tmp_path_factory.mktemp("page")
    return folder, walk(PAGE, folder)


def test_the_import_makes_what_the_page_says(walked):
    folder, outputs = walked
    assert "train: 4 videos, 0 stills, 32 frames of which 0 show no object" in outputs[1]
    assert "val: 1 videos, 0 stills, 8 frames" in outputs[1]
    assert (folder / "data/mine/classes.txt").read_text() == "car\nfork-lift_truck fork-lift truck\n"
    assert "fork-lift truck" in outputs[2]
    assert "WRONG" not in outputs[2]


def test_the_training_says_what_it_uses(walked):
    log = (walked[0] / RUN / "VID_train_15frames" / "train.log").read_text(encoding="utf-8")
    assert "VID_train_15frames: 32 of 32 frames are used" in log


def test_the_test_and_the_report_are_where_the_page_says(walked):
    content = json.loads((walked[0] / RUN / "VID_val_videos" / "evaluation.json").read_text(encoding="utf-8"))
    assert content["frames"] == 8
    assert len(content["ap"]) == 2
    page = (walked[0] / "output/mine/report.html").read_text(encoding="utf-8")
    assert "fork-lift truck" in page


def test_the_demo_writes_what_the_page_lists(walked):
    out = walked[0] / "output" / "mine" / "demo"
    names = {path.name for path in out.iterdir()}
    assert {"contact_sheet.png", "detections.json", "detections.csv"} <= names
    assert len(json.loads((out / "detections.json").read_text(encoding="utf-8"))["frames"]) == 8


def test_real_data_can_begin_from_weights_that_anybody_can_get(tmp_path):
    """The step's preset without the keys that are for the tiny data, and torchvision's backbone after it."""
    step = re.split(r"^### ", TEXT, flags=re.M)[3]
    (name,) = re.findall(r"For real data take `(\S+)`", step)
    (preset,) = re.findall(r"configs/presets/\S+\.yaml", step)
    (block,) = re.findall(r"<<'END'\n(.*?)^END", step, re.M | re.S)
    (tmp_path / "mine.yaml").write_text(re.sub(r"(SCALES|  BATCH_IMAGES|  lr_step|  end_epoch|TRAIN):.*\n", "", block))
    cfg = load_config(ROOT / name, ["dataset.NUM_CLASSES=0"], [tmp_path / "mine.yaml", ROOT / preset])
    assert is_torchvision_name(cfg.network.pretrained)
    assert (cfg.dataset.dataset_path, cfg.dataset.image_set) == ("data/mine", "VID_train_15frames")


def test_the_table_of_conventions_is_right():
    """Columns 5 to 24: every row, read by the importer's own rules, is that."""
    table = TEXT[TEXT.index("columns 5 to 24 are") : TEXT.index("What is exported with")]
    rows = re.findall(r"^\| (?:this project|CSV).*?`x1` (\d+), `x2` (\d+)", table, re.MULTILINE)
    for numbers, subtract in zip(rows, CONVENTIONS.values(), strict=True):
        assert [int(numbers[0]) - subtract[0], int(numbers[1]) - subtract[2]] == [5, 24]
    ((x, width),) = re.findall(r"^\| COCO \| `x` (\d+), `width` (\d+)", table, re.MULTILINE)
    assert corners(np.array([[int(x), 0, int(width), 1]]))[0, ::2].tolist() == [5, 24]
    ((centre, share),) = re.findall(r"`x` (\d+)/64, `width` (\d+)/64", table)
    assert (int(centre) - int(share) / 2, int(centre) + int(share) / 2 - 1) == (5, 24)


@pytest.mark.parametrize("target", sorted(set(re.findall(r"\]\(([^)#:]+)\)", TEXT))))
def test_what_the_page_links_to_is_there(target):
    assert ((ROOT / PAGE).parent / target).exists()


def test_what_the_page_names_is_there():
    for path in re.findall(r"(?:configs|tools|rfcn)/[\w./-]+\.\w+", TEXT):
        assert (ROOT / path).is_file(), path


def test_the_sections_that_the_page_points_to_exist():
    headings = {re.sub(r"[^\w -]", "", h).lower().replace(" ", "-") for h in re.findall(r"^#+ (.+)$", TEXT, re.M)}
    assert set(re.findall(r"\]\(#([\w-]+)\)", TEXT)) <= headings
