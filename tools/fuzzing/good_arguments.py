"""Command lines that work, on the small data set: what hostile ones are made from."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from tools.fuzzing.small_dataset import small_dataset

ROOT = Path(__file__).resolve().parents[2]
# What the scripts may make in their working folder
MAKES = ("cache", "out", "out.json", "out.csv", "lists", "made.mat", "coco.json", "made", "sheet.png", "shown")
MAKES += ("VID_val_frames.txt", " ", "[*]", "[[]")  # where lists are asked for under such names
MAKES += ("data", "VID_val_videos_videos_*.npz")  # the cache: where none is asked for, and for a folder of "." or ""


def good_arguments() -> dict[str, dict[str, str]]:
    """Tool -> its options, with values that are good. An empty name stands for arguments without a name."""
    root = str(small_dataset())
    set_name, frames = "VID_val_videos", "VID_val_frames"
    return {
        "tools.evaluate": {
            "--dataset-path": root,
            "--image-set": set_name,
            "--results": "results.txt",
            "--cache": "cache",
            "--videos": "1",
            "--json": "out.json",
            "--csv": "out.csv",
            "--motion-iou": "motion.mat",
            "--classes": f"{root}/classes.txt",
            "--workers": "1",
        },
        "tools.check_dataset": {"--dataset-path": root, "--image-set": set_name, "--classes": f"{root}/classes.txt"},
        "tools.make_image_sets": {
            "--dataset-path": root,
            "--out": "lists",
            "--only": frames,
            "--frames-per-video": "2",
            "--stills-per-class": "2",
            "--workers": "0",
        },
        "tools.make_motion_iou": {
            "--dataset-path": root,
            "--image-set": set_name,
            "--out": "made.mat",
            "--cache": "cache",
        },
        "tools.export_coco": {
            "--dataset-path": root,
            "--image-set": set_name,
            "--cache": "cache",
            "--out": "coco.json",
        },
        "tools.make_synthetic_vid": {
            "--out": "made",
            "--train-videos": "1",
            "--val-videos": "0",
            "--stills": "0",
            "--frames": "1",
            "--size": "64x64",
            "--classes": "1",
            "--motion-mix": "1,1,1",
            "--seed": "1",
            "--workers": "1",
            "--preview": "sheet.png",
        },
        "tools.inspect_checkpoint": {"": "weights.pth"},
        **_scripts(root),
    }


def _scripts(root: str) -> dict[str, dict[str, str]]:
    """Those that need a configuration; root: the folder of the data set."""
    cfg = str(ROOT / "configs/rfcn/resnet_v1_18_synthetic_vid.yaml")
    network = "network.WIDTH=8 network.FEAT_DIM=16 SCALES=[[64,80]] TEST.RPN_POST_NMS_TOP_N=5"
    run = f"{network} dataset.dataset_path={root} dataset.root_path=cache output_path=out TRAIN.WORKERS=0"
    return {
        "tools.flops": {"--cfg": cfg, "": network},
        "rfcn.demo": {
            "--cfg": cfg,
            "--random-weights": "",
            "--source": f"{root}/Data/VID/val/syn_val_00000000",
            "--out": "shown",
            "--min-score": "0.9",
            "--limit": "1",
            "--fps": "5",
            "--device": "cpu",
            "--preset": str(ROOT / "configs/presets/from_rfcn.yaml"),
            "": run,
        },
        "rfcn.test": {"--cfg": cfg, "--weights": "weights.pth", "--videos": "1", "--device": "cpu", "": run},
    }


def as_line(arguments: Mapping[str, str]) -> list[str]:
    """Options by name ("" for the positional ones) as a command line."""
    named = [part for name, value in arguments.items() if name for part in ([name, value] if value else [name])]
    return [*named, *arguments.get("", "").split(" ")] if arguments.get("") else named


def interruptible() -> dict[str, list[str]]:
    """The command lines of scripts that take long enough to be interrupted."""
    options = good_arguments()
    names = ("tools.evaluate", "tools.make_motion_iou", "tools.export_coco", "tools.make_synthetic_vid", "rfcn.demo")
    lines = {tool: {k: v for k, v in options[tool].items() if k not in ("--motion-iou", "--limit")} for tool in names}
    lines["tools.make_synthetic_vid"] |= {"--train-videos": "6", "--frames": "4", "--size": "160x128"}
    lines["tools.export_coco"] |= {"--out": "coco.json"}
    return {tool: as_line(line) for tool, line in lines.items()}
