"""What the stages of tools/gpu_check.py found, as figures and as a Markdown table."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

_MOST_OPERATIONS = 8  # of a profile that are shown


def parity_result(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Of check_parity's rows: how many there are and fail, and for each network the largest share of a tolerance."""
    networks: dict[str, dict[str, Any]] = {}
    for row in rows:
        if row["set"].startswith("net_"):
            error = row["max_rel"] if row["measure"] == "rel" else row["max_abs"]
            # A row without an error is one that could not be compared; exact ones have no tolerance to share
            share = None if error is None else error / row["tolerance"] if row["tolerance"] else 0.0
            worst = networks.setdefault(row["set"], {"arrays": 0, "failed": 0, "array": None, "share": -1.0})
            worst["arrays"] += 1
            worst["failed"] += not row["pass"]
            if share is not None and share > worst["share"]:
                worst.update(array=row["array"], share=share, max_abs=row["max_abs"], max_rel=row["max_rel"])
    return {"arrays": len(rows), "failed": sum(not row["pass"] for row in rows), "networks": networks}


def training_result(metrics: str) -> dict[str, Any]:
    """Of the lines of metrics.jsonl: the updates, the sum of losses in the first and the last line, and the speed."""
    lines = [json.loads(line) for line in metrics.splitlines()]
    lines = [line for line in lines if "compute_seconds" in line]
    if not lines:
        return {"updates": 0, "finite": False, "losses": []}
    losses = [sum(value for name, value in line.items() if name.endswith("_loss") and value) for line in lines]
    finite = all(value is not None for line in lines for name, value in line.items() if name.endswith("_loss"))
    return {
        "updates": lines[-1]["update"],
        "finite": finite,
        "losses": losses,
        "compute_ms": 1000 * sorted(line["compute_seconds"] for line in lines)[len(lines) // 2],
        "memory_gib": lines[-1]["memory_gib"],
    }


def markdown(summary: dict[str, Any]) -> str:
    """The whole summary for people."""
    machine = summary["machine"]
    about = f"{machine.get('gpu') or summary['device']}, torch {machine.get('packages', machine).get('torch', '?')}"
    lines = [f"# Check on {about}, commit {summary['commit']}, {summary['seconds']:.0f} s", ""]
    stages = [[s["stage"], s["status"], f"{s['seconds']:.1f}", s["why"]] for s in summary["stages"]]
    lines += _table(["stage", "status", "s", ""], stages)
    if summary["benchmark"]:
        lines += ["## Speed", "", *_table(_BENCHMARK, map(_benchmark_cells, summary["benchmark"]))]
    if summary["operators"]:
        lines += ["## Operators", "", *_table(_OPERATORS, map(_operator_cells, summary["operators"]))]
    for precision, result in summary["parity"].items():
        lines += [f"## Parity, {precision}: {result['failed']} of {result['arrays']} arrays fail", ""]
        cells = [
            [name, str(n["arrays"]), str(n["failed"]), str(n["array"]), f"{n['share']:.2f}"]
            for name, n in result["networks"].items()
        ]
        lines += _table(["set", "arrays", "failed", "worst", "share of its tolerance"], cells)
    if summary["training"]:
        lines += ["## Training, sum of losses", ""]
        lines += _table(
            ["precision", "updates", "first", "middle", "last", "ms an update", "finite"],
            [[name, *_training_cells(result)] for name, result in summary["training"].items()],
        )
    for method, frame in summary["profile"].items():
        lines += [
            f"## Profile of {method}, one frame in bfloat16",
            "",
            f"{frame['ms']:.2f} ms; the device computes for {frame['device_ms']:.2f} ms, of which convolutions take "
            f"{frame['convolutions_ms']:.2f} ms.",
            "",
        ]
        cells = [[o["name"], f"{o['ms']:.2f}", str(o["calls"])] for o in frame["operations"][:_MOST_OPERATIONS]]
        lines += _table(["operation", "ms", "calls"], cells)
    return "\n".join(lines)


_BENCHMARK = [
    *("method", "mode", "precision", "compile", "ms/frame", "fps", "key", "between", "speed-up", "of bound"),
    *("GFLOP/s", "of peak", "MB"),
]


def _benchmark_cells(row: dict[str, Any]) -> list[str]:
    def shown(name: str, form: str) -> str:
        return _shown(row[name], form)

    return [
        *(row[name] for name in ("method", "mode", "precision", "compile")),
        shown("ms_per_frame", ".2f"),
        f"{1000 / row['ms_per_frame']:.1f}",
        shown("key_ms", ".2f"),
        shown("nonkey_ms", ".2f"),
        shown("speedup_over_rfcn", ".2f"),
        shown("flop_bound_share", ".0%"),
        shown("gflops_per_s", ".0f"),
        f"{row['gflops_per_s'] / row['matmul_peak_gflops_per_s']:.0%}",
        shown("peak_memory_mb", ".0f"),
    ]


_OPERATORS = ["operator", "ms", "reference, ms", "kernel, ms", "floor, ms", "share"]


def _operator_cells(row: dict[str, Any]) -> list[str]:
    times = row["milliseconds"]
    found = (times["compiled"], times["reference"], row["kernel_milliseconds"], row["floor_milliseconds"])
    return [row["operator"], *(_shown(value, ".3f") for value in found), _shown(row["floor_share"], ".0%")]


def _shown(value: float | None, form: str) -> str:
    return "-" if value is None else format(value, form)


def _training_cells(result: dict[str, Any]) -> list[str]:
    losses = result["losses"]
    if not losses:
        return ["0", "-", "-", "-", "-", "no"]
    picked = (losses[0], losses[len(losses) // 2], losses[-1])
    finite = "yes" if result["finite"] else "NO"
    return [str(result["updates"]), *(f"{loss:.3f}" for loss in picked), f"{result['compute_ms']:.1f}", finite]


def _table(head: Sequence[str], rows) -> list[str]:
    return [
        f"| {' | '.join(head)} |",
        f"|{'---|' * len(head)}",
        *(f"| {' | '.join(cells)} |" for cells in rows),
        "",
    ]
