"""A lock that keeps two processes from building one cell, on one machine or on a folder that several machines share.

A lock is a file created with O_EXCL that names its holder; a thread of the holder touches it regularly. For a holder on
the *same machine*, the kernel tells whether the process lives (by process number and start time, since numbers are
reused). That is certain: a busy process never loses its lock, and a killed one blocks nobody. For a holder on another
machine only the file's age counts, measured by the file system's clock, since the clocks of machines differ.

A stale lock is taken over by renaming it and checking the renamed file. If another process was faster and it is a
different lock, it is put back. A narrow race remains, so the holder calls `held()` before it publishes: only the
process named by the token in the file may.

A holder that is only judged by the file's age may be asleep, and wake up. So the lock that is taken over from it is
`contested`, and `work` sees to it that the two never write into one folder.
"""

from __future__ import annotations

import contextlib
import errno
import json
import logging
import os
import secrets
import socket
import stat
import sys
import threading
import time
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType

from mmgrid.machine.processes import lives, number_space, start_of

log = logging.getLogger(__name__)

LOCK_SUFFIX = ".lock"
BEAT_SECONDS = 5.0
STALE_SECONDS = 60.0
_ASIDE_INFIX = ".aside-"
_PROBE_INFIX = ".clock-"


@dataclass(frozen=True)
class Holder:
    """The holder of a lock, and since when (UTC, ISO 8601; empty if the lock does not record it).

    `machine` distinguishes boots and pid namespaces that share a host name.
    """

    host: str
    machine: str
    pid: int
    start: str
    token: str
    since: str = ""

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host}" + (f", since {self.since}" if self.since else "")


class Lock:
    """A lock that this process holds; as a context manager, it is released at the end.

    contested: it was taken over from a holder that may live.
    """

    contested = False

    def __init__(self, path: Path, holder: Holder, descriptor: int, beat_seconds: float) -> None:
        self.path = path
        self.holder = holder
        self._descriptor = descriptor
        self._beat_seconds = beat_seconds
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._beat, name=f"heartbeat {path.name}", daemon=True)
        self._thread.start()

    def held(self) -> bool:
        """Whether the lock is still ours, according to the file."""
        if self._done.is_set() or os.getpid() != self.holder.pid:  # a forked child holds nothing
            return False
        seen = _look(self.path)
        return seen is not None and seen.holder == self.holder

    def release(self) -> None:
        """Release the lock; removes the file only if it is still ours. May be called twice."""
        if self._done.is_set():
            return
        ours = self.held()
        self._done.set()
        self._thread.join()
        os.close(self._descriptor)  # before the file is removed, since Windows removes no open file
        if ours:
            with contextlib.suppress(OSError):
                self.path.unlink()

    def _beat(self) -> None:
        # Touch through the descriptor: if the lock was taken over, this does not keep the new holder's file alive.
        # (Where only paths can be touched, on Windows, an open file cannot be taken over.)
        place = self._descriptor if os.utime in os.supports_fd else self.path
        while not self._done.wait(self._beat_seconds):
            with contextlib.suppress(OSError):
                os.utime(place)

    def __enter__(self) -> Lock:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()


def try_lock(path: Path, *, beat_seconds: float = BEAT_SECONDS, stale_seconds: float = STALE_SECONDS) -> Lock | None:
    """Take the lock at `path` (its folder exists); None if a living process holds it. Never waits.

    Raises:
        OSError: the folder cannot be written.
    """
    lock = _create(path, beat_seconds)
    if lock is not None:
        return lock
    seen, certain = _look(path), True
    if seen is not None:
        if not _is_stale(path, seen, stale_seconds):
            _age_from_now(path, seen, stale_seconds)
            return None
        if not _take_aside(path, seen):
            return None
        certain = seen.holder is not None and _is_alive(seen.holder) is not None
        why = "is gone" if certain else f"was silent for more than {stale_seconds:.0f} s"
        level = logging.INFO if certain else logging.WARNING  # every run that follows a stopped one finds such locks
        log.log(level, "%s: taken over from %s, which %s", path, seen.holder or "a process that left no name", why)
    lock = _create(path, beat_seconds)
    if lock is not None:
        lock.contested = not certain
    return lock


def is_live(path: Path) -> bool:
    """Whether a living process holds the lock at `path`."""
    seen = _look(path)
    return seen is not None and not _is_stale(path, seen, STALE_SECONDS)


def holder(path: Path) -> Holder | None:
    """The holder recorded at `path`, living or not; None if the file is missing or names none."""
    seen = _look(path)
    return None if seen is None else seen.holder


