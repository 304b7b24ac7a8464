"""Exported networks: what they compute, on input that the export has not seen, against the detector in PyTorch."""

from __future__ import annotations

import importlib.util
import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch

from lib import load_detector
from lib.data.transforms import Preprocessing
from lib.engine.checkpoint import CheckpointError
from lib.errors import InputError
from lib.models.postprocess import PostProcess, RawDetections
from lib.ops import flow_warp, proposals
from lib.ops.flow_warp import flow_warp_reference
from lib.ops.proposals import proposals_reference
from lib.structures import Detections
from tests.models.small import assert_same_detections
from tests.models.small_checkpoints import (
    CLASSES,
    METHODS,
    clip,
    small_method_config,
    write_checkpoint,
    write_old_checkpoint,
)
from tools import export

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "export.md").read_text(encoding="utf-8")
FILES = {"rfcn": ["key"], "dff": ["key", "nonkey"], "fgfa": ["aggregate", "maps"]}
HAS_ONNX = all(importlib.util.find_spec(name) for name in export.PACKAGES)
FORMATS = export.FORMATS if HAS_ONNX else ("pt2",)
needs_onnx = pytest.mark.skipif(
    not HAS_ONNX,
    reason="needs onnx, onnxscript and onnxruntime, which are optional: pip install onnx onnxscript onnxruntime",
)


def settings_in(folder):
    return json.loads((folder / "export.json").read_text())


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """A function: method -> the folder that the tool wrote, and the differences that it found."""
    made = {}

    def run(method):
        if method not in made:
            folder = tmp_path_factory.mktemp(method)
            weights = write_checkpoint(folder / "weights.pth", method)
            arguments = ["--weights", str(weights), "--frame-size", "96", "128", "--out", str(folder / "out")]
            made[method] = folder / "out", export.main([*arguments, "--formats", *FORMATS])
        return made[method]

    return run


IM_INFO = torch.tensor([[96.0, 128.0, 1.0]])
KINDS = pytest.mark.parametrize("kind", ["pt2", pytest.param("onnx", marks=needs_onnx)])


def images_of(frames):
    """The network input (L, 3, 96, 128) of the frames of a clip."""
    preprocess = Preprocessing.from_config(small_method_config("rfcn"))
    return torch.stack([preprocess(frame).image for frame in frames])


def rule_of(settings):
    return PostProcess(settings["score_threshold"], settings["nms_threshold"], settings["max_per_image"])


def answers_of(folder, frames):
    """The detections of the detector that was exported."""
    return list(load_detector(folder.parent / "weights.pth", device="cpu", score_threshold=0.0)(frames))


def run_file(path, inputs):
    if path.suffix == ".pt2":
        with torch.no_grad():
            found = torch.export.load(path).module()(*inputs.values())
        return [found] if isinstance(found, torch.Tensor) else list(found)
    import onnxruntime

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return [torch.from_numpy(one) for one in session.run(None, {k: v.numpy() for k, v in inputs.items()})]


@pytest.mark.parametrize("method", METHODS)
def test_files_and_settings_are_complete(exported, method):
    folder, differences = exported(method)
    expected = ["export.json", *(f"{name}.{kind}" for name in FILES[method] for kind in FORMATS)]
    assert sorted(path.name for path in folder.iterdir()) == sorted(expected)
    assert sorted(differences) == FILES[method]
    # Measured: 0 for programs, up to 2e-5 in coordinates of up to 128 pixels for ONNX
    for kind, most in (("pt2", 0.0), ("onnx", 1e-4)):
        assert all(value <= most for found in differences.values() for value in found.get(kind, {}).values())
    settings = settings_in(folder)
    assert (settings["method"], settings["class_names"]) == (method, ["background", *CLASSES.names])
    assert (settings["input_size"], settings["scale"]) == ([96, 128], 1.0)
    assert settings.get("key_frame_interval") == (3 if method == "dff" else None)
    assert settings.get("window") == ([0, -2, -1, 1, 2] if method == "fgfa" else None)


@KINDS
@pytest.mark.parametrize("method", ["rfcn", "dff"])
def test_frames_of_a_clip_give_the_detections_of_the_detector(exported, method, kind):
    folder, _ = exported(method)
    frames, settings = clip(5), settings_in(folder)
    images, found = images_of(frames), []
    for place, (frame, _) in enumerate(answers := answers_of(folder, frames)):
        if place % settings.get("key_frame_interval", 1) == 0:
            key_image = images[place : place + 1]
            features, *raw = run_file(folder / f"key.{kind}", {"image": key_image, "im_info": IM_INFO})
        else:
            inputs = {"image": images[place : place + 1], "key_image": key_image, "key_features": features}
            raw = run_file(folder / f"nonkey.{kind}", inputs | {"im_info": IM_INFO})
        found += rule_of(settings)(RawDetections([frame], *raw))
    assert_same_detections(found, [detections for _, detections in answers])
    assert min(len(one) for one in found) > 0


