"""Reads and writes of an open file at a position, by any thread.

Where the system has no such calls (Windows), a thread moves the file's position and reads or writes there, one thread
at a time.
"""

import os
import threading
from pathlib import Path

_OPENED = getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)  # Windows would otherwise change line ends
_LARGEST = 1 << 30  # one call of read or write takes at most 2 GiB
_moving = threading.Lock()


def open_to_read(file: Path) -> int:
    """A descriptor for reading the bytes of a file."""
    return os.open(file, os.O_RDONLY | _OPENED)


def open_to_write(file: Path, *, new: bool = True) -> int:
    """A descriptor for writing the bytes of a file. `new`: the file must not exist; otherwise it must."""
    return os.open(file, os.O_WRONLY | _OPENED | (os.O_CREAT | os.O_EXCL if new else 0), 0o644)


def read_at(descriptor: int, view: memoryview, position: int) -> int:
    """Read bytes at `position` into `view`, as many as the system gives at once; returns their number, 0 at the end."""
    view = view[:_LARGEST]
    if hasattr(os, "preadv"):
        return os.preadv(descriptor, [view], position)
    with _moving:
        os.lseek(descriptor, position, os.SEEK_SET)
        got = os.read(descriptor, len(view))
    view[: len(got)] = got
    return len(got)


def write_at(descriptor: int, view: memoryview, position: int) -> int:
    """Write bytes at `position`, as many as the system takes at once; returns their number."""
    view = view[:_LARGEST]
    if hasattr(os, "pwrite"):
        return os.pwrite(descriptor, view, position)
    with _moving:
        os.lseek(descriptor, position, os.SEEK_SET)
        return os.write(descriptor, view)
