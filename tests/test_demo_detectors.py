"""The detectors and clips that come with the repository: right boxes, and files that are those of the model card."""

import hashlib
import json
import re
from pathlib import Path

import numpy as np
import pytest

from lib import load_detector
from lib.engine.shipped import shipped_clips, shipped_detector

ROOT = Path(__file__).resolve().parents[1]
METHODS = ("rfcn", "dff", "fgfa")
TRUTH = json.loads((ROOT / "tests/golden/demo_clips.json").read_text())  # the generator's annotations of the clips
LEAST_OVERLAP = 0.5


def overlap(a, b):
    """IoU of two boxes x1, y1, x2, y2 with inclusive corners."""
    width = min(a[2], b[2]) - max(a[0], b[0]) + 1
    height = min(a[3], b[3]) - max(a[1], b[1]) + 1
    if width <= 0 or height <= 0:
        return 0.0
    areas = [(box[2] - box[0] + 1) * (box[3] - box[1] + 1) for box in (a, b)]
    return width * height / (sum(areas) - width * height)


@pytest.mark.parametrize("clip", TRUTH)
@pytest.mark.parametrize("method", METHODS)
def test_finds_what_the_clips_show(method, clip):
    """As the model card says; another processor's rounding may move a box or two over a threshold."""
    detector = load_detector(shipped_detector(method), device="cpu", score_threshold=0.7)
    objects = found = wrong = 0
    for (_, detections), truth in zip(detector(ROOT / "data/demo" / clip), TRUTH[clip], strict=True):
        left = [(detector.class_names[d.label], np.asarray(d.box)) for d in detections]
        objects += len(truth)
        for name, *box in truth:
            mine = next((d for d in left if d[0] == name and overlap(d[1], box) > LEAST_OVERLAP), None)
            if mine is not None:
                found += 1
                left = [d for d in left if d is not mine]
        wrong += len(left)
    card = (ROOT / "model/README.md").read_text(encoding="utf-8")
    said_objects, *said = re.search(rf"^\| `{clip}` \| (\d+) \| (.*) \|$", card, re.M)[0].split("|")[2:-1]
    said_found, said_wrong = map(int, said[METHODS.index(method)].split(","))
    assert objects == int(said_objects)
    assert found >= 0.8 * objects
    assert abs(found - said_found) <= 2
    assert abs(wrong - said_wrong) <= 2


def test_the_model_card_has_the_files_sums():
    card = (ROOT / "model/README.md").read_text(encoding="utf-8")
    said = dict(re.findall(r"\| `(\w+\.pth)` \|.*`([0-9a-f]{64})` \|", card))
    files = sorted((ROOT / "model").glob("demo_*.pth"))
    assert [path.name for path in files] == ["demo_dff.pth", "demo_fgfa.pth", "demo_rfcn.pth"]
    for path in files:
        assert hashlib.sha256(path.read_bytes()).hexdigest() == said[path.name], path.name


def test_what_comes_along_stays_small():
    clips = [frame for clip in shipped_clips() for frame in clip.iterdir()]
    assert len(shipped_clips()) == 3
    assert sum(path.stat().st_size for path in [*clips, *(ROOT / "model").glob("demo_*.pth")]) < 40e6
