"""Draw accuracy against time per frame: key-frame intervals and options of DFF, windows of FGFA, and R-FCN.

Every setting is tested on the whole test set with the given trained models; several files of one method (trainings
with other seeds) are averaged. Then all settings are timed in turns on a few clips, so that the times hold side by
side: milliseconds per frame of networks and post-processing, reading excluded, one frame at a time unless --batch says
otherwise. Test results are kept in --work: what is tested with the same weights and configuration is not tested again,
and an interrupted test goes on where it was. Times are measured anew by every run.

Example: python tools/speed_accuracy.py --weights rfcn.pth dff.pth fgfa.pth --work output/speed_accuracy
Example: python tools/speed_accuracy.py --redraw output/speed_accuracy/speed_accuracy.json --out curves.svg
"""

from __future__ import annotations

import argparse
import copy
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import median

import numpy as np
import torch
from tqdm import tqdm

from dff.key_frames import key_frame_rule
from dff.model import DFF
from fgfa.model import FGFA
from lib.command_line import positive_count, positive_number, run_script
from lib.config import Config, load_config, to_dict
from lib.data.transforms import Preprocessing
from lib.engine.checkpoint import CheckpointError, read_identity
from lib.engine.device import default_device, device_of
from lib.engine.inference import Timing, detect_frames, read_ahead
from lib.engine.provenance import file_digest, machine, provenance
from lib.engine.run import METHODS, Run, method_called, open_run
from lib.engine.testing import TestResults, TestSet, evaluate_test, open_test_set
from lib.errors import InputError
from lib.files import check_output, hold_folder, read_json, write_json, writing
from lib.models.build import build_postprocess
from lib.models.postprocess import PostProcess
from lib.models.video_model import VideoModel
from lib.report.speed_accuracy import Point, draw_speed_accuracy
from lib.structures import Frame

MIDDLE, BOTH = "TEST.KEY_FRAME_POSITION=middle", "TEST.PROPAGATE_FROM=both"
BY_SIMILARITY = "TEST.PROPAGATE_FROM=both_by_similarity"
DFF_CURVES = {
    "first": ("DFF", ()),
    "middle": ("DFF, key frame in the middle", (MIDDLE,)),
    "both": ("DFF, both key frames", (BOTH,)),
    "both-middle": ("DFF, both, in the middle", (BOTH, MIDDLE)),
    "similar": ("DFF, both by similarity", (BY_SIMILARITY,)),
    "similar-middle": ("DFF, both by similarity, in the middle", (BY_SIMILARITY, MIDDLE)),
}
ADAPTIVE = "adaptive"
SUFFIXES = (".png", ".svg", ".pdf")


