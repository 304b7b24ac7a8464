"""Check the installation, and with --cfg the data set and weights of a configuration; say how to fix each problem.

The exit status is 1 where something is missing that the code cannot run without ("fault"), else 0. A data set or
weights that the configuration names and that are not there yet are notes, and no fault of the installation: the last
line counts them.

Example: python tools/doctor.py --cfg configs/rfcn/resnet_v1_101_imagenet_vid_rfcn_end2end_ohem.yaml
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import platform
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from importlib import metadata
from pathlib import Path
from typing import NamedTuple

# The doctor must run where nothing is installed yet: it finds `lib` by itself, and imports what needs packages only
# inside the checks
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from lib.command_line import run_script

ROOT = Path(__file__).resolve().parents[1]
OLDEST_PYTHON = (3, 10)
SET_UP = "run: bash tools/setup_env.sh"
SYSTEM_LIBRARIES = "OpenCV needs them: sudo apt install libgl1 libglib2.0-0"
_STAND_INS = {
    "opencv-python": ("opencv-python-headless", "opencv-contrib-python", "opencv-contrib-python-headless"),
}
_FOR_DEVELOPMENT = ("pytest", "ruff", "hypothesis")
_REPLACED = ("av",)  # by OpenCV, which writes slowly: `check_video` says so
BUILD = "run: pip install --no-build-isolation -e ."


class Finding(NamedTuple):
    """level: "ok", "note" (works without it) or "fault" (does not). cure: what to do; empty when ok.

    missing: whether it is a note of what the configuration names and what is not there.
    """

    level: str
    subject: str
    text: str
    cure: str = ""
    missing: bool = False


def check_python() -> Iterator[Finding]:
    text = f"{platform.python_version()} ({sys.executable}), {platform.platform()}"
    if tuple(sys.version_info) < OLDEST_PYTHON:
        yield Finding(
            "fault", "Python", text, "Python 3.10 or newer is needed; PYTHON=python3.11 bash tools/setup_env.sh"
        )
    else:
        yield Finding("ok", "Python", text)


def check_packages(requirements: Path = ROOT / "requirements.txt") -> Iterator[Finding]:
    """Every pinned package against what is installed."""
    fitting, missing = 0, []
    for name, wanted in pinned(requirements):
        found = installed(name)
        if found is None:
            missing.append(name)
        elif found.split("+")[0] == wanted:
            fitting += 1
        else:
            cure = f"if something fails: pip install {name}=={wanted}"
            yield Finding("note", name, f"{found}; the tests ran with {wanted}", cure)
    needed = [name for name in missing if name not in (*_FOR_DEVELOPMENT, *_REPLACED)]
    if needed:
        yield Finding("fault", "packages", f"not installed: {', '.join(needed)}", SET_UP)
    others = [name for name in missing if name in _FOR_DEVELOPMENT]
    if others:
        cure = "the tests and the linter alone need them"
        yield Finding("note", "packages", f"not installed: {', '.join(others)}", cure)
    yield Finding("ok", "packages", f"{fitting} as pinned in {requirements.name}")


def installed(name: str) -> str | None:
    """The version of a package, or of one that stands in for it; None where there is none."""
    for one in (name, *_STAND_INS.get(name, ())):
        with contextlib.suppress(metadata.PackageNotFoundError):
            return metadata.version(one)
    return None


def pinned(requirements: Path) -> Iterator[tuple[str, str]]:
    """(package, version) of every line `package==version` that is for this Python."""
    version = sys.version_info[:2]
    for line in requirements.read_text(encoding="utf-8").splitlines():
        match = re.match(r"([\w.-]+)==([\w.]+)\s*(?:;\s*python_version\s*(<|>=)\s*\"(\d+)\.(\d+)\")?", line)
        if match is None:
            continue
        name, wanted, sign, major, minor = match.groups()
        if sign and (version < (int(major), int(minor))) != (sign == "<"):
            continue
        yield name, wanted


def check_torch() -> Iterator[Finding]:
    import torch

    yield Finding("ok", "torch", f"{torch.__version__}, {torch.get_num_threads()} threads")
    if torch.cuda.is_available():
        for index in range(torch.cuda.device_count()):
            card = torch.cuda.get_device_properties(index)
            yield Finding("ok", "GPU", f"{card.name}, {card.total_memory / 2**30:.0f} GiB, CUDA {torch.version.cuda}")
    elif (
        shutil.which("nvidia-smi") and subprocess.run(["nvidia-smi"], capture_output=True, check=False).returncode == 0
    ):
        cure = f"install a torch whose CUDA the driver supports; this one is for CUDA {torch.version.cuda}"
        yield Finding("note", "GPU", "there is one, but torch cannot use it", cure)
    else:
        yield Finding("note", "GPU", "none", "nothing, if the CPU is meant; --device cpu is the default then")


def check_extension() -> Iterator[Finding]:
    try:
        for name in ("lib.ops", "lib.evaluation.seq_nms", "lib.evaluation.mean_ap"):
            importlib.import_module(name)
    except ImportError as error:
        yield Finding("fault", "extension", f"cannot be imported: {str(error).splitlines()[0]}", BUILD)
        return
    import torch

    if torch.ops.vod.has_cuda_kernels():
        yield Finding("ok", "extension", "built, with CUDA kernels")
    elif torch.cuda.is_available():
        cure = f"install the CUDA toolkit (nvcc), then {BUILD.replace('run: ', 'run: FORCE_CUDA=1 ')}"
        yield Finding(
            "note", "extension", "built without CUDA kernels: slower PyTorch versions stand in on the GPU", cure
        )
    else:
        yield Finding("ok", "extension", "built, for the CPU")


def check_video() -> Iterator[Finding]:
    """Write and read back a small clip in each format that the demos write."""
    import numpy as np

    from lib.errors import InputError
    from lib.visualize.video_writer import CODECS, VideoWriter, pyav_encoder

    for ending, codec in ((".mp4", "h264"), (".mp4", "vp9"), (".webm", "vp9")):
        subject = f"{codec} in {ending}"
        with tempfile.TemporaryDirectory() as folder:
            try:
                with VideoWriter(Path(folder, f"clip{ending}"), 25, codec) as video:
                    for value in range(3):
                        video.write(np.full((64, 64, 3), 80 * value, np.uint8))
            except InputError as error:
                yield Finding("fault", subject, str(error), "pip install the packages that requirements.txt pins")
            else:
                yield Finding("ok", subject, "can be written and read")
    missing = [codec for codec in CODECS if pyav_encoder(codec) is None]
    if missing:
        yield Finding("note", "PyAV", f"cannot encode {', '.join(missing)}: clips are slow to write", "pip install av")


def check_configured(
    cfg_path: str | None, overrides: Sequence[str] = (), presets: Sequence[str] = ()
) -> Iterator[Finding]:
    """The data set, its image sets and the weights that the configuration names."""
    from lib.config import load_config
    from lib.errors import InputError

    try:
        cfg = load_config(cfg_path, overrides, presets)
    except InputError as error:
        yield Finding("fault", "configuration", str(error), "correct it, or give another --cfg")
        return
    dataset = cfg.dataset
    root = Path(dataset.dataset_path)
    missing = [name for name in ("Annotations", "Data", "ImageSets") if not (root / name).is_dir()]
    if missing:
        cure = "see data/README.md; or make one: python tools/make_synthetic_vid.py --out data/synthetic_vid"
        yield Finding("note", "data set", f"{root} lacks {', '.join(missing)}", cure, missing=True)
    else:
        yield Finding("ok", "data set", str(root))
        for name in [*dataset.image_set.split("+"), dataset.test_image_set]:
            yield _check_image_set(root, name)
    if dataset.motion_iou_path:
        yield _check_file(
            "motion IoU", dataset.motion_iou_path, "leave dataset.motion_iou_path empty: track ids will do"
        )
    yield from _check_weights(cfg.network)


def _check_weights(network: dict) -> Iterator[Finding]:
    """The files that a training begins from, of which each may be left out."""
    from lib.checkpoints.torchvision_weights import is_torchvision_name
    from lib.engine.pretrained import checkpoint_file

    if network["pretrained_model"]:
        yield _check_file("detector weights", network["pretrained_model"], "correct network.pretrained_model")
    for key, subject, maker in (
        (
            "pretrained",
            "backbone weights",
            "--preset configs/presets/torchvision_backbone.yaml, or tools/pretrain_backbone.py",
        ),
        ("pretrained_flow", "flow network weights", "tools/pretrain_flownet.py"),
    ):
        if is_torchvision_name(network[key]):
            yield _check_torchvision(subject, network[key], key)
        elif network[key]:
            # a file, or the originals' prefix and epoch
            path = checkpoint_file(network[key], network["pretrained_epoch"])
            also = "" if path.name == Path(network[key]).name else f" (nor {path.with_suffix('.params').name})"
            yield _check_file(subject, str(path), f"see model/README.md, or {maker}; or correct network.{key}", also)


def _check_torchvision(subject: str, name: str, key: str) -> Finding:
    """Weights that torchvision knows by name: the first training downloads them."""
    from lib.checkpoints.conversion import WeightsError
    from lib.checkpoints.torchvision_weights import torchvision_file

    try:
        path = torchvision_file(name)
    except WeightsError as error:
        return Finding("note", subject, str(error), f"correct network.{key}, or install what is missing", missing=True)
    if path.is_file():
        return Finding("ok", subject, f"{name}: downloaded already, {path}")
    return Finding("ok", subject, f"{name}: not here yet; the first training downloads it to {path}")


def _check_image_set(root: Path, name: str) -> Finding:
    from lib.data.image_sets import load_image_set

    try:
        entries = load_image_set(root, name)
    except ValueError as error:
        return Finding("note", f"image set {name}", str(error), "see data/README.md", missing=True)
    return Finding("ok", f"image set {name}", f"{len(entries)} lines")


def _check_file(subject: str, path: str, cure: str, also: str = "") -> Finding:
    if Path(path).is_file():
        return Finding("ok", subject, path)
    return Finding("note", subject, f"{path}: no such file{also}", cure, missing=True)


def findings(cfg_path: str | None, overrides: Sequence[str] = (), presets: Sequence[str] = ()) -> Iterator[Finding]:
    """All checks in order; one that cannot run because a package is missing says so, and the others go on."""
    checks: list[tuple[str, Callable[[], Iterator[Finding]]]] = [
        ("Python", check_python),
        ("packages", check_packages),
        ("torch", check_torch),
        ("extension", check_extension),
        ("video", check_video),
        ("configuration", lambda: check_configured(cfg_path, overrides, presets)),
    ]
    for subject, check in checks:
        try:
            yield from check()
        except ImportError as error:
            cure = SYSTEM_LIBRARIES if "cannot open shared object" in str(error) else SET_UP
            yield Finding("fault", subject, f"cannot be checked: {error}", cure)


def main(argv: Sequence[str] | None = None) -> int:
    """Print all findings and what they come to; returns 1 where one is a fault."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cfg", metavar="FILE", help="configuration whose data set and weights are looked for")
    parser.add_argument("--preset", action="append", default=[], metavar="FILE", help="a few more keys over --cfg")
    parser.add_argument(
        "overrides", nargs="*", metavar="KEY=VALUE", help="configuration values, dataset.dataset_path=DIR"
    )
    arguments = parser.parse_intermixed_args(argv)
    faults = missing = 0
    for finding in findings(arguments.cfg, arguments.overrides, arguments.preset):
        print(f"{finding.level:6}{finding.subject}: {finding.text}")
        if finding.cure:
            print(f"{'':8}-> {finding.cure}")
        faults += finding.level == "fault"
        missing += finding.missing
    print(f"\n{conclusion(faults, missing, arguments.cfg)}")
    return 1 if faults else 0


def conclusion(faults: int, missing: int, cfg_path: str | None) -> str:
    """The last line, from the numbers of faults and of notes of what the configuration lacks."""
    lines = [f"Faults to fix: {faults}." if faults else "The installation is complete."]
    if missing:
        which = cfg_path or "the defaults, which were checked as no --cfg was given"
        lines.append(f"Missing for the configuration ({which}): {missing} (see the notes above).")
    elif not faults:
        lines.append("What the configuration names is there.")
    return " ".join(lines)


if __name__ == "__main__":
    run_script(main)
