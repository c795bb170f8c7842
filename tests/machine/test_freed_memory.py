"""Freed memory goes back to the system although something beside it is still in use."""

import os
import platform
from pathlib import Path

import pytest

from mmgrid.machine.freed_memory import release_freed


def resident_mib() -> float:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="other libraries return memory by themselves")
def test_gaps_between_texts_are_returned():
    texts = [bytes(4000) for _ in range(30_000)]
    full = resident_mib()
    last = texts[-1]
    texts.clear()
    release_freed()
    assert resident_mib() < full - 80
    assert len(last) == 4000