def is_debris(path: Path) -> bool:
    """Whether `path` is left over from a process that was killed while it took over a lock."""
    return f"{LOCK_SUFFIX}{_ASIDE_INFIX}" in path.name or f"{LOCK_SUFFIX}{_PROBE_INFIX}" in path.name


@dataclass(frozen=True)
class _Seen:
    """A lock file at one moment. `holder` is None if the text is incomplete (cut off by a crash)."""

    holder: Holder | None
    text: bytes
    inode: int
    touched: int


def _create(path: Path, beat_seconds: float) -> Lock | None:
    try:
        descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR | getattr(os, "O_CLOEXEC", 0), 0o644)
    except FileExistsError:
        return None
    started, since = start_of(os.getpid()) or "", datetime.now(UTC).isoformat(timespec="seconds")
    ours = Holder(socket.gethostname(), number_space(), os.getpid(), started, secrets.token_hex(16), since)
    try:
        os.write(descriptor, json.dumps(asdict(ours)).encode())
        return Lock(path, ours, descriptor, beat_seconds)
    except (OSError, RuntimeError):  # a full disk; or no more threads, for the heartbeat
        os.close(descriptor)
        with contextlib.suppress(OSError):
            path.unlink()
        raise


def _look(path: Path) -> _Seen | None:
    try:
        status = path.lstat()
        if not stat.S_ISREG(status.st_mode):  # a folder, link or pipe: nobody's lock, and not to be opened
            return _Seen(None, b"", status.st_ino, status.st_mtime_ns)
        with path.open("rb") as stream:
            text = stream.read(4096)
            status = os.fstat(stream.fileno())
    except FileNotFoundError:
        return None
    return _Seen(_named(text), text, status.st_ino, status.st_mtime_ns)


def _named(text: bytes) -> Holder | None:
    """The holder that a lock names; None for a text that names none."""
    try:
        found = Holder(**json.loads(text))
    except (ValueError, TypeError, RecursionError):
        return None
    texts = (found.host, found.machine, found.start, found.token, found.since)
    right = all(isinstance(value, str) for value in texts) and type(found.pid) is int and 0 < found.pid < 1 << 31
    return found if right else None


def _is_stale(path: Path, seen: _Seen, stale_seconds: float) -> bool:
    alive = None if seen.holder is None else _is_alive(seen.holder)
    if alive is not None:
        return not alive
    return _file_system_now(path) - seen.touched > stale_seconds * 1e9


def _age_from_now(path: Path, seen: _Seen, stale_seconds: float) -> None:
    """Let a lock that was touched by a clock which was wrong, and lies in the future, age like any other."""
    if seen.touched - _file_system_now(path) > stale_seconds * 1e9:
        with contextlib.suppress(OSError, NotImplementedError):
            os.utime(path, follow_symlinks=False)


def _take_aside(path: Path, seen: _Seen) -> bool:
    """Remove the lock file that was judged stale, and no other; returns whether it is gone."""
    aside = path.with_name(f"{path.name}{_ASIDE_INFIX}{secrets.token_hex(4)}")
    try:
        path.rename(aside)
    except FileNotFoundError:
        return True
    except PermissionError:
        if sys.platform != "win32":
            raise
        return False  # its holder has it open, so it lives
    if _look(aside) == seen:
        with contextlib.suppress(OSError):  # a folder stays, among the leftovers
            aside.unlink()
        return True
    # A different lock: put it back, unless yet another process has created one by now (link, unlike rename, never
    # replaces). The process that loses finds out through held().
    try:
        os.link(aside, path)
        aside.unlink()
    except FileExistsError:
        aside.unlink()
    except OSError:  # a file system without hard links
        aside.replace(path)
    return False


def _file_system_now(path: Path) -> int:
    """The present time by the file system's clock, in nanoseconds; 0, by which no lock is old, if it does not say."""
    probe = path.with_name(f"{path.name}{_PROBE_INFIX}{secrets.token_hex(4)}")
    try:
        probe.write_bytes(b"")
        return probe.stat().st_mtime_ns
    except OSError as error:
        # Nobody takes over a lock in a folder that may not be written, so this machine's clock is good enough there.
        return time.time_ns() if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS) else 0
    finally:
        with contextlib.suppress(OSError):
            probe.unlink()


def _is_alive(holder: Holder) -> bool | None:
    """Whether the holder lives; None if this machine cannot know."""
    if holder.host != socket.gethostname() or holder.machine != number_space():
        return None
    return lives(holder.pid, holder.start)
