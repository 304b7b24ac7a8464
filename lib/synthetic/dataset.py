"""Write a whole synthetic data set: in parallel, moved into place when it is complete, never over other files."""

from __future__ import annotations

import json
import multiprocessing
import os
import shutil
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from pathlib import Path

import cv2

from lib.files import OutputError, made_by_dead_process, output_errors, read_json, unique_mark, write_json
from lib.synthetic.casting import Settings
from lib.synthetic.catalogue import class_names
from lib.synthetic.writer import Tally, write_item, write_lists

VERSION = 1  # raise it with every change that changes a picture or a box
RECORD = "synthetic.json"  # in the data set's folder: what it was made from
_PARTS = ("Data", "Annotations", "ImageSets", "Flow", "classes.txt", RECORD)


@dataclass(frozen=True)
class Plan:
    """How many of what. flow: also write the flow from each frame of a video to the next."""

    settings: Settings
    train_videos: int = 240
    val_videos: int = 60
    stills: int = 400
    flow: bool = False

    def __post_init__(self) -> None:
        for name in ("train_videos", "val_videos", "stills"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name.replace('_', ' ')}: {getattr(self, name)} is negative")

    def items(self) -> list[tuple[str, int]]:
        """Every (split, index)."""
        counts = {"train": self.train_videos, "val": self.val_videos, "stills": self.stills}
        return [(split, index) for split, count in counts.items() for index in range(count)]

    def parameters(self) -> dict:
        """All that decides the data set's bytes, as JSON values."""
        return json.loads(json.dumps({"version": VERSION, **asdict(self)}))


def make_dataset(
    out: Path,
    plan: Plan,
    workers: int = 1,
    overwrite: bool = False,
    progress: Callable[[Iterable, int], Iterable] | None = None,
) -> tuple[Tally, bool]:
    """Make the data set of `plan` in `out`; return what is in it and whether it had to be made.

    A data set of the same plan is left as it is. Anything else in `out` raises OutputError, unless it is a synthetic
    data set and `overwrite` is set. All is written to a new folder beside `out`, which takes its name when complete; no
    other folder is removed than that one and the data set that it replaces.
    progress: wraps an iterable of finished items, given their number.
    """
    try:
        out = Path(os.path.realpath(out))
    except ValueError as error:  # a NUL in the name
        raise OutputError(f"{os.fspath(out)!r}: cannot be written ({error}); give another name") from error
    with output_errors(out):
        _clean_up_after_killed(out)
        known = _recorded(out)
    if known is not None and known["parameters"] == plan.parameters() and not overwrite:
        return _tally(known["contents"]), False
    _refuse_other_contents(out, known, overwrite)
    part = _unused_name(out, "part")
    try:
        with output_errors(out):
            part.mkdir(parents=True)
            tally = Tally()
            finished = _written(part, plan, workers)
            for made in progress(finished, len(plan.items())) if progress else finished:
                tally.add(made)
            write_lists(part, plan.settings, plan.train_videos, plan.val_videos, plan.stills)
            write_json(part / RECORD, {"contents": _contents(tally), "parameters": plan.parameters()})
            _put_in_place(part, out, overwrite)
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return tally, True


def recorded_plan(folder: Path) -> Plan:
    """The plan of the synthetic data set in `folder`. Raises OutputError where there is none, or one of other code."""
    record = Path(folder) / RECORD
    known = _recorded(Path(folder))
    if known is None:
        raise OutputError(f"{record}: there is no such file; make the data set with tools/make_synthetic_vid.py")
    try:
        values = {key: value for key, value in known["parameters"].items() if key != "version"}
        settings = values["settings"] | {"motion_mix": tuple(values["settings"]["motion_mix"])}
        plan = Plan(**values | {"settings": Settings(**settings)})
    except (KeyError, TypeError, ValueError) as error:
        raise OutputError(f"{record}: not the parameters of a synthetic data set ({error})") from error
    if plan.parameters() != known["parameters"]:
        raise OutputError(f"{record}: made by another version of the generator; make the data set again")
    return plan


