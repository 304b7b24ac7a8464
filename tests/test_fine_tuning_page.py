"""docs/fine-tuning.md: its bash blocks run as written, one after the other, and do what the text around them says."""

from __future__ import annotations

import csv
import json
import re
from pathlib import Path

import pytest
import torch

from lib.config import load_config
from tests.pages import ROOT, walk

PAGE = "docs/fine-tuning.md"
TEXT = (ROOT / PAGE).read_text(encoding="utf-8")
RUN = Path("output/crates/resnet_v1_18_synthetic_vid_crates")


@pytest.fixture(scope="module")
def walked(tmp_path_factory):
    """(the folder in which the whole page has run, the output of each block)."""
    folder = tmp_path_factory.mktemp("page")
    return folder, walk(PAGE, folder)


def test_the_log_says_which_classes_are_copied_and_the_page_quotes_it(walked):
    log = (walked[0] / RUN / "VID_train_15frames" / "train.log").read_text(encoding="utf-8")
    (said,) = re.findall(r"classes of rfcn_cls: .*", log)
    (quoted,) = re.findall(r"^\.\.\.: (classes of rfcn_cls: .*), \.\.\.$", TEXT, re.MULTILINE)
    assert said.startswith(quoted)
    assert "copied: background, car; new: crate;" in said


def test_training_began_from_the_given_detector(walked):
    """One that it has moved away from, but not far: the deep layers change less than between two random starts."""
    folder, _ = walked
    (start,) = (folder / "output/start").rglob("rfcn_synthetic-0001.pth")
    end = folder / RUN / "VID_train_15frames" / "crates-0002.pth"
    began, ended = (torch.load(path, weights_only=True)["model"] for path in (start, end))
    name = "features.feat_conv_3x3.weight"
    assert not torch.equal(began[name], ended[name])
    both = torch.stack((began[name].flatten(), ended[name].flatten()))
    assert torch.corrcoef(both)[0, 1] > 0.5
    assert torch.load(end, weights_only=True)["classes"]["names"] == ["car", "crate"]


def test_the_test_leaves_the_evaluation_where_the_page_says(walked):
    assert f"`{RUN}/VID_val_videos/evaluation.json`" in TEXT
    content = json.loads((walked[0] / RUN / "VID_val_videos" / "evaluation.json").read_text(encoding="utf-8"))
    assert content["frames"] == 2 * 8
    assert len(content["ap"]) == 2


def test_the_demo_writes_what_the_page_lists(walked):
    out = walked[0] / "output" / "crates" / "demo"
    assert {"demo.mp4", "contact_sheet.png", "detections.json", "detections.csv"} <= {
        path.name for path in out.iterdir()
    }
    assert len(json.loads((out / "detections.json").read_text(encoding="utf-8"))["frames"]) == 8
    with open(out / "detections.csv", encoding="utf-8", newline="") as file:
        assert next(csv.reader(file))


def test_the_api_knows_the_classes(walked):
    assert walked[1][-1].splitlines()[0] == "classes: background, car, crate"


def test_the_page_can_follow_that_on_own_data():
    """Which links to it: what both write would be mixed, or refused as being there already."""
    others = (ROOT / "data/README.md").read_text(encoding="utf-8")
    written = [
        set(re.findall(r"\b(?:data|output)/[a-z]\w*\b(?!\.)|\w+\.yaml(?= <<)", text)) - {"data/ILSVRC2015"}
        for text in (TEXT, others)
    ]
    assert {"data/crates", "output/crates", "crates.yaml"} <= written[0]
    assert {"data/mine", "output/mine", "mine.yaml"} <= written[1]
    assert written[0] & written[1] == set()


def test_the_keys_for_the_full_size_exist(tmp_path):
    (block,) = re.findall(r"^```yaml\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL)
    (tmp_path / "crates.yaml").write_text(block, encoding="utf-8")
    (name,) = re.findall(r"`--cfg (configs/\S+101\S+)`", TEXT)
    cfg = load_config(ROOT / name, presets=[tmp_path / "crates.yaml"])
    assert cfg.network.pretrained_model == "model/rfcn_vid-0000.params"
    assert cfg.TRAIN.BATCHES_PER_UPDATE == 4
    assert cfg.dataset.NUM_CLASSES == 0


@pytest.mark.parametrize("target", sorted(set(re.findall(r"\]\(([^)#:]+)\)", TEXT))))
def test_what_the_page_links_to_is_there(target):
    assert ((ROOT / PAGE).parent / target).exists()


def test_what_the_page_names_is_there():
    for path in re.findall(r"(?:configs|tools|rfcn)/[\w./-]+\.\w+", TEXT):
        assert (ROOT / path).is_file(), path
