"""Claims a folder for one process; the system ends the claim when the process ends, however it ends."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

try:
    import fcntl
except ImportError:  # Windows has none
    fcntl = None


@contextlib.contextmanager
def claimed(folder: Path) -> Iterator[bool]:
    """Within the block, whether this process alone has claimed `folder`, and the folder is still there."""
    if fcntl is None:
        with _claimed_by_file(folder) as ours:
            yield ours
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
            return
        # Another process may just have given the folder its final name.
        yield folder.exists() and folder.stat().st_ino == os.fstat(descriptor).st_ino
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def _claimed_by_file(folder: Path) -> Iterator[bool]:
    """The same by a file beside the folder, where folders cannot be opened and no open file can be renamed."""
    from filelock import FileLock, Timeout

    lock = FileLock(folder.with_name(f"{folder.name}.lock"), blocking=False)
    try:
        lock.acquire()
    except Timeout:
        yield False
        return
    try:
        yield folder.is_dir()
    finally:
        lock.release()
        with contextlib.suppress(OSError):  # another process has opened it by now
            Path(lock.lock_file).unlink()
