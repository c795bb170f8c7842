"""Peak resident memory of this process during a piece of work, as measured by the kernel.

Linux has a high-water mark that can be reset, so each cell gets its own figure. Elsewhere the mark covers the whole
life of the process and is an upper bound.
"""

import resource
import sys
from pathlib import Path

_RESET_HIGH_WATER_MARK = "5"  # man 5 proc, clear_refs


def reset_peak() -> None:
    """Reset the kernel's high-water mark to the present use, where the system allows it."""
    try:
        Path("/proc/self/clear_refs").write_text(_RESET_HIGH_WATER_MARK)
    except OSError:
        return


def peak_bytes() -> int:
    """The high-water mark of this process's resident memory, in bytes."""
    try:
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    except (OSError, ValueError):
        pass
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
