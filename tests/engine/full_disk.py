"""A disk that is full, for `lib.files`."""

from __future__ import annotations

import errno
import io
import os
from collections.abc import Callable
from typing import IO


def full_disk(room: int) -> Callable[..., IO]:
    """An `open` for `lib.files`: of each file, `room` bytes fit on the disk."""

    class File(io.FileIO):
        def write(self, data):
            fits = max(0, room - self.tell())
            if len(data) > fits:
                super().write(bytes(data)[:fits])
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            return super().write(data)

    return lambda path, mode, **text: io.TextIOWrapper(File(path, "w"), **text) if text else File(path, mode)
