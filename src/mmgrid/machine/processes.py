"""Which process a number means: numbers are reused, after a boot and within one.

Linux tells by `/proc`. Other systems have no such folder; there psutil asks the kernel. It is imported only then, because
that takes longer than a question.
"""

import os
import sys
from pathlib import Path

_PROC = Path("/proc")


def boot() -> str:
    """Identifies one boot of this machine.

    Without `/proc` it is the time of the boot, which some systems correct when the clock is set: two texts of one boot
    may then differ, but those of two boots are never the same.
    """
    try:
        return (_PROC / "sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        import psutil

        return f"{psutil.boot_time():.0f}"


def number_space() -> str:
    """Identifies one boot and one pid namespace, within which process numbers are unambiguous."""
    try:
        return f"{boot()} {(_PROC / 'self/ns/pid').readlink()}"
    except OSError:
        return boot()


def start_of(pid: int) -> str | None:
    """When the living process with this number started, in the system's own unit; None if none is seen to live.

    A zombie does not live.
    """
    try:
        # The second field, the command in brackets, may contain anything: read after the last bracket.
        text = (_PROC / str(pid) / "stat").read_text(encoding="utf-8", errors="replace")
        state, *fields = text.rpartition(")")[2].split()
        return None if state in "ZX" else fields[18]
    except (OSError, ValueError):
        if _has_proc():
            return None
    import psutil

    try:
        return None if _is_zombie(pid) else str(psutil.Process(pid).create_time())
    except (psutil.Error, OSError):
        return None


def lives(pid: int, start: str) -> bool | None:
    """Whether the process with this number that started at `start` lives; None if the system does not tell."""
    now = start_of(pid)
    if now is not None:
        return now == start
    if sys.platform == "win32":  # os.kill would interrupt the process
        import psutil

        return None if psutil.pid_exists(pid) else False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return None  # the process exists, but /proc hides those of other users
    return False if _has_proc() or _is_zombie(pid) else None


def _has_proc() -> bool:
    return (_PROC / "self/stat").exists()


def _is_zombie(pid: int) -> bool:
    import psutil

    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:  # it has just ended
        return True
    except (psutil.Error, OSError):
        return False