def summary(tally: Tally, classes: int) -> str:
    """A table of what a data set holds."""
    moving = max(sum(tally.motion.values()), 1)
    mix = ", ".join(f"{name} {100 * tally.motion[name] / moving:.1f}%" for name in ("fast", "medium", "slow"))
    rows = [
        ("videos", f"{tally.videos}"),
        ("stills", f"{tally.stills}"),
        ("frames and stills", f"{tally.frames}"),
        ("tracks in videos", f"{tally.tracks}"),
        (
            "annotated objects",
            f"{tally.objects} ({100 * tally.occluded / max(tally.objects, 1):.1f}% flagged occluded)",
        ),
        ("motion of those in videos", mix),
    ]
    rows += [(f"  {name}", f"{tally.classes[label]}") for label, name in enumerate(class_names(classes), 1)]
    return "\n".join(f"{name:<28}{value}" for name, value in rows)


def _written(root: Path, plan: Plan, workers: int) -> Iterator[Tally]:
    """Write every item, in this process or in `workers` others, and yield its tally when it is done."""
    jobs = [(root, plan.settings, split, index, plan.flow) for split, index in plan.items()]
    if workers <= 1:
        yield from (write_item(*job) for job in jobs)
        return
    # Spawned, not forked: a fork of a process that runs threads (OpenCV's, torch's) can hang.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, mp_context=context, initializer=cv2.setNumThreads, initargs=(1,)) as pool:
        futures = [pool.submit(write_item, *job) for job in jobs]
        try:
            for future in as_completed(futures):
                yield future.result()
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _recorded(out: Path) -> dict | None:
    """The record of the synthetic data set in `out`; None where there is none."""
    if not (out / RECORD).exists():
        return None
    record = read_json(out / RECORD, OutputError, f"remove {out} and try again")
    if not isinstance(record, dict) or not {"parameters", "contents"} <= set(record):
        raise OutputError(f"{out / RECORD}: not a record of a synthetic data set; choose another folder")
    return record


def _refuse_other_contents(out: Path, known: dict | None, overwrite: bool) -> None:
    """Raise OutputError where `out` is neither new, nor empty, nor a synthetic data set that may be replaced."""
    if not out.exists():
        return
    if known is None:
        if not out.is_dir() or any(out.iterdir()):
            raise OutputError(
                f"{out} exists and is not a synthetic data set (no {RECORD} in it): choose another folder"
            )
    elif not overwrite:
        raise OutputError(
            f"{out} holds a synthetic data set made with other parameters: choose another folder, or --overwrite"
        )
    elif strangers := sorted(path.name for path in out.iterdir() if path.name not in _PARTS):
        raise OutputError(f"{out} holds '{strangers[0]}' beside a synthetic data set: move it elsewhere first")


def _put_in_place(part: Path, out: Path, overwrite: bool) -> None:
    """Rename `part` to `out`; the data set that was there is removed once the new one is in its place."""
    if not out.exists():
        os.replace(part, out)
        return
    _refuse_other_contents(out, _recorded(out), overwrite)  # anything may have come there since the beginning
    old = _unused_name(out, "old")
    os.replace(out, old)
    try:
        os.replace(part, out)
    except OSError:
        os.replace(old, out)
        raise
    shutil.rmtree(old, ignore_errors=True)


def _unused_name(out: Path, purpose: str) -> Path:
    """A new name beside `out`."""
    return out.with_name(f".{out.name}.{unique_mark()}.{purpose}")


def _clean_up_after_killed(out: Path) -> None:
    """Remove what runs for `out` that were killed have left beside it; one that was replacing it puts it back."""
    if not out.parent.is_dir():
        return
    for path in out.parent.iterdir():
        if path.name.startswith(f".{out.name}.") and path.suffix in (".part", ".old") and path.is_dir():
            if not made_by_dead_process(path.name):
                continue
            if path.suffix == ".old" and not out.exists():
                os.replace(path, out)
            else:
                shutil.rmtree(path, ignore_errors=True)


def _contents(tally: Tally) -> dict:
    """The tally as JSON values, its counts in a fixed order."""
    return {k: {str(n): v[n] for n in sorted(v)} if isinstance(v, dict) else v for k, v in vars(tally).items()}


def _tally(contents: dict) -> Tally:
    tally = Tally(**{k: v for k, v in contents.items() if k not in ("motion", "classes")})
    tally.motion.update(contents["motion"])
    tally.classes.update({int(label): count for label, count in contents["classes"].items()})
    return tally
