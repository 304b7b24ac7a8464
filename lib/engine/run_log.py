"""The log of a run: lines on the console and in a file, curves for TensorBoard, what the run was made with."""

from __future__ import annotations

import logging
import platform
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np
import torch
import torchvision
import yaml
from tqdm import tqdm

from lib.config import Config, to_dict
from lib.version import commit

_LOGGER = logging.getLogger(__name__)


class _BarFriendlyHandler(logging.Handler):
    """Writes each record above the progress bars instead of into them."""

    def emit(self, record: logging.LogRecord) -> None:
        with suppress(OSError, ValueError):  # the terminal may be closed; the file has the line
            tqdm.write(self.format(record), file=sys.stderr)


@contextmanager
def open_log(path: str | Path) -> Iterator[None]:
    """While open, what any of our modules logs (INFO and above) goes to the console and to the end of the file `path`.

    The folder is made. Opening the same file again inside is harmless: each line is still written once.
    """
    path = Path(path).absolute()
    root = logging.getLogger()
    if any(isinstance(h, logging.FileHandler) and h.baseFilename == str(path) for h in root.handlers):
        yield
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    handlers: list[logging.Handler] = [logging.FileHandler(path, encoding="utf-8"), _BarFriendlyHandler()]
    handlers[0].setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    handlers[1].setFormatter(logging.Formatter("%(message)s"))
    if any(isinstance(h, _BarFriendlyHandler) for h in root.handlers):
        handlers.pop()  # the console has its lines already
    # A plain console handler, as `run_script` sets one up, would write every line a second time, into the bars
    plain = [h for h in root.handlers if type(h) is logging.StreamHandler]
    level = root.level
    root.setLevel(min(level, logging.INFO) if level else logging.INFO)
    for handler in plain:
        root.removeHandler(handler)
    for handler in handlers:
        root.addHandler(handler)
    try:
        yield
    finally:
        root.setLevel(level)
        for handler in handlers:
            root.removeHandler(handler)
            handler.close()
        for handler in plain:
            root.addHandler(handler)


def log_environment(cfg: Config, device: torch.device) -> None:
    """Log what the run is made with: versions, machine, commit, the whole configuration."""
    _LOGGER.info("command: %s", " ".join(sys.argv))
    _LOGGER.info(
        "python %s, torch %s, torchvision %s, numpy %s, %s",
        platform.python_version(),
        torch.__version__,
        torchvision.__version__,
        np.__version__,
        platform.platform(),
    )
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.machine()
    _LOGGER.info("device %s (%s), %d threads, commit %s", device, name, torch.get_num_threads(), commit())
    _LOGGER.info("configuration:\n%s", yaml.safe_dump(to_dict(cfg), sort_keys=False, default_flow_style=None).rstrip())


class Curves:
    """Scalars for TensorBoard in `folder`. Points from `first_step` on, of a run that is now resumed, are hidden."""

    def __init__(self, folder: str | Path, first_step: int) -> None:
        self._writer = None
        try:
            from torch.utils.tensorboard import SummaryWriter  # slow to import, and only training needs it
        except ImportError as error:
            _LOGGER.warning("no TensorBoard curves: %s; pip install tensorboard", error)
            return
        self._writer = SummaryWriter(str(folder), purge_step=first_step)

    def add(self, values: Mapping[str, float], step: int) -> None:
        if self._writer is not None:
            for name, value in values.items():
                self._writer.add_scalar(name, value, step)

    def close(self) -> None:
        if self._writer is not None:
            self._writer.close()
