"""Export a trained detector: its networks as ONNX files and torch.export programs, and what is needed to run them.

R-FCN gives the network of a frame (`key`), Deep Feature Flow that and the network of the frames between (`nonkey`),
FGFA the network of a frame's maps (`maps`) and the aggregation step (`aggregate`). Each is written as NAME.onnx, of
standard operators, and as NAME.pt2, which needs `import lib.ops` to load and computes what the detector computes, bit
for bit. Boxes and class probabilities come out; suppression of overlapping boxes is left to the caller. `export.json`
says which frames they take, how these are made network input, and the rules of testing. docs/export.md has an example.

Networks are exported in float32 for one size of frame and one frame at a time. Both forms are compared with the
detector on random input, and the largest differences are printed.

Example: python tools/export.py --weights output/dff.pth --frame-size 720 1280 --out output/dff_export
"""

from __future__ import annotations

import argparse
import importlib
import importlib.util
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from dff.key_frames import key_frame_rule
from dff.model import DFF
from fgfa.export import AggregationNetwork
from fgfa.model import FGFA
from lib.command_line import positive_count, run_script
from lib.data.transforms import Preprocessing
from lib.engine.checkpoint import CheckpointError, read_identity
from lib.engine.provenance import file_digest
from lib.engine.run import METHODS, Run, method_called, open_run
from lib.engine.weights import load_weights
from lib.errors import InputError
from lib.files import check_output, replacing, write_json
from lib.models.build import build_postprocess
from lib.models.export_parts import KeyNetwork, MapNetwork, NonKeyNetwork, export_form
from lib.models.video_model import VideoModel
from lib.version import __version__, commit

FORMATS = ("onnx", "pt2")
PACKAGES = ("onnx", "onnxscript", "onnxruntime")
SETTINGS = "export.json"


class ExportError(InputError):
    """What cannot be exported; the message says what to do."""


def parse_arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights", required=True, metavar="FILE", help="a checkpoint that says what it is")
    parser.add_argument(
        "--frame-size", required=True, type=positive_count, nargs=2, metavar=("H", "W"), help="of the original frames"
    )
    parser.add_argument("--out", required=True, type=Path, metavar="DIR", help="folder for the files")
    parser.add_argument("--formats", nargs="+", choices=FORMATS, default=list(FORMATS), help="default: both")
    parser.add_argument("overrides", nargs="*", metavar="KEY=VALUE", help="configuration values, TEST.NMS=0.5")
    return parser.parse_intermixed_args(argv)


@dataclass
class Part:
    """A network to be exported: its name, an example of each input by name, and the names of its outputs."""

    name: str
    module: nn.Module
    inputs: dict[str, Tensor]
    outputs: tuple[str, ...]


def parts_of(model: VideoModel, height: int, width: int, scale: float) -> list[Part]:
    """The networks of `model` for network input of that size, with random input. Raises ExportError."""
    image = torch.randn(1, 3, height, width)
    im_info = torch.tensor([[height, width, scale]], dtype=torch.float32)
    found = ("boxes", "probabilities")
    if isinstance(model, FGFA):
        maps = Part("maps", MapNetwork(model, model.test_rule.embed_after_warp), {"image": image}, ("maps",))
        number = 2 * model.reach + model.test_rule.aggregate_current
        if model.causal:
            number -= model.reach
        images = torch.randn(number, 3, height, width)
        others = torch.cat([maps.module(one[None]) for one in images])
        image, current = images[:1].clone(), others[:1].clone()  # of views the exporter does not fix the sizes
        inputs = {"image": image, "maps": current, "images": images, "other_maps": others, "im_info": im_info}
        return [maps, Part("aggregate", AggregationNetwork(model), inputs, found)]
    key = Part("key", KeyNetwork(model), {"image": image, "im_info": im_info}, ("features", *found))
    if not isinstance(model, DFF):
        return [key]
    if model.rule.both:
        raise ExportError(
            "TEST.PROPAGATE_FROM=both or both_by_similarity: blended features are not exported; set "
            "TEST.PROPAGATE_FROM=own"
        )
    inputs = {
        "image": torch.randn_like(image),
        "key_image": image,
        "key_features": key.module(image, im_info)[0],
        "im_info": im_info,
    }
    return [key, Part("nonkey", NonKeyNetwork(model), inputs, found)]


