"""Time the compiled operators beside their PyTorch references, at the sizes of a 600 x 1000 frame.

Each row is one operator; the versions in a row run in turns, so that the ratios hold on a busy machine too. `floor` is
the time to read the inputs and write the outputs once, at the speed of a large copy timed in the same run, and `share`
the part of the compiled operator's time that this is: of its time on the GPU alone, `kernel`, where there is one. Data
that fits into a cache may stay there between two calls, and the share pass 100%.

Example: python tools/benchmark_ops.py --device cpu --threads 1 2 --json ops.json
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import grid_sample

from lib import ops
from lib.command_line import count, run_script
from lib.engine.device import default_device, device_of, wait_for
from lib.files import check_output, write_json

HEIGHT, WIDTH = 38, 63  # a 600 x 1000 frame at stride 16
ANCHORS = 9
CANDIDATES = 6000  # of the proposals of an image
ROIS = 300
WINDOW = 19  # frames that FGFA averages
_COPIED = 256 * 2**20  # bytes of the copy that gives the bandwidth: more than caches hold
_CALLS = 20  # that a GPU is given at once
_VERSIONS = ("compiled", "reference", "grid_sample")


@dataclass
class Case:
    """versions: what is timed in turns. moved: bytes of inputs and outputs, 0 where these do not decide the time."""

    versions: dict[str, Callable[[], object]]
    moved: int = 0


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


def moved_bytes(run: Callable[[], Any], *inputs: Tensor | None) -> int:
    """Bytes of the inputs and of what `run` returns."""
    output = run()
    outputs = output if isinstance(output, tuple) else (output,)
    return sum(tensor.nbytes for tensor in (*inputs, *outputs) if tensor is not None)


def warp_cases(device: torch.device) -> dict[str, Case]:
    """DFF warps one map of 1024 channels with a scale map; FGFA 19 times 3072 channels (here 2 times) without one."""
    cases = {}
    for name, n, channels, scaled in (("DFF", 1, 1024, True), ("FGFA", 2, 3072, False)):
        feature = torch.randn(1 if scaled else n, channels, HEIGHT, WIDTH, device=device)
        flow = 3 * torch.randn(n, 2, HEIGHT, WIDTH, device=device)
        scale = torch.randn(n, channels, HEIGHT, WIDTH, device=device) if scaled else None
        inputs = (feature, flow, scale)
        functions = {"compiled": ops.flow_warp, "reference": ops.flow_warp_reference, "grid_sample": grid_sample_warp}
        versions = {key: lambda f=f, i=inputs: f(*i) for key, f in functions.items()}
        cases[f"flow_warp {name}"] = Case(versions, moved_bytes(versions["compiled"], *inputs))
        cases[f"flow_warp {name} + backward"] = Case({key: with_backward(f, *inputs) for key, f in functions.items()})
    return cases


def average_cases(device: torch.device) -> dict[str, Case]:
    """FGFA's average: 19 maps of 1024 feature and 2048 embedding channels; the reference stores the warped maps."""
    maps = torch.randn(WINDOW, 3072, HEIGHT, WIDTH, device=device).contiguous(memory_format=torch.channels_last)
    index = torch.arange(WINDOW, device=device)[None]
    flow = 3 * torch.randn(1, WINDOW, 2, HEIGHT, WIDTH, device=device)
    inputs = (maps, index, flow, torch.zeros(1, WINDOW, device=device))
    functions = {"compiled": ops.aggregate, "reference": ops.aggregate_reference}
    versions = {key: lambda f=f: f(*inputs, 1024) for key, f in functions.items()}
    return {"aggregate": Case(versions, moved_bytes(versions["compiled"], *inputs))}


def random_boxes(n: int, device: torch.device) -> Tensor:
    """(n, 4) boxes of 16 to 400 pixels inside a 600 x 1000 frame."""
    centre = torch.rand(n, 2, device=device) * torch.tensor([1000.0, 600.0], device=device)
    half = 8 + 192 * torch.rand(n, 2, device=device)
    limit = torch.tensor([999.0, 599.0], device=device)
    return torch.cat(((centre - half).clamp(min=0), torch.minimum(centre + half, limit)), dim=1)


def pool_cases(device: torch.device) -> dict[str, Case]:
    """The class maps of 31 classes and 300 rois; for the vote channels last, as in the models."""
    feature = torch.randn(1, 31 * 49, HEIGHT, WIDTH, device=device)
    channels_last = feature.contiguous(memory_format=torch.channels_last)
    rois = torch.cat((torch.zeros(ROIS, 1, device=device), random_boxes(ROIS, device)), dim=1)

    def pool(function: Callable[..., Tensor]) -> Callable[[Tensor], Tensor]:
        return lambda feature: function(feature, rois, 31, 7, 1 / 16)

    functions = {"compiled": pool(ops.psroi_pool), "reference": pool(ops.psroi_pool_reference)}
    pooled = {key: lambda f=f: f(feature) for key, f in functions.items()}
    votes = {
        key: lambda f=f: f(channels_last, rois, 31, 7, 1 / 16, by_bin=True)
        for key, f in {"compiled": ops.psroi_vote, "reference": ops.psroi_vote_reference}.items()
    }
    return {
        "psroi_pool": Case(pooled, moved_bytes(pooled["compiled"], feature, rois)),
        "psroi_pool + backward": Case({key: with_backward(f, feature) for key, f in functions.items()}),
        "psroi_vote": Case(votes, moved_bytes(votes["compiled"], channels_last, rois)),
    }


