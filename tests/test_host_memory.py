"""Memory that is freed is used again, not taken anew from the system."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
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


def page_faults(first: str = "", **environment: str) -> int:
    command = [sys.executable, "-c", MEASURE.format(first=first)]
    own = {name: value for name, value in os.environ.items() if not name.startswith(("MALLOC_", "GLIBC_"))}
    # NumPy's own large pages would hide how often the system hands out memory
    environment = {**own, "NUMPY_MADVISE_HUGEPAGE": "0", **environment}
    done = subprocess.run(command, cwd=ROOT, env=environment, check=True, capture_output=True, text=True, timeout=300)
    return int(done.stdout)


@glibc_only
@pytest.mark.parametrize(
    "older_glibc",
    ["", "lib.host_memory._M_MMAP_THRESHOLD = 1"],  # M_MXFAST, which refuses large values, as it did the threshold
    ids=["this version", "older version"],
)
def test_a_script_takes_the_memory_of_a_large_block_once(older_glibc):
    set_up = f"import lib.host_memory\n{older_glibc}\nlib.host_memory.set_up_host_memory()"
    assert page_faults(set_up) < page_faults() / 10


@glibc_only
@pytest.mark.parametrize("name", ["MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_"])
def test_what_the_user_chose_for_malloc_holds(name):
    keep = "from lib.host_memory import keep_freed_memory\nassert not keep_freed_memory()"
    assert page_faults(keep, **{name: "131072"}) > page_faults() / 2
