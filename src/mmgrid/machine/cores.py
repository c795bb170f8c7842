"""The cores that this process may use."""

import math
import os
from pathlib import Path

_CGROUP = Path("/sys/fs/cgroup")  # Linux; in a container its limits are at the top


def available_cores() -> int:
    """The number of cores that affinity and limits of a container (cgroups) leave to this process; at least 1."""
    affinity = getattr(os, "sched_getaffinity", None)  # Linux
    cores = len(affinity(0)) if affinity is not None else os.cpu_count() or 1
    return max(1, min(cores, _limit() or cores))


def _limit() -> int | None:
    """The cores that a container's share of processor time is worth, rounded up; None without a limit."""
    for files in (["cpu.max"], ["cpu/cpu.cfs_quota_us", "cpu/cpu.cfs_period_us"]):  # version 2 of cgroups, and 1
        try:
            quota, period = map(int, " ".join((_CGROUP / file).read_text(encoding="ascii") for file in files).split())
        except (OSError, ValueError):  # there is no such file, or it says "max"
            continue
        if quota > 0 and period > 0:
            return math.ceil(quota / period)
    return None