def suppression_cases(device: torch.device) -> dict[str, Case]:
    """6000 candidates of one image; 300 boxes of 30 classes; the whole proposal step."""
    boxes, scores = random_boxes(CANDIDATES, device), torch.rand(CANDIDATES, device=device)
    class_boxes, class_scores = random_boxes(ROIS, device).repeat(30, 1), torch.rand(30 * ROIS, device=device)
    classes = torch.arange(30, device=device).repeat_interleave(ROIS)
    probability = torch.rand(1, 2 * ANCHORS, HEIGHT, WIDTH, device=device)
    deltas = 0.2 * torch.randn(1, 4 * ANCHORS, HEIGHT, WIDTH, device=device)
    im_info = torch.tensor([[600.0, 1000.0, 1.0]], device=device)
    anchors = torch.tensor([[-84.0, -40.0, 99.0, 55.0]]).repeat(ANCHORS, 1) * torch.linspace(0.5, 2, ANCHORS)[:, None]
    arguments = (probability, deltas, im_info, anchors.to(device), 16, CANDIDATES, ROIS, 0.7, 0.0)
    nms = {"compiled": ops.nms, "reference": ops.nms_reference}
    return {
        "nms 6000": Case({key: lambda f=f: f(boxes, scores, 0.7) for key, f in nms.items()}),
        "nms 30 x 300": Case({key: lambda f=f: f(class_boxes, class_scores, 0.3, classes) for key, f in nms.items()}),
        "proposals": Case(
            {
                "compiled": lambda: ops.proposals(*arguments),
                "reference": lambda: ops.proposals_reference(*arguments),
            }
        ),
    }


def measure(case: Case, seconds: float, device: torch.device) -> dict[str, float]:
    """Fastest run of each version in milliseconds; they take turns until `seconds` are over, at least three times."""
    fastest = dict.fromkeys(case.versions, float("inf"))
    start, rounds = time.perf_counter(), 0
    while rounds < 3 or time.perf_counter() - start < seconds:
        for name, run in case.versions.items():
            begin = time.perf_counter()
            run()
            wait_for(device)
            fastest[name] = min(fastest[name], 1000 * (time.perf_counter() - begin))
        rounds += 1
    return fastest


class Copy:
    """A copy too large for the caches. bandwidth: bytes read and written in a millisecond."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._source = torch.zeros(_COPIED, dtype=torch.uint8, device=device)
        self._target = torch.zeros_like(self._source)  # written once: the system gives memory at the first write

    def run(self) -> None:
        self._target.copy_(self._source)

    def bandwidth(self) -> float:
        if self._device.type == "cuda":
            milliseconds = self.kernel_milliseconds(self.run)
        else:
            milliseconds = measure(Case({"copy": self.run}), 0.5, self._device)["copy"]
        return 2 * _COPIED / milliseconds

    def kernel_milliseconds(self, run: Callable[[], object]) -> float:
        """Of one call on the GPU, without the time to launch it: copies keep the GPU busy until all calls are there.

        An operator that waits for the GPU, as `nms` does for the number of boxes, is timed with its waits.
        """
        stream = torch.cuda.current_stream(self._device)
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        for _ in range(2 * _CALLS):
            self.run()
        start.record(stream)
        for _ in range(_CALLS):
            run()
        end.record(stream)
        wait_for(self._device)
        return start.elapsed_time(end) / _CALLS


def row_of(name: str, case: Case, args: argparse.Namespace, device: torch.device, copy: Copy) -> dict[str, Any]:
    """The figures of one operator."""
    times = measure(case, args.seconds, device)
    kernel = copy.kernel_milliseconds(case.versions["compiled"]) if device.type == "cuda" else None
    floor = case.moved / copy.bandwidth() if case.moved else None
    return {
        "operator": name,
        "device": str(device),
        "threads": torch.get_num_threads(),
        "milliseconds": times,
        "kernel_milliseconds": kernel,
        "moved_bytes": case.moved or None,
        "floor_milliseconds": floor,
        "floor_share": None if floor is None else floor / (kernel or times["compiled"]),
    }


def line_of(row: dict[str, Any]) -> str:
    """A row as it is printed."""
    times = row["milliseconds"]
    columns = [*(times.get(key) for key in _VERSIONS), row["kernel_milliseconds"], row["floor_milliseconds"]]
    cells = "".join(f"{'' if ms is None else f'{ms:.3f}':>12}" for ms in columns)
    share = "" if row["floor_share"] is None else f"{row['floor_share']:.0%}"
    ratios = ", ".join(f"{key} x{ms / times['compiled']:.2f}" for key, ms in times.items() if key != "compiled")
    return f"{row['operator']:28}{row['threads']:>8}{cells}{share:>8}   {ratios}"


def parse_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default=default_device(), help="cpu, cuda or cuda:N; default: %(default)s")
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
    device = device_of(args.device)
    if args.json:
        check_output(args.json)
    torch.manual_seed(0)
    copy = Copy(device)
    makers = (warp_cases, average_cases, pool_cases, suppression_cases)
    rows = []
    heads = "".join(f"{head:>12}" for head in (*_VERSIONS, "kernel", "floor"))
    print(f"{'operator':28}{'threads':>8}{heads}{'share':>8}   (ms; ratio to compiled)")
    for threads in args.threads:
        torch.set_num_threads(threads)
        for make in makers:  # one after the other, for their tensors are large
            for name, case in make(device).items():
                if args.only in name:
                    rows.append(row_of(name, case, args, device, copy))
                    print(line_of(rows[-1]), flush=True)
    if args.json:
        write_json(args.json, rows)


if __name__ == "__main__":
    run_script(main)