def parse_arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--weights", nargs="+", type=Path, metavar="FILE", help="checkpoints that say what they are")
    what.add_argument("--redraw", type=Path, metavar="JSON", help="draw what an earlier run measured")
    parser.add_argument("--work", type=Path, metavar="DIR", help="for the test results, kept from run to run")
    parser.add_argument("--json", type=Path, metavar="OUT", help="default: speed_accuracy.json in --work")
    parser.add_argument(
        "--out", type=Path, metavar="PICTURE", help="PNG, SVG or PDF; default: the JSON's name with .png"
    )
    parser.add_argument(
        "--intervals", nargs="+", type=positive_count, default=[1, 2, 3, 4, 5, 6, 8, 10, 12, 15, 20], metavar="N"
    )
    parser.add_argument(
        "--windows",
        nargs="+",
        type=positive_count,
        default=[*range(1, 22, 2)],
        metavar="N",
        help="odd; frames averaged",
    )
    parser.add_argument(
        "--flows",
        nargs="+",
        type=positive_number,
        default=[0.5, 1, 1.5, 2, 3, 4],
        metavar="CELLS",
        help="limits of the adaptive key frames, with at most --most frames from one to the next",
    )
    parser.add_argument("--most", type=positive_count, default=10, metavar="N", help="default: %(default)s")
    parser.add_argument(
        "--options", nargs="+", choices=(*DFF_CURVES, ADAPTIVE), default=[*DFF_CURVES, ADAPTIVE], help="DFF's curves"
    )
    parser.add_argument("--clips", type=positive_count, default=4, metavar="N", help="to time; default: %(default)s")
    parser.add_argument(
        "--frames", type=positive_count, default=48, metavar="N", help="of a clip to time; default: %(default)s"
    )
    parser.add_argument("--rounds", type=positive_count, default=3, metavar="N", help="of timing; default: %(default)s")
    parser.add_argument("--batch", type=positive_count, default=1, metavar="N", help="frames at once while timing")
    parser.add_argument(
        "--cpu-time", action="store_true", help="time what the process computes, not what passes: for a busy machine"
    )
    parser.add_argument("--title", default="", help="of the picture; default: data set, device and number of trainings")
    parser.add_argument("--device", default=default_device(), help="cpu, cuda or cuda:N; default: %(default)s")
    parser.add_argument("overrides", nargs="*", metavar="KEY=VALUE", help="configuration values of all")
    args = parser.parse_intermixed_args(argv)
    if args.weights and not args.work:
        parser.error("--weights needs --work, the folder for the test results")
    if any(window % 2 == 0 for window in args.windows):
        parser.error("--windows: FGFA averages a frame and as many before as after it; give odd numbers")
    args.json = args.redraw or args.json or args.work / "speed_accuracy.json"
    args.out = args.out or args.json.with_suffix(".png")
    if args.out.suffix not in SUFFIXES:
        parser.error(f"--out {args.out}: the picture's name ends in one of {', '.join(SUFFIXES)}")
    return args


@dataclass(frozen=True)
class Setting:
    """A point to be measured; see `Point`. window: frames that FGFA averages; the configuration cannot say 1."""

    curve: str
    label: str
    values: tuple[str, ...] = ()
    window: int = 0

    def folder(self) -> str:
        """The name of its folder."""
        values = [value.removeprefix("TEST.").replace("=", "_") for value in self.values]
        return "-".join([*values, *([f"window_{self.window}"] if self.window else [])]) or "plain"


def settings_of(method: str, args: argparse.Namespace) -> list[Setting]:
    """The points of a method, curve by curve."""
    if method == "rfcn":
        return [Setting("R-FCN", "")]
    if method == "fgfa":
        return [
            Setting("FGFA", str(n), (f"TEST.KEY_FRAME_INTERVAL={n // 2}",) if n > 1 else (), n) for n in args.windows
        ]
    settings = []
    for option, (curve, values) in DFF_CURVES.items():
        # With an interval of 1 every option is the plain one
        intervals = [n for n in args.intervals if n > 1 or option == "first"] if option in args.options else []
        settings += [Setting(curve, str(n), (f"TEST.KEY_FRAME_INTERVAL={n}", *values)) for n in intervals]
    if ADAPTIVE in args.options:
        adaptive = ("TEST.KEY_FRAME_POLICY=adaptive", f"TEST.KEY_FRAME_INTERVAL={args.most}")
        settings += [
            Setting("DFF, adaptive", f"{flow:g}c", (*adaptive, f"TEST.KEY_FRAME_FLOW={flow:g}")) for flow in args.flows
        ]
    return settings


