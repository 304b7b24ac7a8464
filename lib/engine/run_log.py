"""The log of a run: console and file, TensorBoard curves, metrics as JSON lines, and a record of the environment."""

from __future__ import annotations

import json
import logging
import math
import platform
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from tqdm import tqdm

from lib.config import Config, to_dict
from lib.engine.provenance import provenance
from lib.files import check_output, output_errors, write_text

_LOGGER = logging.getLogger(__name__)


class _BarFriendlyHandler(logging.Handler):
    """Writes each record above the progress bars instead of into them."""

    def emit(self, record: logging.LogRecord) -> None:
        with suppress(OSError, ValueError):  # the terminal may be closed; the file has the line
            tqdm.write(self.format(record), file=sys.stderr)


class _LogFile(logging.FileHandler):
    """The file of a log. What cannot be written is said once on the console, without a traceback."""

    failed = False

    def handleError(self, record: logging.LogRecord) -> None:
        if not self.failed:
            self.failed = True
            reason = sys.exc_info()[1]
            with suppress(OSError, ValueError, AttributeError):
                tqdm.write(f"{self.baseFilename}: lines of the log are lost ({reason})", file=sys.stderr)

    def close(self) -> None:
        with suppress(OSError):  # said when the line was written
            super().close()


@contextmanager
def open_log(path: str | Path) -> Iterator[None]:
    """In the block, log records of all modules (INFO and above) go to the console and are appended to the file `path`.

    The folder is made. Opening the same file again inside is harmless: each line is still written once. Raises
    OutputError; a disk that is full later costs lines of the file, not the run.
    """
    path = check_output(path)
    root = logging.getLogger()
    if any(isinstance(h, logging.FileHandler) and h.baseFilename == str(path) for h in root.handlers):
        yield
        return
    with output_errors(path):
        handlers: list[logging.Handler] = [_LogFile(path, encoding="utf-8"), _BarFriendlyHandler()]
    handlers[0].setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    handlers[1].setFormatter(logging.Formatter("%(message)s"))
    if any(isinstance(h, _BarFriendlyHandler) for h in root.handlers):
        handlers.pop()  # an outer log writes to the console already
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


@contextmanager
def quiet_log(rank: int) -> Iterator[None]:
    """In the block, only warnings and errors go to the console, with the process's rank; the main process logs."""
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter(f"[process {rank}] %(levelname)s: %(message)s"))
    root = logging.getLogger()
    plain, level = list(root.handlers), root.level
    root.handlers, root.level = [handler], logging.WARNING
    try:
        yield
    finally:
        root.handlers, root.level = plain, level


def log_environment(cfg: Config, device: torch.device, weights: Path | None = None) -> None:
    """Log the command, versions, machine, commit, the weights file with its SHA-256, and the whole configuration."""
    made_with = provenance(cfg, device, weights)
    where, packages = made_with["machine"], made_with["machine"]["packages"]
    _LOGGER.info("command: %s", made_with["command"])
    versions = ", ".join(f"{name} {version}" for name, version in packages.items())
    _LOGGER.info("python %s, %s, %s", where["python"], versions, where["platform"])
    name = where["gpu"] or platform.machine()
    _LOGGER.info("device %s (%s), %d threads, commit %s", device, name, where["threads"], made_with["code"]["commit"])
    if made_with["weights"]:
        _LOGGER.info("weights %s, sha256 %s", made_with["weights"]["path"], made_with["weights"]["sha256"])
    _LOGGER.info("configuration:\n%s", yaml.safe_dump(to_dict(cfg), sort_keys=False, default_flow_style=None).rstrip())


class Curves:
    """Scalars and pictures for TensorBoard in `folder`; older points from `first_step` on, of a resumed run, are
    hidden.

    A disk that is full costs points, not the run: one warning says so.
    """

    def __init__(self, folder: str | Path, first_step: int) -> None:
        self._folder, self._writer = folder, None
        self._hook_before = threading.excepthook
        threading.excepthook = self._report_of_thread
        try:
            from torch.utils.tensorboard import SummaryWriter  # slow to import, and only training needs it
        except ImportError as error:
            _LOGGER.warning("no TensorBoard curves: %s; pip install tensorboard", error)
            return
        with self._losing_points():
            self._writer = SummaryWriter(str(folder), purge_step=first_step)

    def add(self, values: Mapping[str, float], step: int) -> None:
        """Add a point at `step` (the number of the update) to the curve of each name."""
        with self._losing_points():
            for name, value in values.items():
                if self._writer is not None:
                    self._writer.add_scalar(name, value, step)

    def add_picture(self, name: str, image: np.ndarray, step: int) -> None:
        """image: (H, W, 3) uint8 B, G, R."""
        with self._losing_points():
            if self._writer is not None:
                self._writer.add_image(name, np.ascontiguousarray(image[:, :, ::-1]), step, dataformats="HWC")

    def close(self) -> None:
        with self._losing_points():
            if self._writer is not None:
                self._writer.close()
        threading.excepthook = self._hook_before

    @contextmanager
    def _losing_points(self) -> Iterator[None]:
        """Write no more points after an OSError in the block, and warn once."""
        try:
            yield
        except OSError as error:
            self._writer = None
            _LOGGER.warning("%s: points of TensorBoard's curves are lost (%s)", self._folder, error)

    def _report_of_thread(self, args: threading.ExceptHookArgs) -> None:
        """The excepthook of threads: none for an OSError of TensorBoard's, which the next call of its writer raises."""
        if not (issubclass(args.exc_type, OSError) and type(args.thread).__module__.startswith("tensorboard")):
            self._hook_before(args)


class MetricsFile:
    """The figures of a training, one JSON object per line, each with the number of its update.

    Lines from `first_update` on, which a run that is now resumed has left, are dropped when the file is opened.
    Raises OutputError.
    """

    def __init__(self, path: Path, first_update: int) -> None:
        kept = []
        self.path = path = check_output(path)
        if path.is_file():
            for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
                with suppress(ValueError, KeyError, TypeError):  # half a line, of a run that was killed
                    if json.loads(line)["update"] < first_update:
                        kept.append(f"{line}\n")
        write_text(path, "".join(kept))
        with output_errors(path):
            self._file = path.open("a", encoding="utf-8")

    def add(self, update: int, **values: Any) -> None:
        """Append one line; values that JSON has no number for (NaN) become null."""
        finite = {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in values.items()}
        with output_errors(self.path):
            self._file.write(json.dumps({"update": update, **finite}) + "\n")
            self._file.flush()

    def close(self) -> None:
        with suppress(OSError):  # `add` has raised it
            self._file.close()
