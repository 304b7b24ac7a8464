"""Detectors of finished tests, timed again: which weights, which settings, which frames."""

from __future__ import annotations

from dataclasses import replace

import cv2
import pytest

from lib.config import ConfigError, to_dict
from lib.engine.checkpoint import CheckpointError
from lib.engine.turns import detector_of_test, time_in_turns
from lib.files import sha256_of
from tests.models.small_checkpoints import CLASSES, clip, small_method_config, write_checkpoint, write_old_checkpoint


@pytest.fixture
def made_with(tmp_path):
    """What a test of a small DFF leaves behind, with a data set of two videos."""
    data = tmp_path / "data"
    for number, length in ((0, 3), (1, 2)):
        (data / "Data" / "VID" / f"v{number}").mkdir(parents=True)
        for index, image in enumerate(clip(length, seed=number)):
            cv2.imwrite(str(data / "Data" / "VID" / f"v{number}" / f"{index:06d}.JPEG"), image)
    (data / "Annotations" / "VID").mkdir(parents=True)
    (data / "ImageSets").mkdir()
    (data / "ImageSets" / "VID_val_videos.txt").write_text("v0 1 0 3\nv1 4 0 2\n")
    names = zip(CLASSES.names, CLASSES.annotation_names, strict=True)
    (data / "classes.txt").write_text("".join(f"{code} {name}\n" for name, code in names))
    path = write_checkpoint(tmp_path / "dff.pth", "dff")
    cfg = to_dict(small_method_config("dff", "TEST.NMS=0.45", f"dataset.dataset_path={data}"))
    cfg["dataset"]["root_path"] = str(tmp_path / "cache")
    return {"weights": {"path": str(path), "sha256": sha256_of(path)}, "configuration": cfg}


def test_the_detector_is_the_one_that_was_tested(made_with):
    detector, source = detector_of_test(made_with, "cpu")
    assert (detector.method, detector.cfg.TEST.NMS, source.length) == ("dff", 0.45, 3)


def test_what_is_not_the_tests_any_more_is_named(made_with, tmp_path):
    path = made_with["weights"]["path"]
    with pytest.raises(ConfigError, match="did not keep the configuration"):
        detector_of_test(made_with | {"configuration": None}, "cpu")
    write_old_checkpoint(tmp_path / "old.pth", "dff")
    old = {"path": str(tmp_path / "old.pth"), "sha256": sha256_of(tmp_path / "old.pth")}
    with pytest.raises(CheckpointError, match=r"old\.pth: does not say which method"):
        detector_of_test(made_with | {"weights": old}, "cpu")
    write_checkpoint(tmp_path / "dff.pth", "dff", name="another")
    for changed in (made_with, made_with | {"weights": None}, {}):
        with pytest.raises(CheckpointError, match="not the weights of the test any more; test again"):
            detector_of_test(changed, "cpu")
    assert path.endswith("dff.pth")


class Turn:
    """A detector whose turns take the times that it was given."""

    def __init__(self, name, milliseconds, order):
        self.name, self.milliseconds, self.order = name, iter(milliseconds), order

    def __call__(self, source, timing):
        self.order.append((self.name, source))
        yield "an answer"
        timing.frames += 10
        timing.net += next(self.milliseconds) / 100


def test_every_round_gives_each_its_turn_and_the_first_does_not_count():
    order, shown = [], []
    detectors = [(Turn("a", [900, 1, 3, 2], order), "x"), (Turn("b", [0, 7, 5, 60], order), "y")]
    assert time_in_turns(detectors, 3, lambda: shown.append(1)) == pytest.approx([2, 7])
    assert order == [("a", "x"), ("b", "y")] * 4
    assert len(shown) == 4


def test_the_table_takes_the_times_of_the_turns(monkeypatch, tmp_path):
    from tests.tools.test_compare_methods import leave_run
    from tools import compare_methods

    runs = [f"{name}={leave_run(tmp_path / name, 1.0, all=0.5, fast=0, medium=0, slow=0)}" for name in ("A", "B")]
    tested = [compare_methods.TestedRun.of(run, 0) for run in runs]
    monkeypatch.setattr(compare_methods, "detector_of_test", lambda made_with, device: (made_with, device))
    monkeypatch.setattr(compare_methods, "time_in_turns", lambda detectors, rounds, show: [8.0, 2.0][: len(detectors)])
    timed = compare_methods.timed_in_turns(tested, 2, "cpu")
    assert timed == [replace(tested[0], ms_per_frame=8.0), replace(tested[1], ms_per_frame=2.0)]
    assert timed[1].speed_up(timed[0]) == 4
