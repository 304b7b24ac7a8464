"""The demo scripts: which detector and which frames they take, where results go, what they show."""

from __future__ import annotations

import json
import os

import cv2
import numpy as np
import pytest

from dff.demo import main as dff_demo
from fgfa.demo import main as fgfa_demo
from lib import load_detector
from lib.data.video import SourceError
from lib.engine import shipped
from lib.engine.checkpoint import CheckpointError
from lib.engine.demo_run import source_name
from lib.visualize.inside import ShowError
from rfcn.demo import main as rfcn_demo
from tests.models.small_checkpoints import clip, write_checkpoint
from tools.convert_weights import main as convert

DEMOS = {"rfcn": rfcn_demo, "dff": dff_demo, "fgfa": fgfa_demo}
QUICK = ["--no-clip", "--device", "cpu", "--min-score", "0.3"]


@pytest.fixture(scope="module")
def repository(tmp_path_factory):
    """A folder with detectors in model/ and two clips in data/demo/."""
    root = tmp_path_factory.mktemp("repository")
    for method in DEMOS:
        whole = write_checkpoint(root / f"{method}.pth", method)
        convert([str(whole), str(root / "model" / f"demo_{method}.pth"), "--half", "--quiet"])
    for number, name in ((3, "clip10"), (2, "clip2")):
        (root / "data" / "demo" / name).mkdir(parents=True)
        for index, image in enumerate(clip(number, seed=number)):
            cv2.imwrite(str(root / "data" / "demo" / name / f"{index:06d}.png"), image)
    return root


@pytest.fixture
def here(repository, tmp_path, monkeypatch):
    """The current folder; the repository is elsewhere."""
    monkeypatch.setattr(shipped, "DETECTORS", repository / "model")
    monkeypatch.setattr(shipped, "CLIPS", repository / "data" / "demo")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def boxes_in(folder):
    return [frame["boxes"] for frame in json.loads((folder / "detections.json").read_text())["frames"]]


@pytest.mark.parametrize("method", DEMOS)
def test_without_arguments_it_takes_what_comes_with_the_repository(method, here, repository, capsys):
    DEMOS[method](QUICK)
    out = capsys.readouterr().out
    weights = repository / "model" / f"demo_{method}.pth"
    assert f"detector: {weights} ({method}, 5 classes, weights stored in float16 and loaded as float32)" in out
    detector = load_detector(weights, device="cpu", score_threshold=0.3)
    for name, length in (("clip2", 2), ("clip10", 3)):
        folder = here / "output" / "demo" / method / name
        assert sorted(path.name for path in folder.iterdir()) == [
            "contact_sheet.png",
            "detections.csv",
            "detections.json",
        ]
        found = [found.boxes.tolist() for _, found in detector(repository / "data" / "demo" / name)]
        assert len(found) == length
        for written, wanted in zip(boxes_in(folder), found, strict=True):
            np.testing.assert_allclose(written, np.round(wanted, 2), atol=0.011)
        assert os.path.join("output", "demo", method, name, "detections.json") in out
    assert out.index("clip2") < out.index("clip10"), "in natural order"


def test_weights_alone_and_source_alone(here, repository, capsys):
    rfcn_demo([*QUICK, "--weights", str(repository / "rfcn.pth"), "--out", "a"])
    assert len(boxes_in(here / "a" / "clip2")) == 2
    assert f"detector: {repository / 'rfcn.pth'} (rfcn, 5 classes)" in capsys.readouterr().out
    rfcn_demo([*QUICK, "--source", str(repository / "data" / "demo" / "clip10")])
    assert len(boxes_in(here / "output" / "demo" / "rfcn" / "clip10")) == 3
    rfcn_demo([*QUICK, "--source", str(repository / "data" / "demo" / "clip10"), "--out", "b", "--limit", "1"])
    assert len(boxes_in(here / "b")) == 1


