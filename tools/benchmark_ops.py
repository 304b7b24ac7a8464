"""Time the compiled operators beside their PyTorch references, at the sizes of a 600 x 1000 frame.

Each row is one operator; the versions in a row run in turns, so that the ratios hold on a busy machine too.

Example: python tools/benchmark_ops.py --device cpu --threads 1 2 --json ops.json
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.nn.functional import grid_sample

from lib import ops
from lib.command_line import count, run_script
from lib.engine.device import wait_for
from lib.files import check_output, write_json

HEIGHT, WIDTH = 38, 63  # a 600 x 1000 frame at stride 16
ANCHORS = 9
Case = dict[str, Callable[[], object]]


def grid_sample_warp(feature: Tensor, flow: Tensor, scale: Tensor | None) -> Tensor:
    """flow_warp by torch's own sampler: the same result up to rounding."""
    n, _, height, width = flow.shape
    x = (torch.arange(width, device=flow.device) + flow[:, 0]) / ((width - 1) / 2) - 1
    y = (torch.arange(height, device=flow.device)[:, None] + flow[:, 1]) / ((height - 1) / 2) - 1
    feature = feature.expand(n, -1, -1, -1)
    warped = grid_sample(feature, torch.stack((x, y), dim=-1), padding_mode="zeros", align_corners=True)
    return warped if scale is None else warped * scale


def with_backward(function: Callable[..., Tensor], *inputs: Tensor | None) -> Callable[[], object]:
    """Forward and backward of `function` for all its inputs."""
    leaves = [None if tensor is None else tensor.detach().requires_grad_() for tensor in inputs]

    def run() -> object:
        output = function(*leaves)
        return torch.autograd.grad(output, [leaf for leaf in leaves if leaf is not None], torch.ones_like(output))

    return run


def warp_cases(device: str) -> dict[str, Case]:
    """DFF warps one map of 1024 channels with a scale map; FGFA 19 times 3072 channels (here 2 times) without one."""
    cases = {}
    for name, n, channels, scaled in (("DFF", 1, 1024, True), ("FGFA", 2, 3072, False)):
        feature = torch.randn(1 if scaled else n, channels, HEIGHT, WIDTH, device=device)
        flow = 3 * torch.randn(n, 2, HEIGHT, WIDTH, device=device)
        scale = torch.randn(n, channels, HEIGHT, WIDTH, device=device) if scaled else None
        inputs = (feature, flow, scale)
        versions = {"compiled": ops.flow_warp, "reference": ops.flow_warp_reference, "grid_sample": grid_sample_warp}
        cases[f"flow_warp {name}"] = {key: lambda f=f, i=inputs: f(*i) for key, f in versions.items()}
        cases[f"flow_warp {name} + backward"] = {key: with_backward(f, *inputs) for key, f in versions.items()}
    return cases


def random_boxes(n: int, device: str) -> Tensor:
    """(n, 4) boxes of 16 to 400 pixels inside a 600 x 1000 frame."""
    centre = torch.rand(n, 2, device=device) * torch.tensor([1000.0, 600.0], device=device)
    half = 8 + 192 * torch.rand(n, 2, device=device)
    limit = torch.tensor([999.0, 599.0], device=device)
    return torch.cat(((centre - half).clamp(min=0), torch.minimum(centre + half, limit)), dim=1)


def pool_cases(device: str) -> dict[str, Case]:
    """The class maps of 31 classes and 300 rois."""
    feature = torch.randn(1, 31 * 49, HEIGHT, WIDTH, device=device)
    rois = torch.cat((torch.zeros(300, 1, device=device), random_boxes(300, device)), dim=1)

    def pool(function: Callable[..., Tensor]) -> Callable[[Tensor], Tensor]:
        return lambda feature: function(feature, rois, 31, 7, 1 / 16)

    versions = {"compiled": pool(ops.psroi_pool), "reference": pool(ops.psroi_pool_reference)}
    return {
        "psroi_pool": {key: lambda f=f: f(feature) for key, f in versions.items()},
        "psroi_pool + backward": {key: with_backward(f, feature) for key, f in versions.items()},
    }


