"""The Python API: `load_detector` with files that say what they are, older ones, others, and its arguments."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

import lib
from lib import load_detector
from lib.checkpoints.mxnet_params import write_params
from lib.checkpoints.mxnet_state import BoxRule, params_from_state
from lib.config import ConfigError
from lib.engine.checkpoint import CheckpointError
from lib.engine.device import DeviceError
from lib.models.mxnet_names import mxnet_names
from tests.models.small import assert_same_detections
from tests.models.small_checkpoints import (
    CLASSES,
    METHODS,
    clip,
    small_method_config,
    small_model,
    write_old_checkpoint,
)
from tests.video_detector.comparison import ALL, LENGTH, assert_equal, better_half


def test_classes_and_settings_come_from_the_checkpoint(detectors, checkpoint):
    for method, detector in detectors.items():
        assert detector.class_names[0] == "background"
        assert tuple(detector.class_names[1:]) == CLASSES.names
        assert detector.method == method
        assert detector.cfg == small_method_config(method)
        assert detector.device == torch.device("cpu")
        assert not detector.model.training
        labels = {d.label for _, found in detector(clip(2)) for d in found}
        assert labels <= set(range(1, 6))
    assert lib.load_detector is load_detector
    assert isinstance(detectors["rfcn"], lib.VideoDetector)
    changed = load_detector(checkpoint("dff"), device="cpu", overrides=["TEST.KEY_FRAME_INTERVAL=2"])
    assert [f.inside.references for f, _ in changed(clip(4), inside=True)] == [[], [0], [], [2]]


@pytest.mark.parametrize("precision", ["bfloat16", "int8"])
def test_precision_is_an_argument(checkpoint, precision):
    if precision == "int8" and not torch.cpu._is_vnni_supported():
        pytest.skip("needs a processor with AVX-512 VNNI")
    reduced, plain = (load_detector(checkpoint("rfcn"), device="cpu", precision=name) for name in (precision, ""))
    assert (precision, "float32") == (reduced.cfg.PRECISION, plain.cfg.PRECISION)
    frame = np.random.default_rng(0).integers(0, 256, (96, 128, 3), np.uint8)
    maps = [next(iter(one([frame], inside=True)))[0].inside.features.float() for one in (reduced, plain)]
    difference = float((maps[0] - maps[1]).abs().max() / maps[1].abs().max())
    assert 0 < difference < 0.1
    with pytest.raises(ConfigError, match="'PRECISION' must be one of"):
        load_detector(checkpoint("rfcn"), device="cpu", precision="int4")


@ALL
def test_threshold_and_nms(checkpoint, expected, method):
    plain = expected(method)
    threshold, kept = better_half(plain)
    strict = load_detector(checkpoint(method), device="cpu", score_threshold=threshold)
    assert_equal(strict(clip(LENGTH)), kept)
    loose = load_detector(checkpoint(method), device="cpu", nms=0.7)
    wanted = expected(method, None, "TEST.NMS=0.7")
    assert sum(len(found) for _, found in wanted) > sum(len(found) for _, found in plain)
    assert_equal(loose(clip(LENGTH)), wanted)


def test_no_threshold_is_the_methods_own(checkpoint, expected):
    everything = load_detector(checkpoint("dff"), device="cpu", score_threshold=0.0)
    assert_equal(everything(clip(2)), expected("dff", clip(2), threshold=1e-4))


def test_weights_of_another_method_are_refused(checkpoint):
    with pytest.raises(CheckpointError, match=r"rfcn\.pth: holds a detector of method 'rfcn', not 'dff'"):
        load_detector(checkpoint("rfcn"), device="cpu", method="dff")


def test_a_file_can_name_only_our_methods(checkpoint, tmp_path):
    """It must not be able to have any module imported."""
    content = torch.load(checkpoint("rfcn"), weights_only=True) | {"method": "tests.conftest"}
    torch.save(content, tmp_path / "a.pth")
    with pytest.raises(CheckpointError, match="is for method 'tests.conftest', which is not one of ours"):
        load_detector(tmp_path / "a.pth", device="cpu")
    mine = replace(METHODS["rfcn"], name="tests.conftest")
    assert load_detector(tmp_path / "a.pth", device="cpu", method=mine).method == "tests.conftest"


@ALL
def test_files_that_do_not_say_what_they_are(expected, tmp_path, method):
    """Older checkpoints, and MXNet's."""
    old = write_old_checkpoint(tmp_path / "old.pth", method)
    state = small_model(method).state_dict()
    params, _ = params_from_state(state, mxnet_names(small_model(method)), BoxRule())
    mxnet = write_params(tmp_path / "my.params", params)
    classes = tmp_path / "classes.txt"
    classes.write_text("\n".join(f"{a} {n}" for a, n in zip(CLASSES.annotation_names, CLASSES.names, strict=True)))
    cfg = tmp_path / "cfg.yaml"
    interval = {"rfcn": 0, "dff": 3, "fgfa": 2}[method]
    cfg.write_text(
        "SCALES: [[96, 128]]\n"
        "network: {DEPTH: 18, WIDTH: 16, FEAT_DIM: 32, ANCHOR_RATIOS: [0.5, 1], ANCHOR_SCALES: [2, 4],\n"
        "          FLOW_WIDTH: 0.125, FGFA_FEAT_DIM: 48, PIXEL_MEANS: [110, 110, 110]}\n"
        f"TEST: {{RPN_POST_NMS_TOP_N: 50, KEY_FRAME_INTERVAL: {interval}}}\n"
        f"dataset: {{CLASSES: {classes}}}\n"
    )
    for path in (old, mxnet):
        with pytest.raises(CheckpointError, match=rf"{path.name}: does not say which method it is for; give method="):
            load_detector(path, device="cpu")
        with pytest.raises(ConfigError, match=rf"{path.name}: no configuration; .*"):
            load_detector(path, device="cpu", method=method)
        detector = load_detector(path, device="cpu", method=method, cfg=cfg)
        assert tuple(detector.class_names) == ("background", *CLASSES.names)
        answers = list(detector(clip(3)))
        assert_same_detections([f for _, f in answers], [f for _, f in expected(method, clip(3))])


def test_what_cannot_be_loaded_is_named(checkpoint, tmp_path):
    with pytest.raises(CheckpointError, match=r"none\.pth: there is no such file"):
        load_detector(tmp_path / "none.pth", device="cpu")
    (tmp_path / "text.pth").write_text("not a checkpoint")
    with pytest.raises(CheckpointError, match=r"text\.pth: cannot be read as a checkpoint"):
        load_detector(tmp_path / "text.pth", device="cpu")
    with pytest.raises(DeviceError, match="toaster"):
        load_detector(checkpoint("rfcn"), device="toaster")
    with pytest.raises(ConfigError, match="TEST.NMS"):
        load_detector(checkpoint("rfcn"), device="cpu", nms=3.0)
    with pytest.raises(ConfigError, match="TRAIN.nothing"):
        load_detector(checkpoint("rfcn"), device="cpu", overrides=["TRAIN.nothing=1"])