def test_a_line_says_what_the_shipped_detector_knows_of_frames_of_the_users(here, repository, capsys):
    line = (
        "knows ten kinds of drawn objects only (model/README.md); for other objects give a detector of yours: --weights"
    )
    (here / "mine").mkdir()
    cv2.imwrite(str(here / "mine" / "0.png"), clip(1)[0])
    rfcn_demo([*QUICK, "--source", "mine"])
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("detector: ")
    assert line in lines[1]
    for others in (
        ["--source", str(repository / "data" / "demo" / "clip2")],
        ["--source", "mine", "--weights", str(repository / "rfcn.pth")],
        [],
    ):
        rfcn_demo([*QUICK, *others])
        assert line not in capsys.readouterr().out


def test_an_empty_source_is_not_the_shipped_clips(here):
    with pytest.raises(SourceError, match="the source is an empty name"):
        rfcn_demo([*QUICK, "--source", ""])
    assert not list(here.iterdir())


def test_what_is_missing_is_one_clear_error(here, repository, monkeypatch):
    monkeypatch.setattr(shipped, "CLIPS", here / "data" / "demo")
    with pytest.raises(SourceError, match=r"^data.demo: there are no clips.*give frames with --source"):
        dff_demo(QUICK)
    monkeypatch.setattr(shipped, "DETECTORS", here / "model")
    with pytest.raises(CheckpointError, match=r"^model.demo_dff\.pth: there is no such file.*give one with --weights"):
        dff_demo(QUICK)
    with pytest.raises(SourceError, match="no clips"):
        dff_demo([*QUICK, "--weights", str(repository / "dff.pth")])
    with pytest.raises(CheckpointError, match="no such file"):
        dff_demo([*QUICK, "--source", str(repository / "data" / "demo" / "clip2")])
    assert not list(here.iterdir())


@pytest.mark.parametrize(
    ("source", "name"),
    [
        ("my.mp4", "my"),
        ("videos/my.holiday.mp4", "my.holiday"),
        ("frames/", "frames"),
        ("camera:0", "camera_0"),
        ("rtsp://user:secret@host:554/live/front?x=1", "front"),
        ("http://host/a/clip.webm", "clip"),
        ("frames/*.jpg", "video"),
        ("..", "video"),
        (".", "video"),
    ],
)
def test_names_of_result_folders(source, name):
    assert source_name(source) == name


@pytest.mark.parametrize(
    ("method", "show", "shape"),
    [
        ("dff", "all", (480, 640 + 320)),  # flow above features
        ("dff", "flow", (480, 640 + 640)),
        ("dff", "keys", (480, 640)),
        ("fgfa", "all", (480 + 80, 640 + 320)),  # and the weights below
        ("fgfa", "weights", (480 + 80, 640)),
        ("rfcn", "all", (480, 640 + 640)),  # features alone
    ],
)
def test_what_the_network_computed_is_shown_in_the_pictures(method, show, shape, here, repository):
    source = str(repository / "data" / "demo" / "clip10")
    DEMOS[method]([*QUICK, "--source", source, "--out", "shown", "--show", show, "--pictures"])
    for number in range(3):
        assert cv2.imread(str(here / "shown" / "frames" / f"{number:06d}.jpg")).shape == (*shape, 3)
    DEMOS[method]([*QUICK, "--source", source, "--out", "plain"])
    assert boxes_in(here / "shown") == boxes_in(here / "plain")


@pytest.mark.parametrize(
    ("method", "show", "message"),
    [
        ("rfcn", "flow", "--show flow: this method has no flow; dff and fgfa have"),
        ("rfcn", "features,keys", "--show keys: .* dff has"),
        ("dff", "weights", "--show weights: .* fgfa does"),
    ],
)
def test_what_a_method_does_not_compute_is_named(method, show, message, here, repository):
    source = str(repository / "data" / "demo" / "clip2")
    with pytest.raises(ShowError, match=message):
        DEMOS[method]([*QUICK, "--source", source, "--out", "shown", "--show", show])
    assert not list((here / "shown").glob("*"))
    with pytest.raises(ShowError, match="TEST.SEQ_NMS=false"):
        DEMOS[method]([*QUICK, "--source", source, "--show", "all", "TEST.SEQ_NMS=true"])