@dataclass
class Trained:
    """A trained model and its test set."""

    run: Run
    model: VideoModel
    test_set: TestSet

    @staticmethod
    def of(path: Path, args: argparse.Namespace) -> Trained:
        """Load a checkpoint. Raises InputError."""
        identity = read_identity(path)
        if identity is None or identity.method not in METHODS:
            raise CheckpointError(f"{path}: does not say that it is for one of {', '.join(METHODS)}; give a checkpoint")
        method = method_called(identity.method)
        run = open_run(method, device_of(args.device), overrides=args.overrides, weights=str(path))
        test_set = open_test_set(run)
        return Trained(run, run.load_model(test_set.classes), test_set)

    @property
    def digest(self) -> str:
        return file_digest(self.run.weights)

    @property
    def data(self) -> tuple[str, Preprocessing]:
        """What its frames depend on."""
        return self.test_set.digest, Preprocessing.from_config(self.run.cfg, self.run.device)

    def configured(self, setting: Setting) -> Run:
        """The run with the values of `setting`."""
        return replace(self.run, cfg=load_config(None, setting.values, base=to_dict(self.run.cfg), base_name="setting"))

    def model_for(self, setting: Setting, cfg: Config) -> VideoModel:
        """The model as `setting` wants it; the weights are shared."""
        model = copy.copy(self.model)
        if isinstance(model, DFF):
            model.rule = key_frame_rule(cfg)
        if isinstance(model, FGFA):
            model.reach = setting.window // 2
        return model

    def postprocess(self, cfg: Config) -> PostProcess:
        return build_postprocess(cfg, self.run.method.score_threshold)

    def clips(self, number: int, length: int) -> list[list[Frame]]:
        """The first `length` frames of `number` videos, spread evenly over the test set."""
        videos = self.test_set.videos
        chosen = np.unique(np.linspace(0, len(videos) - 1, min(number, len(videos))).round().astype(int))
        preprocess = Preprocessing.from_config(self.run.cfg, self.run.device)
        return [[f for f, _ in zip(videos[i].frames(preprocess), range(length), strict=False)] for i in chosen]


@dataclass
class Measured:
    """One setting with one trained model: its accuracy, and the times of its turns."""

    trained: Trained
    setting: Setting
    means: dict[str, float | None]
    times: list[float] = field(default_factory=list)
    frames_per_key_frame: float | None = None

    def turn(self, clips: Sequence[Sequence[Frame]], batch_images: int, cpu_time: bool = False) -> None:
        """Detect in `clips` and note the milliseconds per frame; cpu_time: those that the process computed."""
        cfg = self.trained.configured(self.setting).cfg
        model, timing, keys = self.trained.model_for(self.setting, cfg), Timing(), 0
        fresh = (replace(frame) for frames in clips for frame in frames)  # a model writes on its frames
        postprocess = self.trained.postprocess(cfg)
        start = time.process_time()
        for frame, _ in detect_frames(model, fresh, postprocess, batch_images, timing=timing):
            keys += bool(frame.key_frame)
        computed = 1000 * (time.process_time() - start) / timing.frames
        self.times.append(computed if cpu_time else timing.ms_per_frame)
        self.frames_per_key_frame = timing.frames / keys if keys else None


def test(trained: Trained, setting: Setting, work: Path) -> dict[str, float | None]:
    """Test `setting` in its folder of `work`, or go on with what is there; the mean AP by range of motion."""
    run = trained.configured(setting)
    folder = work / f"{run.method.name}_{trained.digest[:12]}" / setting.folder()
    batch_images = run.cfg.TEST.BATCH_IMAGES
    model, postprocess = trained.model_for(setting, run.cfg), trained.postprocess(run.cfg)
    preprocess = Preprocessing.from_config(run.cfg, run.device)
    with TestResults(run, folder, trained.test_set) as results:
        for video in results.left:
            frames = read_ahead(video.frames(preprocess), depth=batch_images + 4)
            for frame, found in detect_frames(model, frames, postprocess, batch_images, timing=results.timing):
                results.add(frame, found)
            results.end_video()
    evaluation = evaluate_test(run, folder, trained.test_set)
    return {entry["name"]: entry["mean_ap"] for entry in evaluation.to_json()["motion"]}


def measure(args: argparse.Namespace, models: Sequence[Trained]) -> list[Point]:
    """Test and time every setting. Raises InputError."""
    wanted = [(trained, setting) for trained in models for setting in settings_of(trained.run.method.name, args)]
    measured = []
    with tqdm(wanted, unit="setting", desc="accuracy", dynamic_ncols=True) as bar:
        for trained, setting in bar:
            bar.set_postfix_str(f"{setting.curve} {setting.label}")
            measured.append(Measured(trained, setting, test(trained, setting, args.work)))
    clips: dict[object, list[list[Frame]]] = {}
    for trained in models:
        if trained.data not in clips:
            clips[trained.data] = trained.clips(args.clips, args.frames)
    with tqdm(total=(1 + args.rounds) * len(measured), unit="turn", desc="time", dynamic_ncols=True) as bar:
        for _ in range(1 + args.rounds):
            for one in measured:
                one.turn(clips[one.trained.data], args.batch, args.cpu_time)
                bar.update()
    return [_point([one for one in measured if one.setting == setting]) for setting in _unique(measured)]


