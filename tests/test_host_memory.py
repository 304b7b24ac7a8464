"""Memory that is freed is used again, not taken anew from the system."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PAGES_OF_A_BLOCK = 96 * 2**20 // 4096
# Takes, fills and frees the same large blocks ten times after a first time
MEASURE = """
import numpy as np, resource
{first}
def take(): return [np.ones(size * 2**20, np.uint8) for size in (96, 40)]
take()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(10): take()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""
glibc_only = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="other C libraries have no such setting")


def page_faults(first: str, **environment: str) -> int:
    command = [sys.executable, "-c", MEASURE.format(first=first)]
    # NumPy's own large pages would hide how often the system hands out memory
    environment = {**os.environ, "NUMPY_MADVISE_HUGEPAGE": "0", **environment}
    done = subprocess.run(command, cwd=ROOT, env=environment, check=True, capture_output=True, text=True, timeout=300)
    return int(done.stdout)


@glibc_only
def test_a_script_takes_the_memory_of_a_large_block_once():
    set_up = "from lib.host_memory import set_up_host_memory\nset_up_host_memory()"
    assert page_faults("") > 10 * PAGES_OF_A_BLOCK
    assert page_faults(set_up) < PAGES_OF_A_BLOCK / 10


@glibc_only
@pytest.mark.parametrize("name", ["MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_"])
def test_what_the_user_chose_for_malloc_holds(name):
    keep = "from lib.host_memory import keep_freed_memory\nassert not keep_freed_memory()"
    assert page_faults(keep, **{name: "131072"}) > 10 * PAGES_OF_A_BLOCK
