"""Write videos that browsers play.

Images are (H, W, 3) uint8 in BGR order, as OpenCV reads them.
"""

from __future__ import annotations

import errno
import logging
import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol

import cv2
import numpy as np

from lib.errors import InputError
from lib.files import OutputError, replacing
from lib.visualize.clip import fit

_log = logging.getLogger(__name__)

CODECS = ("h264", "vp9")
# Encoders of PyAV's wheels and their settings, the first one that is there. Measured at 1280 x 720: docs/demo.md
_ENCODERS: dict[str, tuple[tuple[str, dict[str, str]], ...]] = {
    "h264": (("libx264", {"preset": "ultrafast", "crf": "23"}), ("libopenh264", {"b": "8000000"})),
    "vp9": (("libvpx-vp9", {"deadline": "realtime", "cpu-used": "8", "row-mt": "1", "crf": "30", "b": "0"}),),
}
# VP9 is the one codec of OpenCV's wheel that browsers play: it has no H.264 encoder, and MPEG-4 part 2 they refuse.
_FOURCC = {".webm": "VP90", ".mp4": "vp09"}
_FULL = (errno.ENOSPC, errno.EDQUOT)


class VideoError(InputError):
    """A video that cannot be written; the message names the file and what to do."""


class Encoder(Protocol):
    """An open video file."""

    def write(self, image: np.ndarray) -> None:
        """Append one image of the size that the file was opened with."""

    def close(self) -> None:
        """Write what is left and close the file."""


class VideoWriter:
    """Writes a video, in a `with` block, under its final name only when it is complete.

    path: ends in `.webm` or `.mp4`. fps: frames a second, above 0. codec: "h264" or "vp9"; a `.webm` is always VP9.
    PyAV encodes; where it is not installed, OpenCV does, which has only VP9 and takes tens of times longer.
    The first frame sets the size, less one row or column where it is odd (colour has half the resolution); frames of
    another size are shrunk or enlarged to fit inside it, on grey. An error inside the block leaves no file behind.

    Raises VideoError for another ending or codec, a bad frame rate, a video that cannot be opened, no frame at all, or
    a written file from which not every frame can be read back; OutputError for a path that cannot be written.
    """

    def __init__(self, path: str | os.PathLike, fps: float, codec: str = "h264") -> None:
        self.path = Path(path)
        self.count = 0
        if self.path.suffix.lower() not in _FOURCC:
            raise VideoError(f"{self.path}: a video's name must end in .webm or .mp4")
        if codec not in CODECS:
            raise VideoError(f"{self.path}: '{codec}' is no codec here; take one of {', '.join(CODECS)}")
        if not 0 < fps <= 1000:
            raise VideoError(f"{self.path}: a video cannot have {fps} frames a second; give a number above 0")
        self.fps = float(fps)
        self.codec = "vp9" if self.path.suffix.lower() == ".webm" else codec
        self._stack = ExitStack()
        self._temporary = self.path
        self._encoder: Encoder | None = None
        self._size_hw = (0, 0)

    def __enter__(self) -> VideoWriter:
        with ExitStack() as stack:
            self._temporary = stack.enter_context(replacing(self.path))
            self._try_to_create()
            stack.push(self._finish)
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.__exit__(kind, error, trace)

    def _try_to_create(self) -> None:
        """Create the file before the work begins: an encoder's error would come later, and not say what is wrong.

        Raises OutputError where the folder takes no file whatever its permissions say, as /proc does.
        """
        try:
            self._temporary.touch()
        except OSError as error:
            if error.errno in _FULL:
                raise
            raise OutputError(
                f"{self.path}: the folder {self._temporary.parent} cannot be written to ({error.strerror}); give "
                "another name"
            ) from error

    def _finish(self, kind: type[BaseException] | None, *_: object) -> None:
        encoder, self._encoder = self._encoder, None
        if encoder is not None:
            encoder.close()
        if kind is None:
            self._check()

    def write(self, image: np.ndarray) -> None:
        """Append one (H, W, 3) uint8 BGR image."""
        if self._encoder is None:
            self._size_hw = tuple(max(2, side - side % 2) for side in image.shape[:2])
            self._encoder = self._open()
        self._encoder.write(np.ascontiguousarray(fit(image, self._size_hw)))
        self.count += 1

    def _open(self) -> Encoder:
        encoder = pyav_encoder(self.codec)
        if encoder is None:
            return _OpenCVEncoder(self.path, self._temporary, self.fps, self._size_hw)
        return _PyAVEncoder(*encoder, self.path, self._temporary, self.fps, self._size_hw)

    def _check(self) -> None:
        if self.count == 0:
            raise VideoError(f"{self.path}: no frame was written, so there is no video")
        # Counted from the container, which is cheap; decoding each frame would take as long again as a long clip.
        reader = cv2.VideoCapture(str(self._temporary), cv2.CAP_FFMPEG)
        found = int(round(reader.get(cv2.CAP_PROP_FRAME_COUNT))) if reader.isOpened() else 0
        readable = reader.isOpened() and reader.read()[0]
        reader.release()
        if not readable or abs(found - self.count) > 1:
            raise VideoError(f"{self.path}: {self.count} frames were written, {found} can be read; is the disk full?")


