"""Show the contents of a checkpoint or weight file: method, classes, configuration, progress, parameters by part.

FILE is one of this project's (.pth), of the originals' (.params), or of another project that convert_weights.py reads.
The configuration is shown where it differs from the defaults. No code in the file is run.

Example: python tools/inspect_checkpoint.py output/rfcn/resnet_v1_101/VID_train_15frames/rfcn_vid-0002.pth
Example: python tools/inspect_checkpoint.py model/rfcn_dff_flownet_vid-0000.params --json dff.json
"""

from __future__ import annotations

import argparse
import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lib.checkpoints.conversion import WeightsError
from lib.checkpoints.sizes import DETECTORS, KINDS, network_size
from lib.command_line import run_script
from lib.config import default_config, to_dict
from lib.config.originals import IGNORED
from lib.engine.checkpoint import IDENTITY, Identity
from lib.engine.weight_files import WeightFile, read_weight_file
from lib.files import check_output, sha256_of, write_json
from lib.models.mxnet_names import mxnet_name

# Beginning of the original name of a parameter -> the part of the network that it belongs to; the first that fits
_PARTS = (
    (r"(bn_)?conv1_|(res|bn)\d", "backbone (ResNet)"),
    (r"feat_conv_3x3_", "feature convolution"),
    (r"rpn_", "RPN"),
    (r"rfcn_", "R-FCN head"),
    (r"em_conv", "embedding"),
    (r"flow_conv1_|conv\d|Convolution\d|deconv\d|upsample_flow", "flow network (FlowNet-S)"),
)
_PROGRESS = ("epoch", "batch", "iteration")


def parse_arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", type=Path, metavar="FILE", help=".pth, .params, .pth.tar or .pkl")
    parser.add_argument("--json", metavar="OUT", help="also write all of it to this file")
    return parser.parse_args(argv)


def inspect(path: Path) -> dict[str, Any]:
    """All that is printed, as JSON values. Raises InputError."""
    try:
        file = read_weight_file(path)
    except WeightsError as error:
        raise WeightsError(f"{path}: {error}") from error
    found = {"file": str(path), "bytes": path.stat().st_size, "sha256": sha256_of(path)}
    found |= {"form": "MXNet parameters" if file.params else "weights"}
    if file.params is not None:
        found |= {"layout": file.params.layout, "test_entries": [n for n in file.params.names if n.endswith("_test")]}
    found |= _identity(file, path)
    found |= {"network": _network(file), "parts": _parts(file), "total": _total(file.arrays.values())}
    found["not_finite"] = [name for name, value in file.arrays.items() if not _is_finite(value)]
    known = {*_PROGRESS, *IDENTITY}
    found["also_holds"] = sorted(str(key) for key in file.rest if key not in known)
    return found


def _identity(file: WeightFile, path: Path) -> dict[str, Any]:
    """What the file records about itself: method, run, classes, code, progress, configuration."""
    identity = Identity.of_content(dict(file.rest), path)
    found: dict[str, Any] = {}
    if identity is not None:
        found["form"] = "checkpoint"
        found |= {"method": identity.method, "run": identity.name, "classes": list(identity.classes.names)}
        found |= {"version": identity.version, "commit": identity.commit}
    if all(isinstance(file.rest.get(key), int) for key in _PROGRESS):
        found |= {"form": "checkpoint"} | {key: file.rest[key] for key in _PROGRESS}
    config = file.rest.get("config")
    if isinstance(config, dict):
        found["configuration"] = config_differences(config)
    return found


def config_differences(config: Mapping[str, Any]) -> dict[str, Any]:
    """Full name -> value of the keys whose value is not the default, and of those that are not known here."""
    defaults = dict(_flat(to_dict(default_config())))
    return {
        name: value
        for name, value in _flat(config)
        if name not in IGNORED and (name not in defaults or defaults[name] != value)
    }


