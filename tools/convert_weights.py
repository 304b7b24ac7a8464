"""Convert weights between this project's .pth and the originals' MXNet .params, and from other projects to either.

The kind of SRC is recognised by its content; where that is not enough, --kind names it. Every parameter is listed as
mapped, dropped or added, with the reason; missing or unknown ones and those of another shape are an error that lists
them. docs/weights.md describes each source. No code in SRC is ever run.

What a checkpoint of this project says of itself (method, configuration, classes) stays in a .pth; the state of its
training does not. --set changes values of that configuration, such as the precision of a network that was trained in
bfloat16. With --half the file has half the size, and the same bytes whenever it is made.

Example: python tools/convert_weights.py model/rfcn_dff_flownet_vid-0000.params model/dff.pth
Example: python tools/convert_weights.py output/rfcn_vid-0002.pth model/my_rfcn.pth --half --quiet
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from dff.model import build_dff
from fgfa.model import build_fgfa
from lib.checkpoints.conversion import Conversion, WeightsError, misfits
from lib.checkpoints.first_layer import OURS, ImageForm
from lib.checkpoints.flownet_import import FLOWNET_IMAGES, flownet_from
from lib.checkpoints.half import rounding, to_half
from lib.checkpoints.mxnet_params import LAYOUTS, write_params
from lib.checkpoints.mxnet_state import CLASSIFIER, BoxRule, params_from_state, state_from_params
from lib.checkpoints.resnet_import import SOURCES, depth_of, own_resnet_names, resnet_from
from lib.checkpoints.sizes import KINDS, NetworkSize, network_size
from lib.command_line import run_script
from lib.config import default_config, load_config, to_dict
from lib.engine.checkpoint import IDENTITY, Identity, save_tensors
from lib.engine.weight_files import FLOWNET, WeightFile, read_weight_file
from lib.files import check_output
from lib.models.flownet_s import FlowNetS
from lib.models.mxnet_names import mxnet_name, mxnet_names
from lib.models.resnet import STYLES, UNITS_PER_STAGE, ResNet, unit_names
from rfcn.model import build_rfcn

_BUILDERS = {"rfcn": build_rfcn, "dff": build_dff, "fgfa": build_fgfa}


def parse_arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", metavar="SRC", type=Path, help=".params, .pth, .pth.tar or .pkl")
    parser.add_argument("target", metavar="DST", type=Path, help=".pth or .params")
    parser.add_argument("--kind", choices=(*KINDS, *SOURCES, FLOWNET), help="what SRC is; default: its names tell")
    parser.add_argument("--drop", nargs="+", default=[], metavar="NAME", help="leave out these names of SRC")
    parser.add_argument("--quiet", action="store_true", help="no line for each mapped parameter")
    parser.add_argument("--half", action="store_true", help="store convolution weights in float16 (DST ends in .pth)")
    parser.add_argument(
        "--set", nargs="+", default=[], metavar="KEY=VALUE", help="change these values of the configuration in SRC"
    )
    mxnet = parser.add_argument_group(".params files")
    mxnet.add_argument("--layout", choices=LAYOUTS, help="of DST; default: that of the file it was made from, or v2")
    mxnet.add_argument("--bbox-means", nargs=4, type=float, default=BoxRule.means, metavar="M", help="TRAIN.BBOX_MEANS")
    mxnet.add_argument("--bbox-stds", nargs=4, type=float, default=BoxRule.stds, metavar="S", help="TRAIN.BBOX_STDS")
    mxnet.add_argument("--normalised", action="store_true", help="box weights without _test entries are so")
    mxnet.add_argument("--no-test-entries", action="store_true", help="write un-normalised box weights instead")
    other = parser.add_argument_group("weights of other projects")
    means = [OURS.means[2], OURS.means[1], OURS.means[0]]
    other.add_argument("--pixel-means", nargs=3, type=float, default=means, metavar="M", help="network.PIXEL_MEANS")
    other.add_argument(
        "--pixel-stds", nargs=3, type=float, default=[1.0, 1.0, 1.0], metavar="S", help="network.PIXEL_STDS (ResNets)"
    )
    other.add_argument("--style", choices=STYLES, default="caffe", help="network.STYLE (ResNets); default: %(default)s")
    other.add_argument("--source-means", nargs=3, type=float, metavar="M", help="R, G, B, 0 to 255, if not the usual")
    other.add_argument("--source-order", choices=("rgb", "bgr"), help="of the colours, if not the usual one")
    other.add_argument("--bn-eps", type=float, default=1e-5, help="of the network that will have them; FGFA: 2e-5")
    other.add_argument("--accept-stride-change", action="store_true", help="of another style: see docs/weights.md")
    args = parser.parse_args(argv)
    if args.target.suffix not in (".pth", ".params"):
        parser.error(f"DST ends in .pth or .params, not like {args.target}")
    if args.half and args.target.suffix != ".pth":
        parser.error("--half is for .pth files; the originals read float32")
    if args.set and args.target.suffix != ".pth":
        parser.error("--set is for .pth files; .params files hold no configuration")
    return args


def build(size: NetworkSize) -> nn.Module:
    """The network of that size without any memory for weights."""
    with torch.device("meta"):
        if size.kind == "resnet":
            return ResNet(int(size.values["DEPTH"]), int(size.values["WIDTH"]))
        if size.kind == "flownet":
            return FlowNetS(size.values["FLOW_WIDTH"], size.scale)
        cfg = default_config()
        cfg.network.update(size.values)
        # Only the number of the anchors says something of the weights
        cfg.network.update(ANCHOR_RATIOS=[1.0], ANCHOR_SCALES=[float(scale) for scale in range(1, size.anchors + 1)])
        return _BUILDERS[size.kind](cfg, size.classes)


def own_weights(source: WeightFile, model: nn.Module, kind: str, rule: BoxRule, kept: Sequence[str]) -> Conversion:
    """The state of `model` from the originals' or this project's file; kept: entries that are no weights and stay."""
    if source.params is not None:
        return state_from_params(source.params, mxnet_names(model), rule, CLASSIFIER if kind == "resnet" else ())
    state = dict(source.arrays)
    if not all(isinstance(value, Tensor) for value in state.values()):
        raise WeightsError("holds more than tensors by name; is it another project's file? Say so with --kind")
    state = {name: value.float() if value.dtype == torch.float16 else value for name, value in state.items()}
    origin = source.rest.get("mxnet")
    unused = [(name, "not a weight") for name in source.rest if name not in ("mxnet", *kept)]
    mapped = [(name, name) for name in state]
    notes = notes_on(source.rest.get("config"))
    return Conversion(state, mapped, unused, notes=notes, origin=origin if isinstance(origin, dict) else None)


def notes_on(config: Any) -> list[str]:
    """Notes on settings in a checkpoint's configuration that the originals' networks do not have."""
    network = config.get("network") if isinstance(config, dict) else None
    default = default_config().network
    return [
        f"trained with network.{key} {network[key]}: the originals' networks have {default[key]} and compute something "
        "else with these weights"
        for key in ("STYLE", "PIXEL_STDS")
        if isinstance(network, dict) and network.get(key, default[key]) != default[key]
    ]


def other_weights(source: WeightFile, kind: str, args: argparse.Namespace) -> tuple[Conversion, nn.Module]:
    """Weights of another project, and the network here that has them."""
    usual = FLOWNET_IMAGES if kind == FLOWNET else SOURCES[kind].images
    bgr = usual.bgr if args.source_order is None else args.source_order == "bgr"
    trained = ImageForm(tuple(args.source_means or usual.means), usual.stds, bgr)
    means = tuple(args.pixel_means[::-1])
    arrays, others = {}, []
    for name, value in source.arrays.items():
        if isinstance(value, (Tensor, np.ndarray, np.generic)):
            arrays[name] = value if isinstance(value, Tensor) else torch.tensor(value)
        else:
            others.append((name, "not a weight"))
    if kind == FLOWNET:
        division = source.rest.get("div_flow", 20.0)
        result = flownet_from(arrays, trained, ImageForm(means), division=float(division))
        model = build(network_size({n: tuple(v.shape) for n, v in _by_original_names(result).items()}, "flownet"))
    else:
        depth = depth_of(own_resnet_names(list(arrays), detectron=SOURCES[kind].eps is None))
        if depth not in UNITS_PER_STAGE:
            raise WeightsError(f"its residual units make a ResNet-{depth}, which is none of {sorted(UNITS_PER_STAGE)}")
        result = resnet_from(
            arrays,
            SOURCES[kind],
            unit_names(depth),
            trained=trained,
            images=ImageForm(means, tuple(args.pixel_stds[::-1])),
            eps=args.bn_eps,
            style=args.style,
            accept_stride_change=args.accept_stride_change,
        )
        model = build(network_size({n: tuple(v.shape) for n, v in _by_original_names(result).items()}, "resnet"))
    result.dropped += [*others, *((name, "not a weight") for name in source.rest)]
    return result, model


def _by_original_names(result: Conversion) -> dict[str, Tensor]:
    return {original: value for name, value in result.state.items() if (original := mxnet_name(name))}


def drop(result: Conversion, names: list[str]) -> None:
    """Remove the names that --drop gives from the state."""
    for name in names:
        if name not in result.state:
            raise WeightsError(f"--drop {name}: there is no such name among those that are not known here")
        del result.state[name]
        result.dropped.append((name, "as asked with --drop"))
        result.origin = None


def convert(args: argparse.Namespace) -> tuple[str, Conversion, list[Conversion]]:
    """Read, convert, check, write; returns the kind and the accounts of reading and of writing. Raises InputError."""
    source = read_weight_file(args.source)
    rule = BoxRule(tuple(args.bbox_means), tuple(args.bbox_stds), args.normalised)
    kind = args.kind or source.kind()
    identity = Identity.of_content(dict(source.rest), args.source) if kind in KINDS else None
    if args.set:
        identity = with_values(identity, args.set, args.source)
    if kind in KINDS:
        model = build(network_size(source.original_shapes(), kind))
        stays = identity is not None and args.target.suffix == ".pth"
        result = own_weights(source, model, kind, rule, kept=IDENTITY if stays else ())
    else:
        result, model = other_weights(source, kind, args)
    drop(result, args.drop)
    problems = misfits(model.state_dict(), result.state)
    if problems:
        raise WeightsError(f"does not hold the {kind} network that its sizes speak of:\n{problems}")
    return kind, result, write_target(args, result, model, rule, identity)


def with_values(identity: Identity | None, values: Sequence[str], source: Path) -> Identity:
    """`identity` with these `KEY=VALUE` in its configuration. Raises WeightsError where it has none, ConfigError."""
    if identity is None:
        raise WeightsError("says nothing of its configuration, so that --set has nothing to change")
    cfg = load_config(None, values, base=identity.config, base_name=f"configuration in {source}")
    return replace(identity, config=to_dict(cfg))


def write_target(
    args: argparse.Namespace, result: Conversion, model: nn.Module, rule: BoxRule, identity: Identity | None
) -> list[Conversion]:
    """Write DST; the account of what that took, if anything."""
    if args.target.suffix == ".pth":
        state = result.state
        if args.half:
            state = to_half(state)
            result.notes.append(rounding(result.state, state))
        if identity is not None:
            identity = replace(identity, stored="float16" if args.half else "")
        content = {"model": state, **(identity.to_content() if identity else {})}
        save_tensors(content | ({"mxnet": result.origin} if result.origin else {}), args.target)
        return []
    origin = None if args.no_test_entries else result.origin
    entries = not args.no_test_entries
    params, account = params_from_state(result.state, mxnet_names(model), rule, test_entries=entries, origin=origin)
    write_params(args.target, params, args.layout or params.layout)
    return [account]


def table(account: Conversion, quiet: bool) -> list[str]:
    """A line for each parameter."""
    wide = max((len(name) for name, _ in (*account.mapped, *account.dropped, *account.added)), default=0)
    lines = [] if quiet else [f"mapped   {name:<{wide}}  {own}" for name, own in account.mapped]
    lines += [f"dropped  {name:<{wide}}  {why}" for name, why in account.dropped]
    lines += [f"added    {name:<{wide}}  {why}" for name, why in account.added]
    return [*lines, *(f"note     {note}" for note in account.notes)]


def main(argv: Sequence[str] | None = None) -> None:
    """Convert as `argv` says, the command line where None. Raises InputError."""
    args = parse_arguments(argv)
    check_output(args.target)
    try:
        kind, result, written = convert(args)
    except WeightsError as error:
        if str(error).startswith((str(args.source), str(args.target))):
            raise
        raise WeightsError(f"{args.source}: {error}") from error
    for account in (result, *written):
        print("\n".join(table(account, args.quiet)))
    counts = f"{len(result.mapped)} mapped, {len(result.dropped)} dropped, {len(result.added)} added"
    print(f"{args.source} ({kind}) -> {args.target}: {counts}")


if __name__ == "__main__":
    run_script(main)
