"""How this process takes memory from the system, for speed on the CPU; measured in docs/performance.md."""

from __future__ import annotations

import contextlib
import ctypes
import os
import sys

# Of glibc's malloc.h
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_MMAP_MAX = -1, -3, -4
_MOST = 2**31 - 1
_CHOSEN_BY_USER = ("MALLOC_MMAP_THRESHOLD_", "MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_MAX_", "GLIBC_TUNABLES")


def set_up_host_memory() -> None:
    """Make tensors of many megabytes cheap to allocate on Linux; has no effect on other systems.

    Large pages for the tensors of torch, if it has not allocated one yet, and `keep_freed_memory`. For the whole
    process: scripts call it (`lib.command_line.run_script`), libraries should not.
    """
    os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")  # torch reads it when it allocates the first tensor
    keep_freed_memory()


def keep_freed_memory() -> bool:
    """Have malloc keep what is freed for its next allocations; returns whether it does.

    By default, glibc maps each block above 32 MiB anew and returns it when it is freed: the system then clears a
    feature map's pages for every frame. Memory that was needed once stays with the process instead. Has no effect with
    another C library or where an environment variable of glibc's says how malloc is to behave.
    """
    if not sys.platform.startswith("linux") or any(os.environ.get(name) for name in _CHOSEN_BY_USER):
        return False
    with contextlib.suppress(OSError, AttributeError):  # a C library without mallopt
        mallopt = ctypes.CDLL(None).mallopt
        # Older versions of glibc refuse a threshold above 32 MiB; they can do without mapping altogether
        kept = mallopt(_M_MMAP_THRESHOLD, _MOST) or mallopt(_M_MMAP_MAX, 0)
        return bool(kept and mallopt(_M_TRIM_THRESHOLD, _MOST))
    return False