def _flat(section: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in section.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def _network(file: WeightFile) -> dict[str, Any]:
    """The kind and size of the network, from the names and shapes of its arrays."""
    try:
        kind = file.kind()
    except WeightsError as error:
        return {"kind": None, "reason": str(error).partition("; say")[0]}
    if kind not in KINDS:
        return {"kind": kind}
    size = network_size(file.original_shapes(), kind)
    network: dict[str, Any] = {"kind": kind}
    if kind != "flownet":
        network |= {"depth": size.values["DEPTH"], "width": size.values["WIDTH"]}
    if kind in DETECTORS:
        network |= {"classes_with_background": size.classes, "anchors": size.anchors}
        network["feature_channels"] = size.values["FEAT_DIM"]
    if kind in ("dff", "fgfa", "flownet"):
        network["flow_width"] = size.values["FLOW_WIDTH"]
    return network


def part_of(name: str, original: bool) -> str:
    """The part of the network that a parameter belongs to. original: whether `name` is an original name."""
    bare = re.sub(r"^(arg|aux):", "", name) if original else mxnet_name(name) or ""
    return next((part for pattern, part in _PARTS if re.match(pattern, bare)), "other")


def _parts(file: WeightFile) -> dict[str, dict[str, Any]]:
    parts: dict[str, list[Any]] = {}
    for name, value in file.arrays.items():
        parts.setdefault(part_of(name, file.params is not None), []).append(value)
    order = [part for _, part in _PARTS]
    return {part: _total(parts[part]) for part in (*order, "other") if part in parts}


def _total(values: Any) -> dict[str, Any]:
    arrays = [value for value in values if isinstance(value, (Tensor, np.ndarray))]
    sizes = [math.prod(array.shape) for array in arrays]
    return {
        "arrays": len(arrays),
        "parameters": sum(sizes),
        "bytes": sum(n * _item_size(array) for n, array in zip(sizes, arrays, strict=True)),
        "types": sorted({str(array.dtype).removeprefix("torch.") for array in arrays}),
    }


def _item_size(array: Tensor | np.ndarray) -> int:
    return array.element_size() if isinstance(array, Tensor) else array.itemsize


def _is_finite(value: Any) -> bool:
    if isinstance(value, Tensor):
        return bool(torch.isfinite(value).all())
    return not isinstance(value, np.ndarray) or value.dtype.kind != "f" or bool(np.isfinite(value).all())


def describe(found: dict[str, Any]) -> str:
    """What `inspect` found, in lines to read."""
    lines = [found["file"], f"  {found['form']}, {found['bytes']:,} bytes, sha256 {found['sha256']}"]
    if "layout" in found:
        entries = ", ".join(found["test_entries"]) or "none: its box weights are used as they are"
        lines += [f"  layout: {found['layout']}", f"  _test entries: {entries}"]
    if "method" in found:
        lines.append(f"  method: {found['method']}, run: {found['run'] or '-'}")
        lines.append(f"  written by version {found['version']}, commit {found['commit']}")
        lines.append(f"  classes: {len(found['classes'])}: {', '.join(found['classes'])}")
    if "epoch" in found:
        inside = f", {found['batch']} batches of the next" if found["batch"] else ""
        lines.append(f"  progress: {found['epoch']} epochs complete{inside}, {found['iteration']} updates")
    lines.append(f"  network: {_network_words(found['network'])}")
    lines += _part_lines({**found["parts"], "all": found["total"]})
    if found["not_finite"]:
        lines.append(f"  NOT FINITE: {len(found['not_finite'])} arrays: {', '.join(found['not_finite'][:10])}")
    if found["also_holds"]:
        lines.append(f"  also holds: {', '.join(found['also_holds'])}")
    if "configuration" in found:
        lines.append("  configuration, where it differs from the defaults:")
        differences = found["configuration"].items()
        lines += [f"    {name}: {json.dumps(value)}" for name, value in differences] or ["    nowhere"]
    return "\n".join(lines)


def _network_words(network: dict[str, Any]) -> str:
    if network["kind"] is None:
        return f"not recognised: {network['reason']}"
    words = [network["kind"]]
    if "depth" in network:
        words.append(f"ResNet-{network['depth']}, {network['width']} channels in its first convolution")
    if "anchors" in network:
        words.append(f"{network['classes_with_background']} classes with the background, {network['anchors']} anchors")
    if "flow_width" in network:
        words.append(f"FlowNet-S of width {network['flow_width']:g}")
    return ", ".join(words)


def _part_lines(parts: dict[str, dict[str, Any]]) -> list[str]:
    width = max(map(len, parts))
    return [
        f"    {name:<{width}}  {part['arrays']:>4} arrays {part['parameters']:>12,} values "
        f"{part['bytes'] / 2**20:>8.1f} MiB  {', '.join(part['types'])}"
        for name, part in parts.items()
    ]


def main(argv: Sequence[str] | None = None) -> None:
    """Inspect the file that `argv` names, the command line where None. Raises InputError."""
    args = parse_arguments(argv)
    if args.json:
        check_output(args.json)
    found = inspect(args.file)
    print(describe(found))
    if args.json:
        write_json(args.json, found)


if __name__ == "__main__":
    run_script(main)