def export_part(part: Part, folder: Path, formats: Sequence[str]) -> dict[str, dict[str, float]]:
    """Write `part`; for each format and output the largest difference from the detector on the example input."""
    with torch.no_grad():
        wanted = part.module(*part.inputs.values())
        torch.compiler.reset()  # what was traced before in this process would make sizes that differ symbolic
        program = torch.export.export(part.module, tuple(part.inputs.values()))
    wanted = (wanted,) if isinstance(wanted, Tensor) else wanted
    differences = {}
    if "pt2" in formats:
        with replacing(folder / f"{part.name}.pt2") as path:
            torch.export.save(program, path)
        loaded = torch.export.load(folder / f"{part.name}.pt2").module()
        with torch.no_grad():
            got = loaded(*part.inputs.values())
        differences["pt2"] = _differences(part, wanted, (got,) if isinstance(got, Tensor) else got)
    if "onnx" in formats:
        with replacing(folder / f"{part.name}.onnx") as path:
            _write_onnx(part, program, path)
        differences["onnx"] = _differences(part, wanted, _run_onnx(part, folder / f"{part.name}.onnx"))
    return differences


def _write_onnx(part: Part, program: torch.export.ExportedProgram, path: Path) -> None:
    from lib.models.onnx_ops import OPSET, translations

    exported = torch.onnx.export(
        program,
        dynamo=True,
        custom_translation_table=translations(),
        opset_version=OPSET,
        input_names=list(part.inputs),
        output_names=list(part.outputs),
        optimize=False,  # the exporter's optimiser takes the 1e-10 under the root of FGFA's similarity for 0
        verbose=False,
    )
    exported.save(path)


def _run_onnx(part: Part, path: Path) -> list[Tensor]:
    import onnxruntime

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    taken = {one.name for one in session.get_inputs()}
    got = session.run(list(part.outputs), {k: v.numpy() for k, v in part.inputs.items() if k in taken})
    return [torch.from_numpy(one) for one in got]


def _differences(part: Part, wanted: Sequence[Tensor], got: Sequence[Tensor]) -> dict[str, float]:
    return {name: float((one - other).abs().max()) for name, one, other in zip(part.outputs, wanted, got, strict=True)}


def settings_of(run: Run, model: VideoModel, class_names: Sequence[str], args: argparse.Namespace) -> dict[str, Any]:
    """The content of export.json; see docs/export.md."""
    preprocess = Preprocessing.from_config(run.cfg)
    frame = preprocess(np.zeros((*args.frame_size, 3), np.uint8))
    rule = build_postprocess(run.cfg, run.method.score_threshold, raw=False)
    settings: dict[str, Any] = {
        "method": run.method.name,
        "class_names": ["background", *class_names],
        "frame_size": list(args.frame_size),
        "input_size": list(frame.image.shape[1:]),
        "scale": frame.scale,
        "means_bgr": list(preprocess.means_bgr),
        "stds_bgr": list(preprocess.stds_bgr),
        "score_threshold": rule.score_threshold,
        "nms_threshold": rule.nms_threshold,
        "max_per_image": rule.max_per_image,
        "made_with": {"weights": file_digest(run.weights), "version": __version__, "commit": commit()},
    }
    if isinstance(model, DFF):
        settings["key_frame_interval"] = key_frame_rule(run.cfg).interval
    if isinstance(model, FGFA):
        centre = [0] if model.test_rule.aggregate_current else []
        last = 0 if model.causal else model.reach
        settings["window"] = centre + [offset for offset in range(-model.reach, last + 1) if offset]
    return settings


def check_packages(formats: Sequence[str]) -> None:
    """Raise ExportError where ONNX is wanted and a package for it is not installed."""
    missing = [name for name in PACKAGES if importlib.util.find_spec(name) is None] if "onnx" in formats else []
    if missing:
        raise ExportError(
            f"ONNX files need {', '.join(missing)}, which {'is' if len(missing) == 1 else 'are'} not installed; "
            f"pip install {' '.join(missing)}, or give --formats pt2"
        )


def main(argv: Sequence[str] | None = None) -> dict[str, dict[str, dict[str, float]]]:
    """Export what `argv` asks for; the differences by network, format and output. Raises InputError."""
    args = parse_arguments(argv)
    check_packages(args.formats)
    check_output(args.out / SETTINGS)
    identity = read_identity(args.weights)
    if identity is None or identity.method not in METHODS:
        raise CheckpointError(f"{args.weights}: does not say that it is for one of {', '.join(METHODS)}")
    method = method_called(identity.method)
    run = open_run(method, torch.device("cpu"), overrides=args.overrides, weights=args.weights)
    classes = run.trained_classes()
    model = method.build(run.cfg, classes.num_classes)
    load_weights(model, run.weights)
    settings = settings_of(run, model, classes.names, args)
    torch.manual_seed(0)
    with torch.no_grad():
        parts = parts_of(export_form(model), *settings["input_size"], settings["scale"])
    differences = {}
    for part in parts:
        differences[part.name] = export_part(part, args.out, args.formats)
        for kind, by_output in differences[part.name].items():
            shown = ", ".join(f"{name} {value:.1e}" for name, value in by_output.items())
            print(f"{args.out / part.name}.{kind}: largest difference from the detector: {shown}")
    write_json(args.out / SETTINGS, settings)
    return differences


if __name__ == "__main__":
    run_script(main)
