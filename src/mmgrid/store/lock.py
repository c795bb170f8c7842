"""Two processes never build one cell at the same time, on one machine or on a folder that several share.

A lock is a file made with O_EXCL that says who holds it; a thread touches it while the holder lives. Whether
a holder on the *same machine* lives is asked of the kernel (process number and start time, since numbers are
used again), which is certain, so that a busy process is never robbed and a killed one blocks nobody. A
holder elsewhere is judged by the file's age alone, measured by the file system's own clock: machines' clocks
differ.

A stale lock is taken over by renaming it aside and looking at what was renamed. If it is not what was judged
(another process was faster), it is put back. Whatever slips through that narrow gap, the holder asks
`held()` before it publishes, and only the process whose token stands in the file may.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import secrets
import socket
import threading
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType

log = logging.getLogger(__name__)

LOCK_SUFFIX = ".lock"
BEAT_SECONDS = 5.0
STALE_SECONDS = 60.0
_ASIDE_INFIX = ".aside-"
_PROBE_INFIX = ".clock-"


@dataclass(frozen=True)
class Holder:
    """Who holds a lock, since when (UTC, ISO 8601; empty where a lock does not say).

    `machine` tells apart what shares a host name: boots and pid namespaces.
    """

    host: str
    machine: str
    pid: int
    start: str
    token: str
    since: str = ""

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host}" + (f", at work since {self.since}" if self.since else "")


class Lock:
    """A lock that this process holds. Use as a context manager; releases at the end."""

    def __init__(self, path: Path, holder: Holder, descriptor: int, beat_seconds: float) -> None:
        self.path = path
        self.holder = holder
        self._descriptor = descriptor
        self._beat_seconds = beat_seconds
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._beat, name=f"heartbeat {path.name}", daemon=True)
        self._thread.start()

    def held(self) -> bool:
        """Whether the lock is still ours: asked of the file, not of memory."""
        if self._done.is_set() or os.getpid() != self.holder.pid:  # a forked child holds nothing
            return False
        seen = _look(self.path)
        return seen is not None and seen.holder == self.holder

    def release(self) -> None:
        """Let go. Removes the file only if it is still ours. May be called twice."""
        if self._done.is_set():
            return
        ours = self.held()
        self._done.set()
        self._thread.join()
        if ours:
            with contextlib.suppress(OSError):
                self.path.unlink()
        os.close(self._descriptor)

    def _beat(self) -> None:
        # Touched through the descriptor: if the lock was taken from us, the new holder's file is not kept
        # alive.
        while not self._done.wait(self._beat_seconds):
            with contextlib.suppress(OSError):
                os.utime(self._descriptor)

    def __enter__(self) -> Lock:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()


def try_lock(path: Path, *, beat_seconds: float = BEAT_SECONDS, stale_seconds: float = STALE_SECONDS) -> Lock | None:
    """Take the lock at `path` (its folder exists), or None if a living process holds it. Never waits.

    Raises:
        OSError: the folder cannot be written.
    """
    lock = _create(path, beat_seconds)
    if lock is not None:
        return lock
    seen = _look(path)
    if seen is not None:
        if not _is_stale(path, seen, stale_seconds):
            return None
        if not _take_aside(path, seen):
            return None
        log.warning("%s: taken over from %s, which is gone", path, seen.holder or "a process that left no name")
    return _create(path, beat_seconds)


def is_live(path: Path, *, stale_seconds: float = STALE_SECONDS) -> bool:
    """Whether a living process holds the lock at `path`."""
    seen = _look(path)
    return seen is not None and not _is_stale(path, seen, stale_seconds)


def holder(path: Path) -> Holder | None:
    """Who holds the lock at `path`, as far as the file says; living or not."""
    seen = _look(path)
    return None if seen is None else seen.holder


def is_debris(path: Path) -> bool:
    """Whether `path` is a file that a process killed in the middle of a takeover left beside a lock."""
    return f"{LOCK_SUFFIX}{_ASIDE_INFIX}" in path.name or f"{LOCK_SUFFIX}{_PROBE_INFIX}" in path.name


@dataclass(frozen=True)
class _Seen:
    """A lock file at one moment. `holder` is None when the text is not a holder's (cut off by a crash)."""

    holder: Holder | None
    text: bytes
    inode: int
    touched: int


def _create(path: Path, beat_seconds: float) -> Lock | None:
    try:
        descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR | getattr(os, "O_CLOEXEC", 0), 0o644)
    except FileExistsError:
        return None
    started, since = _start_of(os.getpid()) or "", datetime.now(UTC).isoformat(timespec="seconds")
    ours = Holder(socket.gethostname(), _machine(), os.getpid(), started, secrets.token_hex(16), since)
    try:
        os.write(descriptor, json.dumps(asdict(ours)).encode())
    except OSError:
        os.close(descriptor)
        with contextlib.suppress(OSError):
            path.unlink()
        raise
    return Lock(path, ours, descriptor, beat_seconds)


def _look(path: Path) -> _Seen | None:
    try:
        with path.open("rb") as stream:
            text = stream.read(4096)
            status = os.fstat(stream.fileno())
    except FileNotFoundError:
        return None
    try:
        found = Holder(**json.loads(text))
    except (ValueError, TypeError):
        found = None
    return _Seen(found, text, status.st_ino, status.st_mtime_ns)


def _is_stale(path: Path, seen: _Seen, stale_seconds: float) -> bool:
    alive = None if seen.holder is None else _is_alive(seen.holder)
    if alive is not None:
        return not alive
    return _file_system_now(path) - seen.touched > stale_seconds * 1e9


def _take_aside(path: Path, seen: _Seen) -> bool:
    """Remove the lock file that was seen and judged, and no other."""
    aside = path.with_name(f"{path.name}{_ASIDE_INFIX}{secrets.token_hex(4)}")
    try:
        path.rename(aside)
    except FileNotFoundError:
        return True
    if _look(aside) == seen:
        aside.unlink()
        return True
    # Not the one that was judged: put it back, unless yet another process has made its own by now (link,
    # unlike rename, never replaces). Whoever is left out learns it from held().
    try:
        os.link(aside, path)
        aside.unlink()
    except FileExistsError:
        aside.unlink()
    except OSError:  # a file system without hard links
        aside.rename(path)
    return False


def _file_system_now(path: Path) -> int:
    """The time at which the file system stamps a file now, in nanoseconds."""
    probe = path.with_name(f"{path.name}{_PROBE_INFIX}{secrets.token_hex(4)}")
    try:
        probe.write_bytes(b"")
        return probe.stat().st_mtime_ns
    finally:
        with contextlib.suppress(OSError):
            probe.unlink()


def _machine() -> str:
    """One boot of one kernel, seen from one pid namespace: within it, process numbers mean the same."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot} {Path('/proc/self/ns/pid').readlink()}"
    except OSError:
        return ""


def _is_alive(holder: Holder) -> bool | None:
    """Whether the holder lives; None where this machine cannot know."""
    if holder.host != socket.gethostname() or holder.machine != _machine():
        return None
    start = _start_of(holder.pid)
    if start is not None:
        return start == holder.start
    try:
        os.kill(holder.pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return None  # there is such a process, but /proc hides other users' from us
    # It exists. Without /proc that is all there is to know; with it, it is a dead child not yet waited for.
    return not Path("/proc/self/stat").exists()


def _start_of(pid: int) -> str | None:
    """When the living process with this number started, in ticks since boot; None if /proc shows none."""
    try:
        # The second field, the command's name in brackets, may hold anything: read from its last bracket.
        state, *fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (OSError, ValueError):
        return None
    return None if state in "ZX" else fields[18]