def suppression_cases(device: str) -> dict[str, Case]:
    """6000 candidates of one image; 300 boxes of 30 classes; the whole proposal step."""
    boxes, scores = random_boxes(6000, device), torch.rand(6000, device=device)
    class_boxes, class_scores = random_boxes(300, device).repeat(30, 1), torch.rand(9000, device=device)
    classes = torch.arange(30, device=device).repeat_interleave(300)
    probability = torch.rand(1, 2 * ANCHORS, HEIGHT, WIDTH, device=device)
    deltas = 0.2 * torch.randn(1, 4 * ANCHORS, HEIGHT, WIDTH, device=device)
    anchors = torch.tensor([[-84.0, -40.0, 99.0, 55.0]]).repeat(ANCHORS, 1) * torch.linspace(0.5, 2, ANCHORS)[:, None]
    arguments = (probability, deltas, torch.tensor([[600.0, 1000.0, 1.0]]), anchors, 16, 6000, 300, 0.7, 0.0)
    nms = {"compiled": ops.nms, "reference": ops.nms_reference}
    return {
        "nms 6000": {key: lambda f=f: f(boxes, scores, 0.7) for key, f in nms.items()},
        "nms 30 x 300": {key: lambda f=f: f(class_boxes, class_scores, 0.3, classes) for key, f in nms.items()},
        "proposals": {
            "compiled": lambda: ops.proposals(*arguments),
            "reference": lambda: ops.proposals_reference(*arguments),
        },
    }


def measure(case: Case, seconds: float, device: str) -> dict[str, float]:
    """Fastest run of each version in milliseconds; they take turns until `seconds` are over, at least three times."""
    fastest = dict.fromkeys(case, float("inf"))
    start, rounds = time.perf_counter(), 0
    while rounds < 3 or time.perf_counter() - start < seconds:
        for name, run in case.items():
            begin = time.perf_counter()
            run()
            wait_for(torch.device(device))
            fastest[name] = min(fastest[name], 1000 * (time.perf_counter() - begin))
        rounds += 1
    return fastest


def parse_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu", choices=["cpu", "cuda"])
    parser.add_argument(
        "--threads", type=count, nargs="+", default=[torch.get_num_threads()], metavar="N", help="CPU threads to try"
    )
    parser.add_argument("--seconds", type=float, default=1.0, help="time for each row; default: %(default)s")
    parser.add_argument("--only", default="", metavar="TEXT", help="only rows whose name contains this")
    parser.add_argument("--json", metavar="OUT", help="also write the figures to this file")
    args = parser.parse_args(arguments)
    if not all(args.threads) or not 0 <= args.seconds <= 3600:
        parser.error("--threads must be at least 1, --seconds from 0 to 3600")
    return args


def main(arguments: Sequence[str] | None = None) -> None:
    args = parse_arguments(arguments)
    if args.json:
        check_output(args.json)
    torch.manual_seed(0)
    device = args.device
    cases = {**warp_cases(device), **pool_cases(device), **suppression_cases(device)}
    rows = []
    print(
        f"{'operator':28}{'threads':>8}{'compiled':>12}{'reference':>12}{'grid_sample':>12}   (ms; ratio to compiled)"
    )
    for threads in args.threads:
        torch.set_num_threads(threads)
        for name, case in cases.items():
            if args.only not in name:
                continue
            times = measure(case, args.seconds, device)
            rows.append({"operator": name, "device": device, "threads": threads, "milliseconds": times})
            ratios = ", ".join(f"{key} x{ms / times['compiled']:.2f}" for key, ms in times.items() if key != "compiled")
            columns = [times.get(key) for key in ("compiled", "reference", "grid_sample")]
            cells = "".join(f"{'' if ms is None else f'{ms:.2f}':>12}" for ms in columns)
            print(f"{name:28}{threads:>8}{cells}   {ratios}", flush=True)
    if args.json:
        write_json(args.json, rows)


if __name__ == "__main__":
    run_script(main)