def pyav_encoder(codec: str) -> tuple[str, dict[str, str]] | None:
    """The name and the settings of PyAV's encoder of `codec`; None, and a line in the log, where there is none."""
    try:
        import av  # not at the top: only those who write videos need it
    except ImportError:
        _log.warning("PyAV is not installed: OpenCV writes the video, as VP9 and slowly; pip install av")
        return None
    found = next((one for one in _ENCODERS[codec] if one[0] in av.codecs_available), None)
    if found is None:
        _log.warning("this build of PyAV has no %s encoder: OpenCV writes the video, as VP9 and slowly", codec)
    return found


@contextmanager
def _pyav_errors(path: Path) -> Iterator[None]:
    """Turn an FFmpeg error inside the block into a VideoError that names `path`; a full disk stays an OSError."""
    import av

    try:
        yield
    except av.FFmpegError as error:
        if isinstance(error, OSError) and error.errno in (*_FULL, errno.EACCES):
            raise
        raise VideoError(f"{path}: cannot be encoded ({error}); try another --codec") from error


class _PyAVEncoder:
    """Encodes with the FFmpeg libraries that come with PyAV. shown: the name for messages."""

    def __init__(
        self, name: str, settings: dict[str, str], shown: Path, path: Path, fps: float, size_hw: tuple[int, int]
    ) -> None:
        import av

        self._shown, self._frame_of = shown, av.VideoFrame.from_ndarray
        # The index before the pictures lets a browser begin before it has the whole file
        options = {"movflags": "+faststart"} if path.suffix.lower() == ".mp4" else {}
        with _pyav_errors(shown):
            self._file: Any = av.open(os.fspath(path), "w", options=options)
            self._stream = self._file.add_stream(name, rate=Fraction(fps).limit_denominator(10_000), options=settings)
        self._stream.height, self._stream.width = size_hw
        self._stream.pix_fmt = "yuv420p"

    def write(self, image: np.ndarray) -> None:
        with _pyav_errors(self._shown):
            planes = cv2.cvtColor(image, cv2.COLOR_BGR2YUV_I420)  # a third of what PyAV's own conversion takes
            self._file.mux(self._stream.encode(self._frame_of(planes, format="yuv420p")))

    def close(self) -> None:
        with _pyav_errors(self._shown):
            try:
                self._file.mux(self._stream.encode(None))
            finally:
                self._file.close()


class _OpenCVEncoder:
    """Encodes VP9 with OpenCV, which has no setting for its speed."""

    def __init__(self, shown: Path, path: Path, fps: float, size_hw: tuple[int, int]) -> None:
        code = cv2.VideoWriter_fourcc(*_FOURCC[path.suffix.lower()])
        self._writer = cv2.VideoWriter(str(path), cv2.CAP_FFMPEG, code, fps, size_hw[::-1])
        if not self._writer.isOpened():
            raise VideoError(
                f"{shown}: OpenCV {cv2.__version__} cannot write VP9 here; install PyAV (pip install av), and run "
                "tools/doctor.py to see what can be written"
            )

    def write(self, image: np.ndarray) -> None:
        self._writer.write(image)

    def close(self) -> None:
        self._writer.release()
