"""The machine's memory, and the peak resident memory of this process during a piece of work.

Linux has a high-water mark that can be reset, so each cell gets its own figure. Elsewhere the mark covers the whole
life of the process and is an upper bound.
"""

import sys
from pathlib import Path

import psutil

try:
    import resource
except ImportError:  # Windows has none
    resource = None

_RESET_HIGH_WATER_MARK = "5"  # man 5 proc, clear_refs
_STATUS = Path("/proc/self/status")


def total_bytes() -> int:
    """The memory of the machine."""
    return psutil.virtual_memory().total


def reset_peak() -> None:
    """Reset the kernel's high-water mark to the present use, where the system allows it."""
    try:
        _STATUS.with_name("clear_refs").write_text(_RESET_HIGH_WATER_MARK, encoding="ascii")
    except OSError:
        return


def peak_bytes() -> int:
    """The high-water mark of this process's resident memory, in bytes."""
    try:
        for line in _STATUS.read_text(encoding="ascii", errors="replace").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    except (OSError, ValueError):
        pass
    if resource is not None:
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak if sys.platform == "darwin" else peak * 1024
    memory = psutil.Process().memory_info()
    return getattr(memory, "peak_wset", memory.rss)  # Windows: the peak of the working set
