"""Exit handling of every script and tool, and the arguments that several of them share."""

from __future__ import annotations

import argparse
import contextlib
import faulthandler
import logging
import os
import sys
from collections.abc import Callable
from pathlib import Path

from lib.errors import InputError
from lib.host_memory import set_up_host_memory

USER_ERROR = 2
_INTERRUPTED = "interrupted; a test goes on where it was with the same command"


def run_script(main: Callable[[], object]) -> None:
    """Call `main` and exit with the status that it returns, 0 if that is not a number.

    Errors that the user can fix, a full disk and a lack of memory print one line and exit with status 2; Ctrl-C prints
    one line and exits with status 130; a closed output pipe exits with status 141 and prints nothing.
    """
    try:
        _set_up_process()
        status = main()
        sys.stdout.flush()
    except InputError as error:
        _end(f"error: {error}", USER_ERROR)
    except BrokenPipeError:
        # Python flushes standard output once more at exit, which would fail again
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        sys.exit(141)
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        _end(f"error: {where}{error.strerror or error}", USER_ERROR)
    except KeyboardInterrupt:
        _end(_INTERRUPTED, 130)
    except Exception as error:
        if _is_out_of_memory(error):
            _end("error: out of memory; take fewer or smaller images at a time (BATCH_IMAGES, SCALES)", USER_ERROR)
        if _comes_of_interrupt(error):
            _end(_INTERRUPTED, 130)
        raise
    sys.exit(status if isinstance(status, int) else 0)


def child_environment(**changes: str) -> dict[str, str]:
    """Return the environment for a Python process that this one starts.

    It is this process's own, with this repository put first on PYTHONPATH. changes: variables to set besides, by name.
    """
    root = str(Path(__file__).resolve().parents[1])
    path = os.pathsep.join(filter(None, (root, os.environ.get("PYTHONPATH"))))
    return {**os.environ, "PYTHONPATH": path, **changes}


def _set_up_process() -> None:
    _open_missing_streams()
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure") and not stream.closed:
            stream.reconfigure(errors="backslashreplace")  # a file's name may not fit the terminal's encoding
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s: %(message)s")
    # Not only for the tracebacks of crashes: it gives signals a stack of their own. A matrix kernel of oneDNN (torch
    # 2.11, small dilated convolutions) uses the stack pointer for its own data, and a signal would overwrite the heap
    faulthandler.enable(file=2)
    set_up_host_memory()


def _open_missing_streams() -> None:
    """Give a process that was started without standard streams (`<&-`, `>&-`) ones that lead nowhere.

    Otherwise the next file that is opened would have the number of the stream, and get what libraries print.
    """
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest free number
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "w" if number else "r"))  # noqa: SIM115 (open until the process ends)


def _is_out_of_memory(error: Exception) -> bool:
    """Whether `error` means a lack of memory, in torch too, which is not imported here: its GPU error has a class of
    its own, its CPU error is recognised by the message."""
    is_gpu = type(error).__name__ == "OutOfMemoryError"
    is_cpu = isinstance(error, RuntimeError) and "DefaultCPUAllocator" in str(error)
    return isinstance(error, MemoryError) or is_gpu or is_cpu


def _comes_of_interrupt(error: BaseException | None) -> bool:
    """Whether `error` was raised while an interrupt was handled: clean-up that the interrupt found half prepared, as in
    `argparse.ArgumentParser.parse_intermixed_args`, fails and hides it."""
    while error is not None and not isinstance(error, KeyboardInterrupt):
        error = error.__context__
    return error is not None


def _end(line: str, status: int) -> None:
    with contextlib.suppress(OSError, ValueError, AttributeError):  # standard error may be closed
        print(line, file=sys.stderr)
    sys.exit(status)


def count(text: str) -> int:
    """A number of things on the command line: 0 or more."""
    try:
        number = int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"must be a whole number, not {text!r}") from None
    if not 0 <= number < 2**31:
        raise argparse.ArgumentTypeError(f"must be from 0 to {2**31 - 1}, not {text}")
    return number


def positive_count(text: str) -> int:
    """A number of things on the command line: 1 or more."""
    number = count(text)
    if number == 0:
        raise argparse.ArgumentTypeError("must be at least 1, not 0")
    return number


def _number(text: str, accepts: Callable[[float], bool], wanted: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = float("nan")
    if not accepts(number):
        raise argparse.ArgumentTypeError(f"must be a number {wanted}, not {text!r}")
    return number


def positive_number(text: str) -> float:
    """A number above 0 on the command line, such as a learning rate."""
    return _number(text, lambda number: 0 < number < float("inf"), "above 0")


def share(text: str) -> float:
    """A number from 0 to 1 on the command line, such as a score."""
    return _number(text, lambda number: 0 <= number <= 1, "from 0 to 1")


def rate(text: str) -> float:
    """Frames a second on the command line: from 0.01 to 1000."""
    try:
        number = float(text)
    except ValueError:
        number = float("nan")
    if not 0.01 <= number <= 1000:
        raise argparse.ArgumentTypeError(f"must be a number from 0.01 to 1000, not {text!r}")
    return number


def add_dataset_argument(parser: argparse._ActionsContainer, required: bool = False) -> None:
    parser.add_argument(
        "--dataset-path", required=required, metavar="DIR", help="folder with Data, Annotations and ImageSets"
    )


def add_image_set_argument(parser: argparse._ActionsContainer) -> None:
    parser.add_argument("--image-set", default="VID_val_videos", metavar="NAME", help="default: %(default)s")


def add_classes_argument(parser: argparse._ActionsContainer) -> None:
    parser.add_argument(
        "--classes", default="", metavar="FILE", help="default: DIR/classes.txt, or else ImageNet VID's 30 classes"
    )


def add_cache_argument(parser: argparse._ActionsContainer) -> None:
    parser.add_argument(
        "--cache", default="data/cache", metavar="DIR", help="for the index of the annotations; default: %(default)s"
    )


def add_workers_argument(parser: argparse._ActionsContainer) -> None:
    parser.add_argument(
        "--workers",
        type=count,
        default=os.cpu_count() or 1,
        metavar="N",
        help="processes; the result does not depend on them; default: %(default)s",
    )


def add_evaluation_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of an evaluation: the ground truth (an image set or COCO-VID JSON) and its motion."""
    data = parser.add_mutually_exclusive_group(required=True)
    add_dataset_argument(data)
    data.add_argument("--ground-truth", metavar="FILE", help="COCO-VID JSON in place of a data set's folder")
    add_image_set_argument(parser)
    parser.add_argument(
        "--videos", default="", metavar="WHICH", help="only the first N videos, or names: a,b; default: all"
    )
    parser.add_argument(
        "--motion-iou", default="", metavar="FILE", help="motion IoU as .mat; default: computed from the track ids"
    )
    add_classes_argument(parser)
    add_cache_argument(parser)