@KINDS
def test_aggregation_over_a_clip_gives_the_detections_of_fgfa(exported, kind):
    """Beyond the clip's ends the caller repeats a frame; the detector counts it several times instead."""
    folder, _ = exported("fgfa")
    frames, settings = clip(4), settings_in(folder)
    images, found = images_of(frames), []
    maps = torch.cat([run_file(folder / f"maps.{kind}", {"image": one[None]})[0] for one in images])
    for place, (frame, _) in enumerate(answers := answers_of(folder, frames)):
        chosen = [min(max(place + offset, 0), len(images) - 1) for offset in settings["window"]]
        inputs = {"image": images[place : place + 1], "maps": maps[place : place + 1]}
        inputs |= {"images": images[chosen], "other_maps": maps[chosen], "im_info": IM_INFO}
        found += rule_of(settings)(RawDetections([frame], *run_file(folder / f"aggregate.{kind}", inputs)))
    assert_same_detections(found, [detections for _, detections in answers])
    assert min(len(one) for one in found) > 0


@needs_onnx
def test_the_example_of_the_page_detects_as_the_detector_does(exported):
    folder, _ = exported("dff")
    example, _ = re.findall(r"^```python\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
    assert re.findall(r"^(?:import|from) (\w+)", example, re.MULTILINE) == [
        "json", "pathlib", "cv2", "numpy", "onnxruntime",
    ]  # fmt: skip
    names: dict = {}
    exec(compile(example, "docs/export.md", "exec"), names)
    frames = clip(5)
    found = list(names["ExportedDFF"](folder)(frames))
    for mine, (_, wanted) in zip(found, answers_of(folder, frames), strict=True):
        order = sorted(range(len(mine)), key=lambda i: CLASSES.names.index(mine[i][0]))
        mine = Detections(
            torch.tensor(np.array([mine[i][2] for i in order])),
            torch.tensor([mine[i][1] for i in order]),
            torch.tensor([CLASSES.names.index(mine[i][0]) + 1 for i in order]),
        )
        assert_same_detections([mine], [wanted])


@needs_onnx
@pytest.mark.parametrize("size", [(2, 9), (7, 5)])
def test_the_warp_in_onnx_has_the_border_of_ours(tmp_path, size):
    """Flows beyond every side, onto whole cells, and of one map for several frames."""
    generator = torch.Generator().manual_seed(1)
    feature, flow = torch.randn(1, 3, *size, generator=generator), 4 * torch.randn(4, 2, *size, generator=generator)
    flow[0] = flow[0].round()
    scale = torch.randn(4, 3, *size, generator=generator)

    class Warp(torch.nn.Module):
        def forward(self, feature, flow, scale):
            return flow_warp(feature, flow, scale)

    inputs = {"feature": feature, "flow": flow, "scale": scale}
    export.export_part(export.Part("warp", Warp(), inputs, ("warped",)), tmp_path, ["onnx"])
    (found,) = run_file(tmp_path / "warp.onnx", inputs)
    torch.testing.assert_close(found, flow_warp_reference(feature, flow, scale), atol=2e-5, rtol=0)


@needs_onnx
def test_proposals_in_onnx_have_the_rules_that_are_easily_missed(tmp_path):
    """Cells outside the image and boxes that are too small, more survivors wanted than there are, equal scores."""
    generator = torch.Generator().manual_seed(2)
    anchors = torch.tensor([[-8.0, -8, 23, 23], [-24, -8, 39, 23]])
    scores = torch.rand(1, 4, 4, 6, generator=generator).mul(8).round() / 8
    deltas = 0.4 * torch.randn(1, 8, 4, 6, generator=generator)
    im_info = torch.tensor([[50.0, 81.0, 1.5]])  # the last row and column of cells lie outside
    for name, post, least in (("few", 12, 24.0), ("all", 60, 0.0)):

        class Proposals(torch.nn.Module):
            def forward(self, scores, deltas, im_info, anchors, post=post, least=least):
                return proposals(scores, deltas, im_info, anchors, 16, 40, post, 0.5, least)

        inputs = {"scores": scores, "deltas": deltas, "im_info": im_info, "anchors": anchors}
        export.export_part(export.Part(name, Proposals(), inputs, ("rois", "found")), tmp_path, ["onnx"])
        found = run_file(tmp_path / f"{name}.onnx", inputs)
        for one, other in zip(found, proposals_reference(*inputs.values(), 16, 40, post, 0.5, least), strict=True):
            torch.testing.assert_close(one, other, atol=1e-4, rtol=0)


def test_what_cannot_be_exported_is_said(tmp_path, monkeypatch):
    size = ["--frame-size", "96", "128", "--out", str(tmp_path / "out"), "--formats", "pt2"]
    old = write_old_checkpoint(tmp_path / "old.pth", "dff")
    with pytest.raises(CheckpointError, match="old.pth: does not say that it is for one of rfcn, dff, fgfa"):
        export.main(["--weights", str(old), *size])
    weights = write_checkpoint(tmp_path / "dff.pth", "dff")
    for both in ("both", "both_by_similarity"):
        with pytest.raises(InputError, match="PROPAGATE_FROM=both.*: .* set TEST.PROPAGATE_FROM=own"):
            export.main(["--weights", str(weights), *size, "--", f"TEST.PROPAGATE_FROM={both}"])
    monkeypatch.setattr(export, "PACKAGES", ("json", "no_such_package"))
    with pytest.raises(InputError, match="need no_such_package, which is not installed; pip install no_such_package"):
        export.main(["--weights", str(weights), *size[:-1], "onnx"])
    assert not list((tmp_path / "out").glob("*.onnx"))
