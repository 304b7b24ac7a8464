"""Command lines that work, on the small data set: what hostile ones are made from."""

from __future__ import annotations

from pathlib import Path

from tools.fuzzing.small_dataset import small_dataset

ROOT = Path(__file__).resolve().parents[2]


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