def _unique(measured: Sequence[Measured]) -> list[Setting]:
    """The settings in the order of their methods and first use."""
    order = sorted(measured, key=lambda one: METHODS.index(one.trained.run.method.name))
    return list(dict.fromkeys(one.setting for one in order))


def _point(measured: Sequence[Measured]) -> Point:
    setting, keys = measured[0].setting, [one.frames_per_key_frame for one in measured]
    return Point(
        setting.curve,
        setting.label,
        setting.values,
        tuple(one.trained.digest for one in measured),
        tuple(one.means for one in measured),
        tuple(median(one.times[1:]) for one in measured),  # the first turn warms up
        None if None in keys else tuple(keys),
    )


def title_of(models: Sequence[Trained], args: argparse.Namespace) -> str:
    """Data set, image set, device and threads, trainings."""
    run = models[0].run
    data = f"{Path(run.cfg.dataset.dataset_path).name}, {run.cfg.dataset.test_image_set}"
    threads = torch.get_num_threads()
    on_cpu = f"{threads} CPU thread{'s' if threads > 1 else ''}{', CPU time' if args.cpu_time else ''}"
    device = on_cpu if run.device.type == "cpu" else machine(run.device)["gpu"]
    methods = [trained.run.method.name for trained in models]
    counts = {methods.count(name) for name in methods}
    trainings = f"{max(counts)} training{'s' if max(counts) > 1 else ''} of each method"
    return f"{data}; {device}; {trainings if len(counts) == 1 else f'up to {trainings}'}"


def table(points: Sequence[Point]) -> str:
    """The points as they are printed, AP in per cent."""
    lines = [f"{'':32}{'':>6}{'all':>8}{'fast':>8}{'ms/frame':>10}{'key frame in':>14}"]
    for point in points:
        aps = "".join(f"{'-' if ap is None else f'{ap:.2f}':>8}" for ap in map(point.mean_ap, ("all", "fast")))
        keys = point.frames_per_key_frame
        shown = "-" if keys is None else f"{sum(keys) / len(keys):.2f}"
        lines.append(f"{point.curve:32}{point.label:>6}{aps}{point.ms:10.2f}{shown:>14}")
    return "\n".join(lines)


def main(argv: Sequence[str] | None = None) -> None:
    """Measure and draw what `argv` asks for, the command line where None. Raises InputError."""
    args = parse_arguments(argv)
    check_output(args.out)
    if args.redraw:
        content = read_json(args.redraw, InputError, "give a file that --json wrote")
        rows = content.get("points") if isinstance(content, dict) else None
        points = [Point.of_json(row, str(args.redraw)) for row in rows or [None]]
        title = args.title or str(content.get("title", ""))
    else:
        check_output(args.json)
        with hold_folder(args.work):
            models = [Trained.of(path, args) for path in args.weights]
            points = measure(args, models)
        title = args.title or title_of(models, args)
        run = models[0].run
        made_with = provenance(run.cfg, run.device, run.weights)
        made_with = {key: made_with[key] for key in ("command", "code", "machine")}
        timed = {"clips": args.clips, "frames": args.frames, "rounds": args.rounds, "batch": args.batch}
        timed["cpu_time"] = args.cpu_time
        rows = [point.to_json() for point in points]
        write_json(args.json, {"title": title, "points": rows, "timed": timed, "made_with": made_with})
    print(table(points))
    with writing(args.out) as file:
        file.write(draw_speed_accuracy(points, title, args.out.suffix[1:]))
    print(args.out)


if __name__ == "__main__":
    run_script(main)
