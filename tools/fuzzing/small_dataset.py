"""A synthetic data set of a few tiny frames, made once for a process."""

from __future__ import annotations

import atexit
import functools
import shutil
import tempfile
from pathlib import Path

from lib.synthetic.casting import Settings
from lib.synthetic.dataset import Plan, make_dataset

VIDEOS, FRAMES, STILLS = 2, 4, 2  # of the test set, of each video, single images to train on
CLASSES = 3


@functools.cache
def small_dataset() -> Path:
    """Its folder, for reading only; it is removed when the process ends."""
    folder = Path(tempfile.mkdtemp(prefix="fuzz-data-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    settings = Settings(classes=CLASSES, width=96, height=80, frames=FRAMES)
    make_dataset(folder / "set", Plan(settings, train_videos=1, val_videos=VIDEOS, stills=STILLS))
    return folder / "set"


def link_dataset(folder: Path) -> None:
    """Give `folder` the images and annotations of the small data set, through links; its lists are its own."""
    for name in ("Data", "Annotations"):
        (folder / name).symlink_to(small_dataset() / name)
    if not (folder / "classes.txt").exists():
        shutil.copy(small_dataset() / "classes.txt", folder)
