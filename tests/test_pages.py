"""The examples of README.md and docs/ run as they stand, on data that is small enough for a test."""

from __future__ import annotations

import json
import sys

import cv2
import numpy as np
import pytest

from lib import VideoDetector
from lib.models.frame_batches import SeparateFrames
from rfcn.model import RFCN
from tests.models.small import assert_same_detections
from tests.models.small_checkpoints import clip, write_checkpoint
from tests.pages import ROOT, blocks, file_name, link_repository, run_commands

SMALL = ["SCALES=[[96, 128]]", "TRAIN.end_epoch=1", "TRAIN.BATCH_IMAGES=4", "TRAIN.WORKERS=0"]


@pytest.fixture
def work(tmp_path, monkeypatch):
    """An empty working directory, from which Python imports too; what was imported from it is forgotten."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    before = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - before:
        if name.split(".")[0] == "pair":
            del sys.modules[name]


def small_training(words):
    """What makes a command of a page small enough for a test."""
    if "make_synthetic_vid.py" in words[1]:
        return [
            "--train-videos",
            "3",
            "--val-videos",
            "1",
            "--frames",
            "6",
            "--stills",
            "4",
            "--size",
            "128x96",
            "--workers",
            "1",
        ]
    return SMALL if "--cfg" in words else []


def test_add_a_method(work, monkeypatch):
    """The page's method trains, tests and detects; where no frame has a frame before it, it equals R-FCN."""
    link_repository(work, ["lib", "rfcn", "dff", "tools", "model"])
    for name in ("pair", "configs"):
        (work / name).mkdir()
    (work / "configs" / "rfcn").symlink_to(ROOT / "configs" / "rfcn")
    detectors = []
    monkeypatch.setattr(VideoDetector, "__init__", remembering(VideoDetector.__init__, detectors))
    for language, text in blocks("docs/add-a-method.md"):
        if language == "python":
            (work / file_name(text)).write_text(text, encoding="utf-8")
        else:
            run_commands(text, small_training)
    (weights,) = (work / "output/pair").rglob("pair_synthetic-0001.pth")
    assert json.loads((weights.parents[1] / "VID_val_videos/evaluation.json").read_text())["frames"] == 6
    assert len(json.loads((work / "output/pair/demo/detections.json").read_text())["frames"]) == 6
    exec(compile((work / "detect_with_pair.py").read_text(), "detect_with_pair.py", "exec"), {})
    detector = detectors[-1]
    assert detector.method == "pair"
    images = clip(3)
    stills = [found for image in images for _, found in detector([image])]
    monkeypatch.setattr(type(detector.model), "begin_clip", begin_separate)
    assert_same_detections(stills, [found for _, found in detector(images)])


def remembering(init, made):
    """`init` of a class, which also adds each new object to `made`."""

    def both(self, *arguments, **options):
        init(self, *arguments, **options)
        made.append(self)

    return both


def begin_separate(self, batch_images=1, inside=False):
    """R-FCN's detection, with the features and the detector of another model."""
    return SeparateFrames(lambda frames: RFCN.detect(self, frames, inside), batch_images)


def write_mot(folder, sequences=4, frames=5):
    """Sequences in the MOT challenge's format: a pedestrian and a car that move, and a box that is not to be used."""
    rng = np.random.default_rng(0)
    for number in range(sequences):
        sequence = folder / f"MOT17-{number:02d}"
        (sequence / "img1").mkdir(parents=True)
        (sequence / "gt").mkdir()
        (sequence / "seqinfo.ini").write_text(
            f"[Sequence]\nname={sequence.name}\nimDir=img1\nframeRate=30\nseqLength={frames}\n"
            "imWidth=128\nimHeight=96\nimExt=.jpg\n"
        )
        lines = []
        for frame in range(1, frames + 1):
            image = rng.integers(90, 160, (96, 128, 3), np.uint8)
            cv2.imwrite(str(sequence / "img1" / f"{frame:06d}.jpg"), image)
            lines += [f"{frame},1,{10 + frame},20,21,40,1,1,1.0", f"{frame},2,61,{30 + frame},50,30,1,3,0.8"]
            lines += [f"{frame},3,1,1,30,30,0,1,1.0"]
        (sequence / "gt" / "gt.txt").write_text("\n".join(lines) + "\n")


def test_add_a_data_set(work, capsys):
    link_repository(work, ["lib", "rfcn", "tools", "model", "configs"])
    write_mot(work / "MOT17" / "train")
    for language, text in blocks("docs/add-a-dataset.md"):
        if language == "python":
            (work / file_name(text)).write_text(text, encoding="utf-8")
        else:
            run_commands(text, small_training)
    annotation = (work / "data/mot/Annotations/VID/train/MOT17-00/000000.xml").read_text()
    # Of (11, 20, 21 x 40), counted from 1, to the first and last columns and rows, counted from 0
    assert "<xmin>10</xmin><xmax>30</xmax><ymin>19</ymin><ymax>58</ymax>" in annotation
    assert annotation.count("<object>") == 2, "the box that is not to be used is left out"
    (evaluation,) = (work / "output/mot").rglob("evaluation.json")
    content = json.loads(evaluation.read_text())
    assert (content["frames"], len(content["ap"])) == (5, 2)
    assert "nothing is wrong" in capsys.readouterr().out, "what check_dataset.py says of the converted set"


@pytest.mark.parametrize("page", ["README.md", "docs/python.md"])
def test_python_of_a_page(work, page, capsys):
    """Block after block, with what the blocks before have defined; the detector is a small FGFA with random weights."""
    (work / "model").mkdir()
    write_checkpoint(work / "model" / "demo_fgfa.pth", "fgfa")
    frames = clip(8)
    writer = cv2.VideoWriter("my_video.mp4", cv2.VideoWriter_fourcc(*"mp4v"), 8.0, (128, 96))
    for image in frames:
        writer.write(image)
    writer.release()
    scope: dict = {}
    python = [text for language, text in blocks(page) if language == "python"]
    assert python
    for number, text in enumerate(python):
        exec(compile(text, f"{page}, Python block {number}", "exec"), scope)
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines[: len(frames)]] == [str(index) for index in range(len(frames))]
